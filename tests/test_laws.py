"""Each law catches a plan that breaks it, and nothing else would."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from ampgraph import laws
from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.errors import PlanError
from ampgraph.graph import Constant, PrecisionGraph, Scope, Use, Value
from ampgraph.judgement import Judgement
from ampgraph.laws import verify, violations
from ampgraph.plan import Cast, Choice, Plan, make_plan
from ampgraph.precision import Precision
from tests.clock import fresh_heap
from tests.random_graphs import (
    BFLOAT16,
    DENIED,
    FIXED,
    FLOAT16,
    FLOAT32,
    FORCED,
    FREE,
    Problem,
    decision,
    long_chain,
)

IDS = ("input:x", "a:T", "b:T", "c:T", "d:T", "e:T", "third:T", "output:y")
DENIALS = dict.fromkeys(("input:x", "d:T", "output:y"), DENIED)
VERDICTS = dict.fromkeys(IDS, FREE) | DENIALS | {"e:T": FORCED, "third:T": FIXED}


def example() -> Problem:
    """x -> a -> (b in a loop, c, d, y), a weight that a and d share, e on its own, and a bfloat16 op."""
    decisions = {id: decision(id, kind=id.split(":")[0] if "put" in id else "op") for id in IDS}
    decisions["third:T"] = decision("third:T", BFLOAT16)
    made = {"x": "input:x", "va": "a:T", "vb": "b:T", "vt": "third:T"}
    values = {id: Value(id, id, "loop" if id == "vb" else "", "float32", producer=key) for id, key in made.items()}
    values["w"] = Value("w", "w", "", "float32", constant=Constant(1, 1.0, 1.0, 1.0))
    taken = [("x", "a", ""), ("va", "b", "loop"), ("va", "c", ""), ("va", "d", ""), ("w", "a", ""), ("w", "d", "")]
    uses = [Use(value, f"{op}:T", op, slot, scope) for slot, (value, op, scope) in enumerate(taken)]
    uses += Use("va", "output:y", "", 0, ""), Use("vt", "third:T", "third", 0, "")
    scopes = {"": Scope("", None, "", 1.0), "loop": Scope("loop", "", "b", 8.0)}
    graph = PrecisionGraph("onnx", {"": 21}, scopes, values, {}, decisions, tuple(uses))
    costs = Costs("points", dict.fromkeys(IDS, 10), {}, {"x": 1, "va": 1}, {"x": 2, "va": 2}, {"w": 4}, {"w": 2})
    return Problem(graph, Judgement(FLOAT16, VERDICTS), costs)


LOW = frozenset({"a:T", "b:T", "c:T", "e:T"})
EXAMPLE = example()


def planned(low: Collection[str] = LOW, objective: str = "coverage", judgement: Judgement = EXAMPLE.judgement) -> Plan:
    return make_plan(EXAMPLE.graph, judgement, EXAMPLE.costs, low, objective)


def judged(**changes: object) -> Judgement:
    return replace(EXAMPLE.judgement, **changes)  # type: ignore[arg-type]


def broken(plan: Plan, judgement: Judgement = EXAMPLE.judgement) -> tuple[str, ...]:
    return violations(EXAMPLE.graph, judgement, plan, EXAMPLE.costs)


def choosing(id: str, precision: Precision) -> Plan:
    plan = planned()
    return replace(plan, choices={**plan.choices, id: Choice(precision, None, "")})


def casting(*more: Cast) -> Plan:
    plan = planned()
    return replace(plan, casts=(*plan.casts, *more))


Break = tuple[Judgement, Plan, str]
JUDGED = EXAMPLE.judgement
LEGAL_INPUT = judged(verdicts={**VERDICTS, "input:x": FREE})
BREAKS: list[tuple[str, Break]] = [
    ("fixed_stay", (JUDGED, choosing("third:T", FLOAT32), "third:T: is bfloat16 and cannot become float32")),
    ("fixed_stay", (JUDGED, choosing("a:T", BFLOAT16), "a:T: is float32 and cannot become bfloat16")),
    ("forbidden_stay", (JUDGED, planned(LOW | {"d:T"}), "d:T: is float16 and may not be: loses precision")),
    ("forced_are_low", (JUDGED, planned(LOW - {"e:T"}), "e:T: is not float16, which is asked for")),
    ("interface_stays", (LEGAL_INPUT, planned(LOW | {"input:x"}), "input:x: changes its type to float16")),
    ("ties_hold", (judged(ties=(("a:T", "d:T"),)), planned(), "a:T: is tied to d:T and has another precision")),
    (
        "implications_hold",
        (judged(implications=(("b:T", "d:T"),)), planned(), "b:T: is float16 and requires d:T to be"),
    ),
    ("uses_are_served", (JUDGED, replace(planned(), casts=planned().casts[1:]), "va: is taken as float32 by d:T")),
    ("casts_are_sound", (JUDGED, casting(Cast("w", FLOAT16, "")), "w: is cast and is no tensor")),
    ("casts_are_sound", (JUDGED, casting(Cast("va", FLOAT16, "")), "va: is cast to float16 for nothing")),
    ("casts_are_sound", (JUDGED, casting(Cast("va", BFLOAT16, "")), "va: is cast to bfloat16 for nothing")),
    ("casts_are_sound", (JUDGED, casting(Cast("vt", FLOAT16, "")), "vt: is cast to float16 for nothing")),
    (
        "casts_are_sound",
        (JUDGED, casting(Cast("vb", FLOAT32, "")), "vb: is cast in the main graph, where it is not seen"),
    ),
    ("casts_are_needed", (JUDGED, casting(planned().casts[0]), "va: is cast to float32 twice in the main graph")),
    ("casts_are_needed", (JUDGED, casting(Cast("vb", FLOAT32, "loop")), "vb: is cast to float32 in loop for no use")),
    (
        "parameters_match",
        (JUDGED, replace(planned(), parameters={}), "w: is kept in no precision, and taken in float16 and"),
    ),
    (
        "parameters_match",
        (
            JUDGED,
            replace(planned(), parameters={"w": (FLOAT32,)}),
            "w: is kept in float32, and taken in float16 and float32",
        ),
    ),
    (
        "parameters_match",
        (
            JUDGED,
            replace(planned(), parameters={**planned().parameters, "x": (FLOAT16,)}),
            "x: is kept in float16, and",
        ),
    ),
    ("price_is_true", (JUDGED, replace(planned(), cost=3), "plan: states a cost of 3, which is")),
    ("price_is_true", (JUDGED, replace(planned(), baseline=3), "plan: states a baseline of 3, which is")),
]


@pytest.mark.parametrize(("law", "case"), BREAKS, ids=[law for law, _ in BREAKS])
def test_the_law_and_no_other_catches_it(law: str, case: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    judgement, plan, message = case
    assert any(line.startswith(message) for line in broken(plan, judgement))
    monkeypatch.setattr(laws, "LAWS", tuple(each for each in laws.LAWS if each.__name__ != law))
    assert not any(line.startswith(message) for line in broken(plan, judgement))


def test_every_law_has_a_broken_plan() -> None:
    assert {law for law, _ in BREAKS} | {"price_is_not_above_source"} == {law.__name__ for law in laws.LAWS}


def test_the_example_is_lawful() -> None:
    assert broken(planned()) == ()
    assert planned().casts == (Cast("va", FLOAT32, ""), Cast("x", FLOAT16, ""))


def test_an_outer_cast_makes_an_inner_one_idle() -> None:
    plan = planned(frozenset({"a:T", "e:T"}))
    assert Cast("va", FLOAT32, "") in plan.casts
    again = replace(plan, casts=(*plan.casts, Cast("va", FLOAT32, "loop")))
    assert "va: is cast to float32 in loop again" in broken(again)


@pytest.mark.parametrize("objective", ["speed", "memory"])
def test_no_plan_is_dearer_than_the_source(objective: str) -> None:
    dear = replace(EXAMPLE.costs, down={"x": 1, "va": 1}, up={"x": 2, "va": 200})
    plan = make_plan(EXAMPLE.graph, JUDGED, dear, frozenset({"a:T", "e:T"}), objective)
    (line,) = violations(EXAMPLE.graph, JUDGED, plan, dear)
    assert line == "plan: costs 267 points, above the 74 of converting nothing unasked"
    assert violations(EXAMPLE.graph, JUDGED, replace(plan, objective="coverage"), dear) == ()


def test_what_the_user_forces_may_be_dearer() -> None:
    slow = replace(EXAMPLE.costs, low={"e:T": 1000})
    plan = make_plan(EXAMPLE.graph, JUDGED, slow, frozenset({"e:T"}), "speed")
    assert plan.cost > plan.baseline
    assert violations(EXAMPLE.graph, JUDGED, plan, slow) == ()


INCOMPLETE: dict[str, Callable[[Plan], Plan]] = {
    "a:T: has no choice": lambda plan: replace(plan, choices={k: v for k, v in plan.choices.items() if k != "a:T"}),
    "z:T: is chosen but is no decision": lambda plan: replace(
        plan, choices={**plan.choices, "z:T": plan.choices["a:T"]}
    ),
    "q: is a parameter of no constant": lambda plan: replace(plan, parameters={"q": (FLOAT16,)}),
    "va: is cast in nowhere, but one of the two": lambda plan: replace(plan, casts=(Cast("va", FLOAT32, "nowhere"),)),
    "q: is cast in the main graph, but one": lambda plan: replace(plan, casts=(Cast("q", FLOAT32, ""),)),
    "plan: is for bfloat16, judged for float16": lambda plan: replace(plan, precision=BFLOAT16),
}


@pytest.mark.parametrize("message", INCOMPLETE)
def test_plans_of_another_graph_are_refused(message: str) -> None:
    (line,) = broken(INCOMPLETE[message](planned()))
    assert line.startswith(message)


def test_verify_raises_for_the_first_and_accepts_the_lawful() -> None:
    verify(EXAMPLE.graph, JUDGED, planned(), EXAMPLE.costs)
    with pytest.raises(PlanError, match=r"^d:T: is float16 and may not be: loses precision; .*undo the edit"):
        verify(EXAMPLE.graph, JUDGED, planned(LOW | {"d:T"}), EXAMPLE.costs)


def test_without_costs_the_other_laws_still_hold() -> None:
    assert violations(EXAMPLE.graph, JUDGED, replace(planned(), cost=3)) == ()
    assert violations(EXAMPLE.graph, JUDGED, planned(LOW - {"e:T"})) != ()


def test_plans_and_laws_take_linear_time() -> None:
    seconds = []
    for size in (4_000, 20_000):
        problem = long_chain(size)
        with fresh_heap():
            start = time.process_time()
            low = decide(problem.graph, problem.judgement, problem.costs)
            plan = make_plan(problem.graph, problem.judgement, problem.costs, low, "speed")
            assert violations(problem.graph, problem.judgement, plan, problem.costs) == ()
            seconds.append(time.process_time() - start)
    assert seconds[1] < 5 * 2 * seconds[0] + 0.5
