"""The cut: which decisions are low in the cheapest lawful assignment.

Source side is low, an arc is paid when its tail is low and its head is high. A produced value with consumers W is a
term that costs an up-cast when the producer is low and some of W are high, a down-cast when it is high and some are
low; a constant is produced in both precisions, and its casts are the copies it is kept in.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ampgraph.bounds import Bounds, find_bounds, implications_of, tied_groups
from ampgraph.costs import Costs
from ampgraph.cut import HIGH, LOW, Network, minimum_cut
from ampgraph.graph import PrecisionGraph, Value
from ampgraph.judgement import Judgement
from ampgraph.placement import scope_tree
from ampgraph.precision import Precision

INERT = -1  # a third type: nothing is cast to or from it
Consumers = Mapping[str, dict[int, None]]  # nodes by scope


class _Arcs:
    """The network while it is being written."""

    def __init__(self, nodes: int) -> None:
        self.gain = [0] * nodes
        self.arcs: list[tuple[int, int, int]] = []

    def node(self) -> int:
        self.gain.append(0)
        return len(self.gain) - 1

    def arc(self, tail: int, head: int, price: int, *, turned: bool = False) -> None:
        self.arcs.append((head, tail, price) if turned else (tail, head, price))

    def network(self) -> Network:
        tail, head, price = np.array(self.arcs, np.int64).reshape(-1, 3).T
        return Network(np.array(self.gain, np.int64), tail, head, price)


def decide(graph: PrecisionGraph, judgement: Judgement, costs: Costs) -> frozenset[str]:
    """Ids of the decisions that end low, those that are low already included.

    The assignment is the cheapest that the judgement allows and, among equals, has the fewest low decisions.
    """
    bounds = find_bounds(graph, judgement)
    nodes = number_decisions(graph, judgement, bounds)
    low = minimum_cut(build_network(graph, judgement, costs, nodes))
    return frozenset(id for id, node in nodes.items() if node != INERT and low[node])


def number_decisions(graph: PrecisionGraph, judgement: Judgement, bounds: Bounds) -> dict[str, int]:
    """Node of every decision: a terminal when settled, one for all that are tied, INERT for third types."""
    nodes: dict[str, int] = {}
    groups = tied_groups(implications_of(graph, judgement))
    numbers: dict[str, int] = {}
    for id, decision in graph.decisions.items():
        if id in bounds.must:
            nodes[id] = LOW
        elif id in bounds.never:
            nodes[id] = HIGH if decision.present is Precision.FLOAT32 else INERT
        else:
            nodes[id] = numbers.setdefault(groups.get(id, id), len(numbers) + 2)
    return nodes


def build_network(graph: PrecisionGraph, judgement: Judgement, costs: Costs, nodes: Mapping[str, int]) -> Network:
    """All prices as arcs over the nodes of the decisions and auxiliary ones."""
    arcs = _Arcs(max(nodes.values(), default=HIGH) + 2)
    for id, node in nodes.items():
        if node > HIGH:
            arcs.gain[node] += costs.high.get(id, 0) - costs.low.get(id, 0)
    for id, consumers in _consumers(graph, nodes).items():
        value = graph.values[id]
        if value.producer:
            _cast_arcs(arcs, graph, costs, value, nodes[value.producer], consumers)
        else:
            _constant_arcs(arcs, costs, id, consumers)
    _implication_arcs(arcs, implications_of(graph, judgement), nodes)
    return arcs.network()


def _consumers(graph: PrecisionGraph, nodes: Mapping[str, int]) -> dict[str, dict[str, dict[int, None]]]:
    """Consumer nodes of every value by scope, the producer's own left out."""
    found: dict[str, dict[str, dict[int, None]]] = {}
    values = graph.values
    for use in graph.uses:
        node, producer = nodes[use.decision], values[use.value].producer
        if node != INERT and not (producer and nodes[producer] in (node, INERT)):
            found.setdefault(use.value, {}).setdefault(use.scope, {})[node] = None
    return found


def _constant_arcs(arcs: _Arcs, costs: Costs, id: str, consumers: Consumers) -> None:
    wanting = list(dict.fromkeys(node for inside in consumers.values() for node in inside))
    _shared_arcs(arcs, LOW, costs.keep_high.get(id, 0), wanting, turned=False)
    _shared_arcs(arcs, HIGH, costs.keep_low.get(id, 0), wanting, turned=True)


def _cast_arcs(
    arcs: _Arcs, graph: PrecisionGraph, costs: Costs, value: Value, producer: int, consumers: Consumers
) -> None:
    tree = scope_tree(value.scope, consumers, graph.scopes)
    up, down = (
        {id: costs.cast(value.id, to_low=to_low, frequency=graph.scopes[id].frequency) for id in tree}
        for to_low in (False, True)
    )
    if len(consumers) == 1:  # its casts stand in the cheapest scope on the way to it
        (wanting,) = consumers.values()
        _flat_arcs(arcs, producer, min(up.values()), min(down.values()), list(wanting))
    else:
        _nested_arcs(arcs, producer, tree, consumers, up, turned=False)
        _nested_arcs(arcs, producer, tree, consumers, down, turned=True)


def _flat_arcs(arcs: _Arcs, producer: int, up: int, down: int, wanting: list[int]) -> None:
    """Casts that all stand in one scope.

    On a directed circle of two or three nodes exactly one arc leaves the low ones when not all are on one side. It
    carries the price that both directions share without an auxiliary node, which keeps the network easy to reduce.
    """
    shared = min(up, down) if len(wanting) <= 2 else 0
    if shared:
        for tail, head in zip([producer, *wanting], [*wanting, producer], strict=True):
            arcs.arc(tail, head, shared)
    _shared_arcs(arcs, producer, up - shared, wanting, turned=False)
    _shared_arcs(arcs, producer, down - shared, wanting, turned=True)


def _shared_arcs(arcs: _Arcs, producer: int, price: int, wanting: list[int], *, turned: bool) -> None:
    """Pay once when the producer is low and any consumer high; turned, when it is high and any consumer low.

    The arcs to the consumers need not be infinite: of two cuts that differ only in the auxiliary node, the one that
    pays for the single arc into it is never dearer.
    """
    if len(wanting) == 1:
        arcs.arc(producer, wanting[0], price, turned=turned)
    elif price:
        cast = arcs.node()
        arcs.arc(producer, cast, price, turned=turned)
        for node in wanting:
            arcs.arc(cast, node, price, turned=turned)


def _nested_arcs(
    arcs: _Arcs,
    producer: int,
    tree: Mapping[str, list[str]],
    consumers: Consumers,
    prices: Mapping[str, int],
    *,
    turned: bool,
) -> None:
    """One auxiliary node per scope, fed by its parent's: a cast is made once outside or once inside."""
    source = dict.fromkeys(tree, producer)
    for scope, children in tree.items():
        cast = arcs.node()
        arcs.arc(source[scope], cast, prices[scope], turned=turned)
        for node in consumers.get(scope, ()):
            arcs.arc(cast, node, prices[scope], turned=turned)
        source.update(dict.fromkeys(children, cast))


def _implication_arcs(arcs: _Arcs, pairs: list[tuple[str, str]], nodes: Mapping[str, int]) -> None:
    """Arcs that no cut pays, since leaving every free decision high is cheaper than one of them."""
    total = sum(map(abs, arcs.gain)) + sum(price for _, _, price in arcs.arcs)
    for first, second in dict.fromkeys((nodes[first], nodes[second]) for first, second in pairs):
        if first > HIGH and second > HIGH and first != second:
            arcs.arc(first, second, total + 1)
