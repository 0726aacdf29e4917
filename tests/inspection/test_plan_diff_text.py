"""The report of two plans: what, why and where, at 80 columns."""

from ampgraph.inspection.plan_diff import difference
from ampgraph.inspection.plan_diff_text import to_text
from ampgraph.inspection.recorded_plan import Line
from ampgraph.placement import Cast
from ampgraph.precision import Precision
from tests.inspection.test_plan_diff import APART, LOW, RULE, TOGETHER, recorded


def test_it_says_what_changed_and_why() -> None:
    lines = {**recorded().decisions, "a:T": RULE, "c:T": Line("float32", "user", "--keep")}
    other = recorded(
        "b.json", decisions=lines, objective="memory", casts=frozenset({Cast("b", Precision.FLOAT32, "")}),
        parameters={"w": ("float32", "float16")}, cost=3_000_000,
    )  # fmt: skip
    text = to_text(difference(recorded(), other))
    for said in (
        "b.json against a.json",
        "objective: speed -> memory",
        "modelled price: 2 us -> 3 us",
        "1 of 4 decisions that both have changed precision",
        "float16 -> float32, cost -> rule mean-of-squares: 1 node: a\n",
        "    before: 1 us against 2 us\n    now: squares vanish",
        "casts removed: 1 to float16: x to float16",
        "casts added: 1 to float32: b to float32",
        "parameters float16 -> float32 and float16: 1: w",
        "still float32, rule mean-of-squares -> user: 1 node: c\n    now: --keep",
        "the plans differ",
    ):
        assert said in text, said


def test_the_same_is_said_in_a_line() -> None:
    text = to_text(difference(recorded(), recorded("b.json")))
    assert text.splitlines()[-1] == "both come to the same model"
    assert "casts" not in text


def test_many_groups_and_long_names_keep_to_80_columns() -> None:
    before = {f"{'n' * 200}/{index}:T": LOW for index in range(50)}
    after = {id: Line("float32", "rule", "why " * 60, f"rule {index % 20}") for index, id in enumerate(before)}
    found = difference(recorded(decisions=before), recorded("b" * 300, decisions=after))
    text = to_text(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "groups (--json has them)" in text
    assert str(found) == text


def test_a_single_decision_is_no_plural() -> None:
    before = {"a:T": Line("float16", "cost", "1 us against 2 us")}
    after = {"a:T": Line("float16", "cost", "1 us against 3 us")}
    text = to_text(difference(recorded(decisions=before), recorded("b.json", decisions=after)))
    assert "1 decision is the same for the same reason, with other figures" in text


def test_what_fusing_changed_is_told_apart() -> None:
    text = to_text(difference(APART, TOGETHER))
    for said in (
        "fused: none -> 1 K",
        "0 of 1 decisions that both have changed precision\n1 of 3 decisions of nodes that are fused in one of them",
        "by fusing, float32 -> float16, rule mean-of-squares -> cost, in 1 my.K of b.json\n(k): 1 node: c\n",
        "    before: squares vanish\n    now: 1 us against 2 us",
        "fused and still float16, in 1 my.K of b.json (k): 2 nodes: a, b",
        "only in b.json: 1 node: d",
    ):
        assert said in text, said
    assert "only in a.json" not in text
    assert "in 1 my.K of b.json" in to_text(difference(TOGETHER, APART))
