"""The arc network of a problem: every price that an assignment can meet, as arcs over numbered nodes.

An arc is paid when its tail is low and its head is high. A produced value with consumers W is a term that costs an
up-cast when the producer is low and some of W are high, a down-cast when it is high and some are low; a constant is
made in both precisions, and its casts are the copies it is kept in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from ampgraph.bounds import Bounds, implications_of, tied_groups
from ampgraph.costs import Costs
from ampgraph.cut import HIGH, LOW, Ints, Network
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Judgement
from ampgraph.placement import one_scope_prices, scope_tree
from ampgraph.precision import Precision

INERT = -1  # the node of a third type: nothing is cast to or from it
Consumers = Mapping[str, set[int]]  # nodes by scope


class Taken(NamedTuple):
    """Values that some other node takes, sorted, with the node that makes each and those that take it.

    The takers of value `i` are `takers[starts[i] : starts[i] + counts[i]]`. `made` is negative for a constant.
    """

    values: Ints
    made: Ints
    starts: Ints
    counts: Ints
    takers: Ints


class Arcs:
    """A network while it is being written."""

    def __init__(self, gain: Ints) -> None:
        self._gain = gain
        self.nodes = gain.size
        self._parts: list[tuple[Ints, Ints, Ints]] = []

    def fresh(self, count: int) -> Ints:
        """Numbers of auxiliary nodes."""
        self.nodes += count
        return np.arange(self.nodes - count, self.nodes)

    def add(self, tail: Ints, head: Ints, price: Ints, *, turned: bool = False) -> None:
        """Arcs tail -> head; turned, head -> tail."""
        self._parts.append((head, tail, price) if turned else (tail, head, price))

    def total(self) -> int:
        """More than any assignment pays, and more than any saves."""
        return int(np.abs(self._gain).sum()) + sum(int(price.sum()) for _, _, price in self._parts)

    def network(self) -> Network:
        """All that was added."""
        empty = np.zeros(0, np.int64)
        tail, head, price = (np.concatenate([empty, *part]) for part in zip(*self._parts, strict=True))
        return Network(np.pad(self._gain, (0, self.nodes - self._gain.size)), tail, head, price)


def number_nodes(graph: PrecisionGraph, judgement: Judgement, bounds: Bounds) -> Ints:
    """Node of every decision: a terminal when settled, one for all that are tied, INERT for third types."""
    groups, numbers = tied_groups(implications_of(graph, judgement)), dict[str, int]()
    nodes = []
    for id, decision in graph.decisions.items():
        if id in bounds.must:
            nodes.append(LOW)
        elif id in bounds.never:
            nodes.append(HIGH if decision.present is Precision.FLOAT32 else INERT)
        else:
            nodes.append(numbers.setdefault(groups.get(id, id), len(numbers) + 2))
    return np.array(nodes, np.int64)


def build_network(graph: PrecisionGraph, judgement: Judgement, costs: Costs, nodes: Ints) -> Network:
    """All prices as arcs. `nodes` is from `number_nodes`."""
    gains = [costs.high.get(id, 0) - costs.low.get(id, 0) for id in graph.decisions]
    gain = np.zeros(max(nodes.max(initial=0), HIGH) + 1, np.int64)
    np.add.at(gain, nodes[nodes > HIGH], np.array(gains, np.int64)[nodes > HIGH])
    arcs = Arcs(gain)
    live = _live_uses(graph, costs, nodes)
    inside = graph.numbering.nested(live)[graph.numbering.use_value[live]]
    _flat_arcs(arcs, graph, costs, nodes, live[~inside])
    _nested_arcs(arcs, graph, costs, nodes, live[inside])
    _implication_arcs(arcs, graph, judgement, nodes)
    return arcs.network()


def _live_uses(graph: PrecisionGraph, costs: Costs, nodes: Ints) -> Ints:
    """The uses that may have a price: the consumer may differ from the producer, or keeping the constant costs."""
    all_ = graph.numbering
    taker, maker = nodes[all_.use_decision], all_.producer[all_.use_value]
    crossing = (nodes[maker] != INERT) & (taker != nodes[maker])
    kept = bool(costs.keep_high or costs.keep_low)
    return np.flatnonzero((taker != INERT) & np.where(maker < 0, kept, crossing))


def _flat_arcs(arcs: Arcs, graph: PrecisionGraph, costs: Costs, nodes: Ints, uses: Ints) -> None:
    """Terms of constants, and of values whose casts all stand in one scope.

    On a directed circle of two or three nodes exactly one arc leaves the low ones when not all are on one side. It
    carries the price that both directions share without an auxiliary node, which keeps the network easy to reduce.
    """
    taken = _taken(graph, nodes, uses)
    up, down = _flat_prices(graph, costs, uses, taken)
    constant = taken.made < 0
    shared = np.where(constant | (taken.counts > 2), 0, np.minimum(up, down))
    last = taken.takers[taken.starts + taken.counts - 1]
    pair, first = taken.counts == 2, taken.takers[taken.starts]
    arcs.add(taken.made[~constant], first[~constant], shared[~constant])
    arcs.add(last[~constant], taken.made[~constant], shared[~constant])
    arcs.add(first[pair], last[pair], shared[pair])
    _shared_arcs(arcs, taken, np.where(constant, LOW, taken.made), up - shared, turned=False)
    _shared_arcs(arcs, taken, np.where(constant, HIGH, taken.made), down - shared, turned=True)


def _taken(graph: PrecisionGraph, nodes: Ints, uses: Ints) -> Taken:
    all_, size = graph.numbering, int(nodes.max(initial=0)) + 1
    pairs = np.unique(all_.use_value[uses] * size + nodes[all_.use_decision[uses]])
    values, starts, counts = np.unique(pairs // size, return_index=True, return_counts=True)
    maker = all_.producer[values]
    return Taken(values, np.where(maker >= 0, nodes[maker], INERT), starts, counts, pairs % size)


def _flat_prices(graph: PrecisionGraph, costs: Costs, uses: Ints, taken: Taken) -> tuple[Ints, Ints]:
    """Prices of the up-cast and of the down-cast of each value; of a constant, of keeping it high and low."""
    all_ = graph.numbering
    scope = np.zeros(len(all_.values), np.int64)
    scope[all_.use_value[uses]] = all_.use_scope[uses]
    places = zip(taken.values.tolist(), scope[taken.values].tolist(), strict=True)
    prices = [one_scope_prices(graph, costs, all_.values[value], all_.scopes[place]) for value, place in places]
    up, down = np.array(prices, np.int64).reshape(-1, 2).T
    return up, down


def _shared_arcs(arcs: Arcs, taken: Taken, made: Ints, price: Ints, *, turned: bool) -> None:
    """Pay once when the producer is low and any consumer high; turned, when it is high and any consumer low.

    The arcs to the consumers need not be infinite: of two cuts that differ only in the auxiliary node, the one that
    pays for the single arc into it is never dearer.
    """
    single = taken.counts == 1
    arcs.add(made[single], taken.takers[taken.starts[single]], price[single], turned=turned)
    several = np.flatnonzero((taken.counts > 1) & (price > 0))
    cast, counts = arcs.fresh(several.size), taken.counts[several]
    arcs.add(made[several], cast, price[several], turned=turned)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    takers = taken.takers[np.repeat(taken.starts[several], counts) + within]
    arcs.add(np.repeat(cast, counts), takers, np.repeat(price[several], counts), turned=turned)


def _nested_arcs(arcs: Arcs, graph: PrecisionGraph, costs: Costs, nodes: Ints, uses: Ints) -> None:
    found: dict[str, dict[str, set[int]]] = {}
    for number in uses.tolist():
        use = graph.uses[number]
        node = int(nodes[graph.numbering.use_decision[number]])
        found.setdefault(use.value, {}).setdefault(use.scope, set()).add(node)
    for id, consumers in found.items():
        value = graph.values[id]
        made = int(nodes[graph.numbering.number[value.producer]])
        tree = scope_tree(value.scope, consumers, graph.scopes)
        for to_low in (False, True):
            prices = {s: costs.cast(id, to_low=to_low, frequency=graph.scopes[s].frequency) for s in tree}
            rows = _tree_rows(arcs, made, tree, consumers, prices)
            tail, head, price = np.array(list(rows), np.int64).T
            arcs.add(tail, head, price, turned=to_low)


def _tree_rows(
    arcs: Arcs, made: int, tree: Mapping[str, list[str]], consumers: Consumers, prices: Mapping[str, int]
) -> Iterable[tuple[int, int, int]]:
    """One auxiliary node per scope, fed by its parent's: a cast is made once outside or once inside."""
    source = dict.fromkeys(tree, made)
    for scope, children in tree.items():
        cast = int(arcs.fresh(1)[0])
        yield source[scope], cast, prices[scope]
        yield from ((cast, node, prices[scope]) for node in sorted(consumers.get(scope, ())))
        source.update(dict.fromkeys(children, cast))


def _implication_arcs(arcs: Arcs, graph: PrecisionGraph, judgement: Judgement, nodes: Ints) -> None:
    """Arcs that no cut pays, since leaving every free decision high is cheaper than one of them."""
    number = graph.numbering.number
    pairs = ((nodes[number[a]], nodes[number[b]]) for a, b in implications_of(graph, judgement))
    rows = [(int(a), int(b)) for a, b in dict.fromkeys(pairs) if a > HIGH and b > HIGH and a != b]
    if rows:
        tail, head = np.array(rows, np.int64).T
        arcs.add(tail, head, np.full(len(rows), arcs.total() + 1))
