"""Where casts stand: the cheapest scopes for the casts of a given assignment, and what the assignment costs.

Nothing here knows the flow network of `decide`; `assignment_cost` is what its answers are checked against.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ampgraph.costs import Costs
from ampgraph.graph import PrecisionGraph, Scope, Value
from ampgraph.precision import Precision

Prices = Mapping[str, int]


@dataclass(frozen=True, slots=True, order=True)
class Cast:
    """One cast node: `value` made available in `to` inside `scope` and the scopes below it."""

    value: str
    to: Precision
    scope: str


@dataclass(frozen=True)
class Demand:
    """What an assignment asks for: scopes that need a produced value in its other precision, and constants kept."""

    casts: Mapping[str, set[str]]  # value -> scopes
    high: Collection[str]  # constants that some consumer takes in float32
    low: Collection[str]


def demand(graph: PrecisionGraph, low: Collection[str]) -> Demand:
    """Collect the uses whose precision is not the producer's."""
    all_, casts = graph.numbering, dict[str, set[str]]()
    live, taken_low, made_low = all_.sides(all_.mask(low))
    for use in np.flatnonzero(live & (taken_low != made_low)).tolist():
        casts.setdefault(graph.uses[use].value, set()).add(graph.uses[use].scope)
    constant = live & (all_.producer[all_.use_value] < 0)
    high, lows = (np.unique(all_.use_value[constant & side]).tolist() for side in (~taken_low, taken_low))
    return Demand(casts, [all_.values[value] for value in high], [all_.values[value] for value in lows])


def place_casts(graph: PrecisionGraph, low: Collection[str], costs: Costs, precision: Precision) -> tuple[Cast, ...]:
    """The casts that serve every use at the lowest price; among equals the outermost, which are the fewest."""
    placements = _placements(graph, low, costs, demand(graph, low).casts)
    rows = sorted((value, precision if to_low else Precision.FLOAT32, scope) for value, to_low, scope in placements)
    return tuple(Cast(*row) for row in rows)


def assignment_cost(graph: PrecisionGraph, low: Collection[str], costs: Costs) -> int:
    """Price of an assignment: every decision's own, the casts it needs, the constants it keeps."""
    wanted, scopes = demand(graph, low), graph.scopes
    total = sum((costs.low if id in low else costs.high).get(id, 0) for id in graph.decisions)
    for value, to_low, scope in _placements(graph, low, costs, wanted.casts):
        total += costs.cast(value, to_low=to_low, frequency=scopes[scope].frequency)
    total += sum(costs.keep_high.get(value, 0) for value in wanted.high)
    return total + sum(costs.keep_low.get(value, 0) for value in wanted.low)


def _placements(
    graph: PrecisionGraph, low: Collection[str], costs: Costs, casts: Mapping[str, set[str]]
) -> Iterator[tuple[str, bool, str]]:
    for id, wanting in casts.items():
        value = graph.values[id]
        to_low = value.producer not in low
        for scope in best_scopes(value, wanting, to_low, costs, graph.scopes):
            yield id, to_low, scope


def one_scope_prices(graph: PrecisionGraph, costs: Costs, id: str, scope: str) -> tuple[int, int]:
    """Price of the up-cast and of the down-cast that serve one scope; of a constant, of keeping it high and low."""
    value = graph.values[id]
    if not value.producer:
        return costs.keep_high.get(id, 0), costs.keep_low.get(id, 0)
    return (
        _cast_price(graph, costs, value, scope, to_low=False),
        _cast_price(graph, costs, value, scope, to_low=True),
    )


def _cast_price(graph: PrecisionGraph, costs: Costs, value: Value, scope: str, *, to_low: bool) -> int:
    """Price of the cheapest cast that serves one scope: there, or between it and the value's own."""
    place = graph.scopes[scope]
    price = costs.cast(value.id, to_low=to_low, frequency=place.frequency)
    if scope == value.scope or place.parent is None:
        return price
    return min(price, _cast_price(graph, costs, value, place.parent, to_low=to_low))


def best_scopes(
    value: Value, wanting: Collection[str], to_low: bool, costs: Costs, scopes: Mapping[str, Scope]
) -> tuple[str, ...]:
    """The scopes whose casts serve all of `wanting` at the lowest price."""
    if value.scope in wanting:
        return (value.scope,)
    children = scope_tree(value.scope, wanting, scopes)
    prices = {id: costs.cast(value.id, to_low=to_low, frequency=scopes[id].frequency) for id in children}
    return _cheapest(value.scope, children, wanting, prices)[1]


def scope_tree(top: str, wanting: Iterable[str], scopes: Mapping[str, Scope]) -> dict[str, list[str]]:
    """The scopes on the ways from `top` down to `wanting`, each with its children among them; parents come first."""
    children: dict[str, list[str]] = {top: []}
    for id in sorted(wanting):
        way = []
        while id not in children:
            way.append(id)
            parent = scopes[id].parent
            if parent is None:
                raise ValueError(f"scope {way[0]!r} does not lie within {top!r}")
            id = parent
        for inner in reversed(way):
            children[id].append(inner)
            children[inner] = []
            id = inner
    return children


def _cheapest(
    scope: str, children: Mapping[str, list[str]], wanting: Collection[str], prices: Prices
) -> tuple[int, tuple[str, ...]]:
    """Price and places of the casts that serve the part of the tree under `scope`."""
    here = prices[scope], (scope,)
    if scope in wanting:
        return here
    parts = [_cheapest(child, children, wanting, prices) for child in children[scope]]
    inside = sum(price for price, _ in parts)
    return here if here[0] <= inside else (inside, tuple(place for _, places in parts for place in places))
