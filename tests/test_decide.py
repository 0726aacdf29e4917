"""The decision against enumeration, networkx, the source as it is and painting."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings

from ampgraph.bounds import find_bounds
from ampgraph.costs import Costs
from ampgraph.cut import HIGH, minimum_cut
from ampgraph.decide import decide
from ampgraph.errors import PlanError
from ampgraph.graph import Decision, PrecisionGraph, Scope, Use, Value
from ampgraph.judgement import Judgement, Verdict
from ampgraph.network import build_network, number_nodes
from ampgraph.painting import paint
from ampgraph.placement import assignment_cost
from ampgraph.plan import untouched
from ampgraph.precision import Precision
from tests.random_graphs import (
    BFLOAT16,
    DENIED,
    FIXED,
    FLOAT16,
    FORCED,
    FREE,
    Problem,
    decision,
    lawful_assignments,
    problems,
    random_problem,
)
from tests.test_cut import flow_value, price_of


def decided(problem: Problem) -> frozenset[str]:
    return decide(problem.graph, problem.judgement, problem.costs)


def priced(problem: Problem, low: frozenset[str]) -> int:
    return assignment_cost(problem.graph, low, problem.costs)


def assert_smallest_of_the_cheapest(problem: Problem) -> None:
    prices = {low: priced(problem, low) for low in lawful_assignments(problem)}
    least = min(prices.values())
    cheapest = [low for low, price in prices.items() if price == least]
    found = decided(problem)
    assert prices[found] == least
    assert all(found <= low for low in cheapest)


@settings(max_examples=400, deadline=None)
@given(problems())
def test_small_graphs_equal_enumeration(problem: Problem) -> None:
    assert_smallest_of_the_cheapest(problem)


@pytest.mark.parametrize("seed", range(40))
def test_graphs_of_up_to_twelve_ops_equal_enumeration(seed: int) -> None:
    random = Random(seed)
    assert_smallest_of_the_cheapest(random_problem(random, random.randint(9, 12), nested=seed % 2 == 0))


def test_prices_beyond_int32_equal_enumeration() -> None:
    random = Random(5)
    for _ in range(60):
        assert_smallest_of_the_cheapest(random_problem(random, 7, largest=1 << 45))


@pytest.mark.parametrize("seed", range(12))
def test_large_graphs_cost_what_networkx_finds(seed: int) -> None:
    problem = random_problem(Random(seed), 150, nested=seed % 2 == 0, largest=100)
    nodes = number_nodes(problem.graph, problem.judgement, find_bounds(problem.graph, problem.judgement))
    net = build_network(problem.graph, problem.judgement, problem.costs, nodes)
    low = minimum_cut(net)
    assert price_of(net, low) == flow_value(net)
    assert {
        id for id, node in zip(problem.graph.decisions, nodes, strict=True) if node > HIGH and low[node]
    } <= decided(problem)


@settings(max_examples=150, deadline=None)
@given(problems(most=40))
def test_never_above_painting_nor_the_source(problem: Problem) -> None:
    price = priced(problem, decided(problem))
    assert price <= priced(problem, paint(problem.graph, problem.judgement))
    assert price <= priced(problem, frozenset(find_bounds(problem.graph, problem.judgement).must))
    if not any(verdict.forced for verdict in problem.judgement.verdicts.values()):
        ties = [*problem.graph.ties, *problem.judgement.ties, *problem.judgement.implications]
        source = untouched(problem.graph, FLOAT16)
        if not any((a in source) != (b in source) for a, b in ties):
            assert price <= priced(problem, source)


def star(consumers: int, *, up: int, down: int) -> Problem:
    """One op whose value several others take; each saves 10 by being low, the first is denied."""
    ids = ["p:T", *(f"c{number}:T" for number in range(consumers))]
    values = {"v": Value("v", "v", "", "float32", producer="p:T")}
    uses = tuple(Use("v", id, id.split(":")[0], 0, "") for id in ids[1:])
    graph = PrecisionGraph(
        "onnx", {"": 21}, {"": Scope("", None, "", 1.0)}, values, {}, {id: decision(id) for id in ids}, uses
    )
    verdicts = {id: DENIED if id == "p:T" else FREE for id in ids}
    costs = Costs("points", dict.fromkeys(ids, 10), {}, {"v": down}, {"v": up}, {}, {})
    return Problem(graph, Judgement(FLOAT16, verdicts), costs)


def test_a_down_cast_serves_all_consumers_of_a_scope() -> None:
    assert len(decided(star(3, up=0, down=29))) == 3
    assert not decided(star(3, up=0, down=30))  # equal: the fewest low


def test_the_up_cast_has_its_own_price() -> None:
    """Arcs the wrong way round would charge the price of the other direction here."""
    problem = star(3, up=29, down=1)
    allowed = dict.fromkeys(problem.graph.decisions, FREE) | {"c0:T": DENIED, "c1:T": DENIED, "c2:T": DENIED}
    turned = replace(problem, judgement=Judgement(FLOAT16, allowed))
    assert not decided(turned)
    assert decided(replace(turned, costs=replace(problem.costs, up={"v": 9}))) == {"p:T"}


def test_third_types_take_no_part() -> None:
    problem = star(2, up=5, down=5)
    decisions = {**problem.graph.decisions, "p:T": decision("p:T", BFLOAT16)}
    graph = replace(problem.graph, decisions=decisions)
    assert decide(graph, problem.judgement, problem.costs) == {"c0:T", "c1:T"}


def test_what_the_source_has_low_stays_low_and_counts() -> None:
    problem = star(2, up=5, down=500)
    decisions: dict[str, Decision] = {**problem.graph.decisions, "p:T": decision("p:T", FLOAT16)}
    judgement = replace(problem.judgement, verdicts={**problem.judgement.verdicts, "p:T": FIXED})
    low = decide(replace(problem.graph, decisions=decisions), judgement, problem.costs)
    assert low == {"p:T", "c0:T", "c1:T"}


def with_verdicts(problem: Problem, **changed: Verdict) -> Problem:
    verdicts = {**problem.judgement.verdicts, **{f"{op}:T": verdict for op, verdict in changed.items()}}
    return replace(problem, judgement=replace(problem.judgement, verdicts=verdicts))


def test_forced_decisions_are_low_whatever_they_cost() -> None:
    assert decided(with_verdicts(star(1, up=0, down=10_000), c0=FORCED)) == {"c0:T"}


def test_contradictions_name_both_decisions() -> None:
    problem = with_verdicts(star(3, up=1, down=1), c0=FORCED, c2=DENIED)
    bound = replace(problem.judgement, ties=(("c0:T", "c1:T"),), implications=(("c1:T", "c2:T"),))
    with pytest.raises(PlanError, match=r"^c0:T: has to be float16, and c2:T, .*may not be: loses precision") as error:
        decide(problem.graph, bound, problem.costs)
    assert "\n" not in str(error.value)


def test_links_between_what_nobody_may_move_are_the_sources_own() -> None:
    problem = star(2, up=5, down=5)
    decisions = {**problem.graph.decisions, "c0:T": decision("c0:T", FLOAT16)}
    judgement = replace(with_verdicts(problem, c0=FIXED).judgement, ties=(("p:T", "c0:T"),))
    assert "c0:T" in decide(replace(problem.graph, decisions=decisions), judgement, problem.costs)


def test_interface_decisions_move_only_when_forced() -> None:
    problem = star(1, up=0, down=0)
    decisions = {**problem.graph.decisions, "c0:T": decision("c0:T", kind="output")}
    graph = replace(problem.graph, decisions=decisions)
    assert not decide(graph, problem.judgement, problem.costs)
    assert decide(graph, with_verdicts(problem, c0=FORCED).judgement, problem.costs) == {"c0:T"}


def test_bfloat16_is_decided_alike() -> None:
    problem = star(3, up=0, down=29)
    judgement = replace(problem.judgement, precision=Precision.BFLOAT16)
    assert len(decide(problem.graph, judgement, problem.costs)) == 3


def test_a_graph_without_decisions() -> None:
    graph = PrecisionGraph("onnx", {"": 21}, {"": Scope("", None, "", 1.0)}, {}, {}, {}, ())
    assert decide(graph, Judgement(FLOAT16, {}), Costs("points", {}, {}, {}, {}, {}, {})) == frozenset()
