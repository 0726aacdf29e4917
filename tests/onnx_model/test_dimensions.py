"""Dimensions: which names are formulas of others, and the sizes that follow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from ampgraph.onnx_model.dimensions import completed, formulas_among
from ampgraph.onnx_model.fuse.elsewhere import elsewhere, probes, tried_sizes, varied_sizes
from ampgraph.onnx_model.run import open_session
from ampgraph.onnx_model.sizes import candidates, fitting_inputs
from ampgraph.onnx_model.types import modelled_inputs
from tests.models import parse

FORMULAS = ("past + tokens", "past+1", "2*past", "past*2 - 1", "past // 2", "max(past, tokens)", "(past + 1) * tokens")
NO_FORMULAS = ("batch", "12", "past + other", "past - length", "past tokens +", "?", "1 + 1", "open(past)")


@pytest.mark.parametrize("name", FORMULAS)
def test_names_that_are_formulas(name: str) -> None:
    assert formulas_among(("past", "tokens", name)) == {name: name}


@pytest.mark.parametrize("name", NO_FORMULAS)
def test_names_that_are_none(name: str) -> None:
    assert formulas_among(("past", "tokens", name)) == {}


def test_a_formula_of_formulas_stays_free() -> None:
    """None of those that exporters write is one."""
    assert set(formulas_among(("a", "b", "a + b", "a + b + 1", "c + 1"))) == {"a + b", "a + b + 1"}


def test_the_total_of_what_is_past_and_what_is_new() -> None:
    names = ("sequence_length", "past_sequence_length", "total_sequence_length", "total_words")
    assert formulas_among(names) == {"total_sequence_length": "past_sequence_length + sequence_length"}
    assert formulas_among(names[1:]) == {}


@given(st.integers(-9, 9), st.integers(-3, 3), st.integers(-9, 9), st.integers(1, 50), st.integers(1, 50))
def test_a_formula_is_what_python_says_of_it(one: int, two: int, number: int, a: int, b: int) -> None:
    """But no size is 0 or less."""
    text = f"{one}*a + {two}*b + {number}".replace("+ -", "- ")
    size = one * a + two * b + number
    assert completed({"a": a, "b": b}, {text: text}).get(text) == (size if size > 0 else None)


def test_what_misses_a_symbol_is_left_out() -> None:
    assert completed({"a": 2}, {"a + b": "a + b", "a + 1": "a + 1"}) == {"a": 2, "a + 1": 3}


def cached() -> ModelProto:
    """A mask over the tokens of a cache and the new ones."""
    return parse("""g (float[batch,"past + tokens"] mask, float[batch,tokens] new, float[batch,past] old)
        => (float[batch,"past + tokens"] y) { all = Concat<axis = 1>(old, new)  y = Add(all, mask) }""")


def test_modelled_sizes_follow_whatever_order_inputs_are_in() -> None:
    assert modelled_inputs(cached(), {}) == {"mask": (1, 256), "new": (1, 128), "old": (1, 128)}
    assert modelled_inputs(cached(), {"new": (4, 1), "old": (4, 7)})["mask"] == (4, 8)
    assert modelled_inputs(cached(), {"mask": (4, 9)})["mask"] == (4, 9)
    feeds, answers = fitting_inputs(cached(), open_session(cached()), {})
    assert feeds["mask"].shape == answers["y"].shape == (1, 256)


def test_other_sizes_follow_too() -> None:
    model = cached()
    start = dict(modelled_inputs(model, {"new": (4, 1), "old": (4, 7)}))
    others = [varied_sizes(model, start), tried_sizes(model, start), *probes(model, start), *candidates(model, {})]
    elsewhere(model, start, lambda sizes: others.append(dict(sizes)) or 0, lambda _: 0, 1)
    assert len(others) > 10
    assert all(sizes["mask"][1] == sizes["new"][1] + sizes["old"][1] for sizes in others)
    assert {sizes["new"][1] for sizes in others} >= {1, 2, 512}
