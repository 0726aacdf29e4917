"""The panel of a comparison: what was compared, on what, and what was lost."""

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.synthetic_documents import comparison, transformer

MODEL = transformer(80)
Opener = Any  # opens the page of a document


def fact(page: Any, panel: str, name: str) -> str:
    """What a panel says beside a word."""
    return str(page.locator(f"{panel} dt", has_text=name).locator("xpath=following-sibling::dd[1]").inner_text())


@pytest.mark.parametrize(
    ("inputs", "said"),
    [("generated", "generated"), ("given", "given"), ("<b>feeds</b>.npz", "of <b>feeds</b>.npz")],
)
def test_the_panel_says_what_inputs_and_shapes_models_were_compared_on(show: Opener, inputs: str, said: str) -> None:
    shapes = {"ids": (2, 384), "<i>n</i>": ()}
    page = show(MODEL, replace(comparison(MODEL), inputs=inputs, shapes=shapes))
    assert fact(page, "#panel", "inputs") == said
    times = "\N{MULTIPLICATION SIGN}"
    assert fact(page, "#panel", "shapes").split() == [f"ids=2{times}384", "<i>n</i>=scalar"]


def test_a_comparison_without_shapes_says_nothing_of_them(show: Opener) -> None:
    page = show(MODEL, replace(comparison(MODEL), shapes={}))
    assert page.locator("#panel dt", has_text="shapes").count() == 0


def test_the_panel_says_what_was_not_compared(show: Opener) -> None:
    note = "3 values are in branches that these inputs do not take"
    page = show(MODEL, replace(comparison(MODEL), notes=(note,)))
    assert page.locator("#panel .note").inner_text() == note


def test_what_a_node_s_value_lost_is_told_with_its_place(show: Opener) -> None:
    made = comparison(MODEL)
    first = replace(made.values[0], flushed=2, flushed_at=(0, 7), clamped=5)
    page = show(MODEL, replace(made, values=(first, *made.values[1:])), f"#n={first.node}")
    assert fact(page, "#details", "flushed").endswith("first at [0, 7]")
    assert fact(page, "#details", "clamped").startswith("5 of ")
