"""Minimum cut of an arc network, exactly and with the fewest nodes on the source side.

Nodes are numbered; node 0 is low, node 1 is high, the rest are to be decided. `gain[v]` is what v saves by being low,
an arc's price is paid when its tail is low and its head is high.

Dinic's algorithm is quadratic on long graphs. So nodes that their gain decides are taken out first, nodes of one or two
neighbours are eliminated (all of a series-parallel graph, chains among them), and nodes that no cut parts are merged,
many at a time; what is left goes to scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, maximum_flow

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

LOW, HIGH = 0, 1  # the two terminals
_EXACT = 1 << 62  # sums of prices must stay below this
_FLOW = 1 << 30  # scipy's capacities and flows are int32
_PROGRESS = 0.02  # part of the nodes that a round must remove to be worth another one


@dataclass(frozen=True)
class Network:
    """The whole problem. Numbers 0 and 1 of `gain` are the terminals' and mean nothing."""

    gain: Ints
    tail: Ints
    head: Ints
    price: Ints


class Edges(NamedTuple):
    """A pair of nodes, first < second, no pair twice, with the prices of the arcs both ways, not both zero."""

    first: Ints
    second: Ints
    forth: Ints
    back: Ints

    def where(self, kept: Bools) -> Edges:
        """The edges of a mask."""
        return Edges(*(column[kept] for column in self))


class Elimination(NamedTuple):
    """Nodes that were removed; each is low when the weights of its low neighbours exceed its threshold."""

    nodes: Ints
    threshold: Ints
    neighbours: Ints  # two columns
    weights: Ints  # two columns


class Round(NamedTuple):
    """One pass over a network: where the nodes of the smaller one came from.

    `place[v]` is v's number afterwards, -1 for the high, -2 for the low, anything for the eliminated.
    """

    place: Ints
    eliminated: Elimination


def minimum_cut(network: Network) -> Bools:
    """Which nodes are low in the cheapest cut; among equal cuts the one with the fewest."""
    prices = np.abs(network.gain).sum(dtype=np.float64) + network.price.sum(dtype=np.float64)
    if prices >= _EXACT or (network.price < 0).any():
        raise OverflowError("prices must be positive and sum to less than 2**62")
    low, high = np.zeros(network.gain.size, bool), np.zeros(network.gain.size, bool)
    low[LOW], high[HIGH] = True, True
    edges = _merged(network.gain.size, network.tail, network.head, network.price, np.zeros_like(network.price))
    step, gain, edges = _without(network.gain, edges, low, high)
    rounds = [step]
    while gain.size:
        size = gain.size
        for reduction in (_decide_dominated, _eliminate, _merge_inseparable):
            step, gain, edges = reduction(gain, edges)
            rounds.append(step)
        if size - gain.size <= _PROGRESS * size:
            break
    side = maximum_flow_side(gain, edges)
    for step in reversed(rounds):
        side = _restore(step, side)
    return side


def _merged(size: int, tail: Ints, head: Ints, forth: Ints, back: Ints) -> Edges:
    """One edge per pair of nodes: parallel arcs added up, loops and free ones dropped."""
    real = (tail != head) & ((forth > 0) | (back > 0))
    tail, head, forth, back = tail[real], head[real], forth[real], back[real]
    keys = np.minimum(tail, head) * size + np.maximum(tail, head)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    up = tail < head
    prices = (np.where(up, forth, back)[order], np.where(up, back, forth)[order])
    forth, back = (np.add.reduceat(price, starts) if starts.size else price for price in prices)
    return Edges(*np.divmod(keys[order][starts], max(size, 1)), forth, back)


def _without(gain: Ints, edges: Edges, low: Bools, high: Bools) -> tuple[Round, Ints, Edges]:
    """The network of the others once some nodes are decided."""
    gain, (first, second, forth, back) = gain.copy(), edges
    for node, other, paid, saved in ((first, second, forth, back), (second, first, back, forth)):
        np.subtract.at(gain, node[high[other]], paid[high[other]])
        np.add.at(gain, node[low[other]], saved[low[other]])
    kept = ~(low | high)
    place = np.where(kept, np.cumsum(kept) - 1, np.where(low, -2, -1))
    edges = edges.where(kept[first] & kept[second])
    return Round(place, _nothing()), gain[kept], edges._replace(first=place[edges.first], second=place[edges.second])


def _decide_dominated(gain: Ints, edges: Edges) -> tuple[Round, Ints, Edges]:
    """Take out the nodes that are low, or high, in the smallest minimum cut whatever their neighbours are.

    Low needs a gain above all that being low can cost; equality leaves a node high, since the fewest are wanted.
    """
    out, into = _around(gain.size, edges)
    return _without(gain, edges, gain > out, gain + into <= 0)


def _around(size: int, edges: Edges) -> tuple[Ints, Ints]:
    """Sums of the prices of the arcs out of each node and into it."""
    out, into = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for node, leaving, coming in ((edges.first, edges.forth, edges.back), (edges.second, edges.back, edges.forth)):
        np.add.at(out, node, leaving)
        np.add.at(into, node, coming)
    return out, into


def _eliminate(gain: Ints, edges: Edges) -> tuple[Round, Ints, Edges]:
    """Minimise over nodes of at most two neighbours, no two of them adjacent.

    Such a node v changes the total by min(0, threshold - weights of its low neighbours): a function of two nodes,
    submodular again, so an edge between them and their gains can carry it.
    """
    chosen = _independent(gain.size, edges)
    step, paid = _neighbourhoods(gain, edges, chosen)
    (x, y), (a, b), gain = step.neighbours.T, step.weights.T, gain.copy()
    # what v comes to when neither, only x, only y, and both are low; a high v is paid for by its low neighbours
    neither, only_x, only_y, both = (np.minimum(0, step.threshold - weight) for weight in (0, a, b, a + b))
    only_x, only_y, both = only_x + paid[:, 0], only_y + paid[:, 1], both + paid.sum(axis=1)
    # the part of x in both - neither; half and half keeps gains, and so the flow through the terminals, small
    share = np.clip((both - neither) // 2, both - only_y, only_x - neither)
    np.subtract.at(gain, x, share)
    np.subtract.at(gain, y, both - neither - share)
    kept = ~chosen
    place = np.where(kept, np.cumsum(kept) - 1, -1)
    rest = edges.where(kept[edges.first] & kept[edges.second])
    bridges = Edges(x, y, only_x - neither - share, only_y - both + share)
    tail, head, forth, back = (np.concatenate(columns) for columns in zip(rest, bridges, strict=True))
    return Round(place, step), gain[kept], _merged(int(kept.sum()), place[tail], place[head], forth, back)


def _independent(size: int, edges: Edges) -> Bools:
    """Nodes of one or two neighbours, no two adjacent: of two rivals the first in a fixed shuffle stays."""
    degree = np.bincount(edges.first, minlength=size) + np.bincount(edges.second, minlength=size)
    chosen: Bools = (degree == 1) | (degree == 2)
    rank = (np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    rivals = edges.where(chosen[edges.first] & chosen[edges.second])
    ahead = rank[rivals.first] < rank[rivals.second]
    chosen[np.where(ahead, rivals.second, rivals.first)] = False
    return chosen


def _neighbourhoods(gain: Ints, edges: Edges, chosen: Bools) -> tuple[Elimination, Ints]:
    """What decides the chosen nodes, and the prices of the arcs into them, by neighbour.

    A single neighbour is listed twice, once at weight 0.
    """
    ours, theirs = chosen[edges.first], chosen[edges.second]
    node = np.concatenate([edges.first[ours], edges.second[theirs]])
    other = np.concatenate([edges.second[ours], edges.first[theirs]])
    leaving = np.concatenate([edges.forth[ours], edges.back[theirs]])
    coming = np.concatenate([edges.back[ours], edges.forth[theirs]])
    order = np.argsort(node, kind="stable")
    nodes, starts, counts = np.unique(node[order], return_index=True, return_counts=True)
    slots = order[np.stack([starts, starts + counts - 1], axis=1)]
    counted = np.stack([np.ones_like(counts), counts - 1], axis=1)  # of two neighbours both, of one the first slot
    threshold = (leaving[slots] * counted).sum(axis=1) - gain[nodes]
    weights = (leaving + coming)[slots] * counted
    return Elimination(nodes, threshold, other[slots], weights), coming[slots] * counted


def _nothing() -> Elimination:
    empty = np.zeros(0, np.int64)
    return Elimination(empty, empty, empty.reshape(0, 2), empty.reshape(0, 2))


def _merge_inseparable(gain: Ints, edges: Edges) -> tuple[Round, Ints, Edges]:
    """Make one node of those that reach each other over arcs dearer than all that any cut can save."""
    most = min(np.maximum(gain, 0).sum(), np.maximum(-gain, 0).sum())
    forth, back = edges.forth > most, edges.back > most
    tail = np.concatenate([edges.first[forth], edges.second[back]])
    head = np.concatenate([edges.second[forth], edges.first[back]])
    dear = csr_array((np.ones(tail.size, np.int8), (tail, head)), shape=(gain.size, gain.size))
    count, component = connected_components(dear, connection="strong")
    merged, place = np.zeros(count, np.int64), component.astype(np.int64)
    np.add.at(merged, place, gain)
    return Round(place, _nothing()), merged, _merged(count, place[edges.first], place[edges.second], *edges[2:])


def _restore(step: Round, side: Bools) -> Bools:
    """Which nodes are low before a round, from which are after it."""
    low = np.append(side, [True, False])[step.place]  # the low and the high, counted from the end
    gone = step.eliminated
    low[gone.nodes] = gone.threshold < (gone.weights * low[gone.neighbours]).sum(axis=1)
    return low


def maximum_flow_side(gain: Ints, edges: Edges) -> Bools:
    """Nodes that can be reached from the source once no more flow gets through: the smallest low side."""
    low = np.zeros(gain.size, bool)
    if not edges.first.size:
        return gain > 0
    residual = _saturated(_capacities(gain, edges), gain.size)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, gain.size, return_predecessors=False)
    low[reached[reached < gain.size]] = True
    return low


def _capacities(gain: Ints, edges: Edges) -> csr_array[np.int64]:
    """Arcs as a sparse matrix, the source and the sink being the last two rows."""
    nodes, source, sink = np.arange(gain.size), np.full(gain.size, gain.size), np.full(gain.size, gain.size + 1)
    tail = np.concatenate([edges.first, edges.second, source, nodes])
    head = np.concatenate([edges.second, edges.first, nodes, sink])
    price = np.concatenate([edges.forth, edges.back, np.maximum(gain, 0), np.maximum(-gain, 0)])
    return csr_array((price, (tail, head)), shape=(gain.size + 2, gain.size + 2))


def _saturated(residual: csr_array[np.int64], source: int) -> csr_array[np.int64]:
    """Residual of a maximum flow. Capacities beyond int32 are served coarse to fine: each step is a feasible flow."""
    bound = min(int(residual[[source], :].sum()), int(residual[:, [source + 1]].sum()))
    while True:
        scale = max(1, -(-bound // _FLOW))
        coarse = residual.copy()
        coarse.data = np.minimum(coarse.data // scale, _FLOW).astype(np.int32)
        coarse.eliminate_zeros()
        assert coarse.data.min(initial=0) >= 0
        assert coarse.data.max(initial=0) <= _FLOW
        flow = maximum_flow(coarse, source, source + 1, method="dinic").flow
        residual = (residual - flow.astype(np.int64) * scale).tocsr()
        assert residual.data.min(initial=0) >= 0
        if scale == 1:
            return residual
        bound = residual.nnz * scale
