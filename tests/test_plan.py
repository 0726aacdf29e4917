"""Plans: what follows from the low decisions, and the file a user may edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings

from ampgraph.decide import decide
from ampgraph.errors import PlanError
from ampgraph.laws import violations
from ampgraph.plan import Cast, Plan, assignment_cost, from_json, make_plan, source_of, to_json
from tests.random_graphs import BFLOAT16, FLOAT16, FLOAT32, Problem, problems, random_problem


def planned(problem: Problem, objective: str = "speed") -> Plan:
    low = decide(problem.graph, problem.judgement, problem.costs)
    return make_plan(problem.graph, problem.judgement, problem.costs, low, objective)


def sample(seed: int = 1, size: int = 30) -> tuple[Problem, Plan]:
    problem = random_problem(Random(seed), size)
    return problem, planned(problem)


@settings(max_examples=150, deadline=None)
@given(problems(most=30))
def test_every_plan_of_a_cut_is_lawful(problem: Problem) -> None:
    assert violations(problem.graph, problem.judgement, planned(problem), problem.costs) == ()


@settings(max_examples=100, deadline=None)
@given(problems(most=30))
def test_every_use_finds_its_source(problem: Problem) -> None:
    plan = planned(problem)
    for use in problem.graph.uses:
        producer = problem.graph.values[use.value].producer
        cast, wanted = source_of(plan, problem.graph, use), plan.choices[use.decision].precision
        if BFLOAT16 in (wanted, producer and plan.choices[producer].precision):
            continue
        if cast is None:
            assert not producer or plan.choices[producer].precision is wanted
        else:
            assert cast in plan.casts
            assert cast.to is wanted


@settings(max_examples=100, deadline=None)
@given(problems(most=30))
def test_a_saved_plan_gives_the_same_plan(problem: Problem) -> None:
    plan = planned(problem)
    low = from_json(to_json(plan), "plan.json", problem.graph, problem.judgement)
    assert make_plan(problem.graph, problem.judgement, problem.costs, low, "speed") == plan


def test_parameters_are_kept_once_for_each_precision_that_is_taken() -> None:
    problem, plan = sample(4, 60)
    kept = set(plan.parameters.values())
    assert kept == {(FLOAT32,), (FLOAT16,), (FLOAT32, FLOAT16)}
    for id, precisions in plan.parameters.items():
        taken = {plan.choices[use.decision].precision for use in problem.graph.uses_of[id]} - {BFLOAT16}
        assert set(precisions) == taken


def test_baseline_is_the_source() -> None:
    problem, plan = sample()
    source = {id for id, each in problem.graph.decisions.items() if each.present is FLOAT16}
    assert plan.baseline == assignment_cost(problem.graph, source, problem.costs)
    assert plan.cost == assignment_cost(problem.graph, plan.low, problem.costs)


def test_the_file_is_json_with_one_line_a_decision() -> None:
    problem, plan = sample()
    text = to_json(replace(plan, model="abc", options="def"))
    content = json.loads(text)
    assert (content["format"], content["model"], content["options"]) == (1, "abc", "def")
    assert list(content["decisions"]) == list(problem.graph.decisions)
    assert [Cast(*cast.values()) for cast in content["casts"]] == list(plan.casts)
    assert all(sum(f'"{id}": {{' in line for line in text.splitlines()) == 1 for id in problem.graph.decisions)
    assert {record["cause"] for record in content["decisions"].values()} >= {"cost", "rule"}


def test_an_edit_changes_one_line_of_decisions() -> None:
    problem, plan = sample()
    id = next(id for id, choice in plan.choices.items() if choice.cause is None and choice.precision is FLOAT16)
    edited = edit(to_json(plan), id, "float32")
    assert from_json(edited, "plan.json", problem.graph, problem.judgement) == plan.low - {id}


def edit(text: str, id: str, precision: str) -> str:
    """Another precision on the line of a decision."""
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(f'    "{id}":'))
    lines[at] = lines[at].replace('"float16"', f'"{precision}"', 1).replace('"float32"', f'"{precision}"', 1)
    return "\n".join(lines)


def without(text: str, id: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith(f'    "{id}":'))


BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[:900], r"plan.json, line \d+: is not JSON"),
    "empty": (lambda text: "", r"plan.json, line 1: is not JSON"),
    "a list": (lambda text: "[]", "plan.json: is not a plan"),
    "deep": (lambda text: "[" * 100_000, "plan.json: is no plan that can be read"),
    "a long number": (lambda text: "1" * 5000, "plan.json: is no plan that can be read"),
    "another format": (lambda text: text.replace('"format": 1', '"format": 2'), "is of plan format 2, not 1"),
    "no format": (lambda text: "{}", "is of plan format nothing, not 1"),
    "another precision": (
        lambda text: text.replace('"precision": "float16"', '"precision": "bfloat16"', 1),
        "is for precision bfloat16, not float16; give --precision the plan's",
    ),
    "no decisions": (lambda text: text.replace('"decisions"', '"decision"'), "is no plan: it has no decisions"),
    "costs": (lambda text: '{"format": 1, "ops": []}', "plan.json: is no plan"),
    "unknown precision": (
        lambda text: edit(text, "n1:T", "float8"),
        r'line 13, n1:T: has no known precision \("float8"\)',
    ),
    "no precision": (
        lambda text: text.replace('"n1:T": {"precision"', '"n1:T": {"precise"'),
        r"line 13, n1:T: has no known precision \(null\); choose one of float32, float16, bfloat16",
    ),
    "unknown decision": (
        lambda text: text.replace('"n1:T": ', '"nn1:T": '),
        "line 13, nn1:T: no such decision in this model",
    ),
    "missing decision": (lambda text: without(text, "n1:T"), "plan.json: has no line for n1:T"),
    "twice": (lambda text: text.replace('"n2:T"', '"n1:T"'), "line 13, n1:T: is given twice"),
    "the other low precision": (lambda text: edit(text, "n1:T", "bfloat16"), "n1:T: cannot become bfloat16"),
    "an input": (
        lambda text: edit(text, "input:x", "float16"),
        "line 11, input:x: may not be float16: loses precision; set it back to float32",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_line_and_remedy(name: str) -> None:
    problem, plan = sample(size=12)
    change, message = BROKEN[name]
    assert plan.choices["n1:T"].precision is not BFLOAT16
    with pytest.raises(PlanError, match=message) as error:
        from_json(change(to_json(plan)), "plan.json", problem.graph, problem.judgement)
    assert error.value.remedy
    assert "\n" not in str(error.value)


def test_a_plan_of_another_objective_is_refused_where_prices_count() -> None:
    problem, plan = sample()
    text = to_json(replace(plan, objective="memory"))
    for objective in ("memory", "coverage"):
        assert from_json(text, "plan.json", problem.graph, problem.judgement, objective) == plan.low
    with pytest.raises(PlanError, match=r"plan\.json: is for objective memory, not speed; give --objective memory"):
        from_json(text, "plan.json", problem.graph, problem.judgement, "speed")


def test_what_the_source_has_low_cannot_be_raised() -> None:
    problem, plan = sample(size=60)
    id = next(id for id, each in problem.graph.decisions.items() if each.present is FLOAT16)
    with pytest.raises(PlanError, match=f"{id}: cannot become float32; set it back to float16"):
        from_json(edit(to_json(plan), id, "float32"), "plan.json", problem.graph, problem.judgement)
