"""Every choice says why, in figures or in the verdict's words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ampgraph.judgement import Cause
from ampgraph.reasons import find_reasons, format_amount
from tests.random_graphs import DENIED, FORCED, Problem
from tests.test_decide import star, with_verdicts


def reasons(problem: Problem, *low: str) -> dict[str, tuple[object, str]]:
    found = find_reasons(problem.graph, problem.judgement, problem.costs, frozenset(low))
    return {id: (reason.cause, reason.why) for id, reason in found.items()}


def test_figures_of_what_the_price_decided() -> None:
    problem = star(2, up=5, down=12)
    assert reasons(problem, "c0:T", "c1:T")["c1:T"] == (None, "12 points against 22 points in float32, casts included")
    assert reasons(problem)["c1:T"] == (
        None,
        "float16 would take 12 points against 10 points in float32, casts included",
    )


def test_equal_prices_gain_nothing() -> None:
    found = reasons(star(1, up=0, down=10))
    assert found["c0:T"] == (None, "float16 would gain nothing: 10 points either way, casts included")


def test_a_choice_that_the_price_speaks_against_is_the_users() -> None:
    found = reasons(star(1, up=0, down=30), "c0:T")
    assert found["c0:T"] == (Cause.USER, "set in the plan; float16 30 points, float32 10 points, casts included")


def test_bound_decisions_move_together() -> None:
    problem = star(2, up=0, down=15)
    bound = replace(problem, judgement=replace(problem.judgement, ties=(("c0:T", "c1:T"),)))
    why = "15 points against 20 points in float32, casts and 1 bound with it included"
    assert reasons(bound, "c0:T", "c1:T")["c0:T"] == (None, why)


def test_verdicts_speak_for_themselves_and_for_what_they_bind() -> None:
    problem = with_verdicts(star(3, up=0, down=0), c0=FORCED)
    bound = replace(problem, judgement=replace(problem.judgement, implications=(("c1:T", "p:T"), ("c0:T", "c2:T"))))
    found = reasons(bound, "c0:T", "c2:T")
    assert found["p:T"] == (Cause.RULE, DENIED.why)
    assert found["c1:T"] == (Cause.RULE, f"bound to p:T: {DENIED.why}")
    assert found["c0:T"] == (Cause.USER, FORCED.why)
    assert found["c2:T"] == (Cause.USER, f"bound to c0:T: {FORCED.why}")


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (12_140_000, "picoseconds", "12.14 us"),
        (1_250_000_000, "picoseconds", "1.25 ms"),
        (900, "picoseconds", "900 ps"),
        (0, "picoseconds", "0 picoseconds"),
        (3 << 20, "bytes", "3 MiB"),
        (12, "bytes", "12 bytes"),
        (7, "points", "7 points"),
    ],
)
def test_amounts_read_well(amount: int, unit: str, text: str) -> None:
    assert format_amount(amount, unit) == text
