"""Casts in nested scopes, against every way to place them."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampgraph.costs import Costs
from ampgraph.graph import Value
from ampgraph.placement import assignment_cost, best_scopes, place_casts, scope_tree
from ampgraph.precision import Precision
from tests.random_graphs import FLOAT16, FLOAT32, SCOPES, random_problem

VALUE = Value("v", "v", "", "float32", producer="p:T")


def costs(down: int, up: int = 1000) -> Costs:
    return Costs("points", {}, {}, {"v": down}, {"v": up}, {}, {})


def around(scope: str) -> set[str]:
    parent = SCOPES[scope].parent
    return {scope} | (around(parent) if parent is not None else set())


def price(places: tuple[str, ...], prices: Costs) -> int:
    return sum(prices.cast("v", to_low=True, frequency=SCOPES[place].frequency) for place in places)


def every_placement(wanting: set[str]) -> list[tuple[str, ...]]:
    sets = (places for count in range(len(SCOPES) + 1) for places in combinations(SCOPES, count))
    return [places for places in sets if all(around(scope) & set(places) for scope in wanting)]


@settings(max_examples=200, deadline=None)
@given(st.sets(st.sampled_from(sorted(SCOPES)), min_size=1), st.integers(0, 9))
def test_best_scopes_equal_enumeration(wanting: set[str], down: int) -> None:
    found = best_scopes(VALUE, wanting, True, costs(down), SCOPES)
    best = min(every_placement(wanting), key=lambda places: (price(places, costs(down)), len(places)))
    assert price(found, costs(down)) == price(best, costs(down))
    assert len(found) == len(best)
    assert all(around(scope) & set(found) for scope in wanting)


def test_a_loop_takes_its_cast_from_outside_and_a_branch_makes_its_own() -> None:
    assert best_scopes(VALUE, {"loop"}, True, costs(10), SCOPES) == ("",)
    assert best_scopes(VALUE, {"if"}, True, costs(10), SCOPES) == ("if",)
    assert best_scopes(VALUE, {"if", "loop"}, True, costs(10), SCOPES) == ("",)
    assert best_scopes(VALUE, {"if", "if/loop"}, True, costs(10), SCOPES) == ("if",)


def test_free_casts_stand_outermost() -> None:
    assert best_scopes(VALUE, {"if", "loop/loop"}, True, costs(0), SCOPES) == ("",)


def test_scope_outside_the_values_own_is_refused() -> None:
    with pytest.raises(ValueError, match="does not lie within"):
        scope_tree("loop", ["if"], SCOPES)


def test_casts_are_sorted_and_the_same_every_time() -> None:
    problem = random_problem(Random(3), 40)
    low = frozenset(id for id in problem.graph.decisions if id.startswith("n1"))
    once = place_casts(problem.graph, low, problem.costs, FLOAT16)
    assert once == tuple(sorted(once)) == place_casts(problem.graph, set(low), problem.costs, FLOAT16)
    assert {cast.to for cast in once} == {FLOAT16, FLOAT32}


def test_cost_is_the_sum_of_decisions_casts_and_kept_constants() -> None:
    problem = random_problem(Random(11), 30, nested=False)
    graph, prices = problem.graph, problem.costs
    low = {id for id, each in graph.decisions.items() if each.present is FLOAT16} | {"n3:T", "n4:T", "n9:T"}
    expected = sum(prices.low[id] if id in low else prices.high[id] for id in graph.decisions)
    for cast in place_casts(graph, low, prices, FLOAT16):
        expected += (prices.up if cast.to is Precision.FLOAT32 else prices.down)[cast.value]
    third = {id for id, each in graph.decisions.items() if each.present is Precision.BFLOAT16}
    for value in graph.values.values():
        takers = {use.decision for use in graph.uses_of.get(value.id, ())} - third
        if not value.producer:
            expected += prices.keep_low[value.id] if takers & low else 0
            expected += prices.keep_high[value.id] if takers - low else 0
    assert assignment_cost(graph, low, prices) == expected
