"""Plan files are read for looking at, without their model; what is none is refused in one line."""

from dataclasses import replace

import pytest

from ampgraph.errors import PlanError
from ampgraph.inspection.recorded_plan import of_plan, read_plan
from ampgraph.plan import Replacement, to_json
from tests.models import W, convert, parse

PLAN = convert(parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) y = Exp(h) }}")).plan


def test_a_file_says_what_the_plan_does() -> None:
    found = read_plan(to_json(PLAN), "p")
    assert found == of_plan(PLAN, "p")
    assert found.decisions["MatMul#0:T"].precision == "float16"
    assert found.cost == PLAN.cost
    assert len(found.casts) == 2


def test_fused_nodes_are_read_with_what_they_stand_for() -> None:
    plan = replace(PLAN, fused="1 K", replaced={"MatMul#0": Replacement("my.K", ("a", "b"))})
    assert read_plan(to_json(plan), "p") == of_plan(plan, "p")
    assert "replaced" not in to_json(PLAN)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "p, line 1: is not JSON"),
        ("[1]", "p: is not a plan"),
        ("{}", "p: is not a plan"),
        ("[" * 100_000, "p: is no plan that can be read"),
        ('{"format": 9, "decisions": {}}', "p: is of plan format 9, not 1"),
        ('{"format": 1, "decisions": []}', "something else where a decision should be"),
        ('{"format": 1, "decisions": {"a": {"precision": "int3"}}}', "something else where a decision should be"),
        ('{"format": 1, "decisions": {"a": 3}}', "something else where a decision should be"),
        (
            '{"format": 1, "decisions": {}, "replaced": {"k": {"type": "K"}}}',
            "something else where a decision should be",
        ),
        ('{"format": 1, "decisions": {}, "casts": [{}]}', "something else where a decision should be"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, said: str) -> None:
    with pytest.raises(PlanError) as found:
        read_plan(text, "p")
    assert said in str(found.value)
    assert "\n" not in str(found.value)
