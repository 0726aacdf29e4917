"""Comparisons and differences of plans as notebooks show them."""

from html.parser import HTMLParser

import pytest

from ampgraph.inspection.plan_diff import difference
from tests.inspection.comparisons import comparison
from tests.inspection.comparisons import difference as value
from tests.inspection.test_plan_diff import APART, LOW, RULE, TOGETHER, recorded

EVIL = '<script>alert(1)</script>"\u202e'


class _Text(HTMLParser):
    """The words of a page, and the tags in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.tags = "", set[str]()
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words += f" {data}"

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


def words(shown: object) -> str:
    return " ".join(_Text(shown._repr_html_()).words.split())  # type: ignore[attr-defined]


def test_a_comparison_shows_its_verdict_its_firsts_and_its_worst() -> None:
    said = words(comparison())
    for part in (
        "b.onnx against a.onnx : outputs are within the tolerance of 0.03",
        "float16 evaluator on the CPU; inputs generated: x=1x3, n=scalar",
        "y 1.00e-03 5.00e-01",
        "beyond the tolerance big Mul make big float16: 1 us against 2 us ampgraph convert a.onnx --keep '^big$'",
        "flush to zero tiny",
        "odd inf inf",
    ):
        assert part in said, part
    fine = comparison(first_beyond="", first_overflow="", first_flush="", worst=(), within=False)
    assert "NOT within" in words(fine)
    assert "worst" not in words(fine)


def test_a_difference_of_plans_shows_what_changed_and_why() -> None:
    lines = {**recorded().decisions, "a:T": RULE, "d:T": LOW}
    said = words(difference(recorded(), recorded("b.json", decisions=lines, objective="memory", cost=3_000_000)))
    for part in (
        "b.json against a.json : the plans differ",
        "objective speed memory",
        "modelled price 2 us 3 us",
        "float16 → float32, cost -> rule mean-of-squares 1 node: a 1 us against 2 us squares vanish",
        "only in the second: float16 1 node: d",
    ):
        assert part in said, part
    assert "both come to the same model" in words(difference(recorded(), recorded("b.json")))
    fused = words(difference(APART, TOGETHER))
    assert "float32 → float16, rule mean-of-squares -> cost, by fusing into my.K 1 node: c" in fused


@pytest.mark.parametrize("name", [EVIL, "n" * 10_000])
def test_names_are_text_in_both(name: str) -> None:
    found = comparison(
        values=(value(name, node=name, overflowed=1, within=False),), outputs=(value(name),), reference=name,
        candidate=name, first_beyond=name, first_overflow=name, first_flush="", worst=(name,), shapes={name: (1,)},
    )  # fmt: skip
    changed = difference(recorded(name, decisions={f"{name}:T": LOW}), recorded("b", decisions={f"{name}:T": RULE}))
    for shown in (found, changed):
        html = shown._repr_html_()
        assert _Text(html).tags <= {"div", "b", "bdi", "table", "thead", "tbody", "tr", "th", "td"}
        assert len(html) < 12_000
