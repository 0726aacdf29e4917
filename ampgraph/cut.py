"""Minimum cut of an arc network, exactly and with the fewest nodes on the source side.

Nodes are numbered; node 0 is low, node 1 is high, the rest are to be decided. `gain[v]` is what v saves by being low,
an arc's price is paid when its tail is low and its head is high. An arc one way equals the arc the other way up to
gains, so after `_normal` there is one edge per pair of nodes, from the smaller number to the larger.

Series-parallel parts, among them the long chains on which Dinic's algorithm is quadratic, are solved by eliminating
nodes of one or two neighbours, many at a time; what is left goes to scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

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
    """Edges first -> second, first < second, no pair twice, no price zero."""

    first: Ints
    second: Ints
    price: Ints

    def where(self, kept: Bools) -> Edges:
        """The edges of a mask."""
        return Edges(self.first[kept], self.second[kept], self.price[kept])


class Elimination(NamedTuple):
    """Nodes that were removed, with what decides them: low when threshold < the weights of their low neighbours."""

    nodes: Ints
    threshold: Ints
    neighbours: Ints  # two columns
    weights: Ints  # two columns


class Round(NamedTuple):
    """One pass over a network of `size` nodes: the decided, the eliminated, and the numbers of the rest."""

    size: int
    lows: Ints
    eliminated: Elimination
    kept: Ints


def minimum_cut(network: Network) -> Bools:
    """Which nodes are low in the cheapest cut; among equal cuts the one with the fewest."""
    prices = np.abs(network.gain).sum(dtype=np.float64) + network.price.sum(dtype=np.float64)
    if prices >= _EXACT or (network.price < 0).any():
        raise OverflowError("prices must be positive and sum to less than 2**62")
    gain, edges = _normal(network)
    gain, edges, kept = _without_terminals(gain, edges)
    rounds = [Round(network.gain.size, np.array([LOW]), _nothing(), kept)]
    while gain.size:
        step, gain, edges = _reduce(gain, edges)
        rounds.append(step)
        if step.size - step.kept.size <= _PROGRESS * step.size:
            break
    low = maximum_flow_side(gain, edges)
    for step in reversed(rounds):
        low = _restore(step, low)
    return low


def _normal(network: Network) -> tuple[Ints, Edges]:
    gain = network.gain.astype(np.int64)
    back = network.tail > network.head
    np.subtract.at(gain, network.tail[back], network.price[back])
    np.add.at(gain, network.head[back], network.price[back])
    first, second = np.minimum(network.tail, network.head), np.maximum(network.tail, network.head)
    return gain, _merged(gain.size, first, second, network.price.astype(np.int64))


def _merged(size: int, first: Ints, second: Ints, price: Ints) -> Edges:
    """One edge per pair: parallel ones added up, loops and free ones dropped."""
    real = (first != second) & (price > 0)
    keys = first[real] * size + second[real]
    order = np.argsort(keys, kind="stable")
    keys, prices = keys[order], price[real][order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    keys, sums = keys[starts], np.add.reduceat(prices, starts) if starts.size else prices
    return Edges(keys // size, keys % size, sums)


def _without_terminals(gain: Ints, edges: Edges) -> tuple[Ints, Edges, Ints]:
    """Put arcs of the terminals into the gains."""
    low, high = np.zeros(gain.size, bool), np.zeros(gain.size, bool)
    low[LOW], high[HIGH] = True, True
    gain, edges = _settle(gain, edges, low, high)
    return _renumber(gain, edges, ~(low | high))


def _settle(gain: Ints, edges: Edges, low: Bools, high: Bools) -> tuple[Ints, Edges]:
    """Gains once some nodes are decided, and the edges between the others."""
    gain = gain.copy()
    paid_by_high, paid_by_low = low[edges.first], high[edges.second]
    np.add.at(gain, edges.second[paid_by_high], edges.price[paid_by_high])
    np.subtract.at(gain, edges.first[paid_by_low], edges.price[paid_by_low])
    decided = low | high
    return gain, edges.where(~(decided[edges.first] | decided[edges.second]))


def _renumber(gain: Ints, edges: Edges, kept: Bools) -> tuple[Ints, Edges, Ints]:
    numbers = np.cumsum(kept) - 1
    return gain[kept], Edges(numbers[edges.first], numbers[edges.second], edges.price), np.flatnonzero(kept)


def _reduce(gain: Ints, edges: Edges) -> tuple[Round, Ints, Edges]:
    """Decide every node whose gain outweighs its edges, then eliminate nodes that have few neighbours."""
    size = gain.size
    low, high = _dominated(gain, edges)
    gain, edges = _settle(gain, edges, low, high)
    gain, edges, eliminated = _eliminate(gain, edges)
    gone = low | high
    gone[eliminated.nodes] = True
    gain, edges, kept = _renumber(gain, edges, ~gone)
    return Round(size, np.flatnonzero(low), eliminated, kept), gain, edges


def _dominated(gain: Ints, edges: Edges) -> tuple[Bools, Bools]:
    """Nodes that are low, and that are high, in the smallest minimum cut whatever their neighbours are.

    Low needs a gain above all that being low can cost; equality leaves a node high, since the fewest are wanted.
    """
    out, into = np.zeros_like(gain), np.zeros_like(gain)
    np.add.at(out, edges.first, edges.price)
    np.add.at(into, edges.second, edges.price)
    return gain > out, gain + into <= 0


def _eliminate(gain: Ints, edges: Edges) -> tuple[Ints, Edges, Elimination]:
    """Minimise over nodes of at most two neighbours, no two of them adjacent.

    Such a node v changes the total by min(0, threshold - weights of its low neighbours): a function of two nodes,
    submodular again, so an edge between them and their gains can carry it.
    """
    chosen = _independent(gain.size, edges)
    if not chosen.any():
        return gain, edges, _nothing()
    gain, step = gain.copy(), _neighbourhoods(gain, edges, chosen)
    inward = chosen[edges.second]
    np.subtract.at(gain, edges.first[inward], edges.price[inward])  # v high: its low tails pay
    (x, y), (a, b) = step.neighbours.T, step.weights.T
    neither, only_x, only_y = (np.minimum(0, step.threshold - weight) for weight in (0, a, b))
    both = np.minimum(0, step.threshold - a - b)
    np.subtract.at(gain, x, both - only_y)
    np.subtract.at(gain, y, only_y - neither)
    swap, bridge = x > y, only_x + only_y - neither - both  # x -> y
    np.add.at(gain, x[swap], -bridge[swap])
    np.add.at(gain, y[swap], bridge[swap])
    rest = edges.where(~(chosen[edges.first] | inward))
    first = np.concatenate([rest.first, np.minimum(x, y)])
    second = np.concatenate([rest.second, np.maximum(x, y)])
    return gain, _merged(gain.size, first, second, np.concatenate([rest.price, bridge])), step


def _independent(size: int, edges: Edges) -> Bools:
    """Nodes of one or two neighbours, no two adjacent: of two rivals the first in a fixed shuffle stays."""
    degree = np.bincount(edges.first, minlength=size) + np.bincount(edges.second, minlength=size)
    chosen: Bools = (degree == 1) | (degree == 2)
    rank = (np.arange(size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(20)
    rivals = edges.where(chosen[edges.first] & chosen[edges.second])
    ahead = rank[rivals.first] < rank[rivals.second]
    chosen[np.where(ahead, rivals.second, rivals.first)] = False
    return chosen


def _neighbourhoods(gain: Ints, edges: Edges, chosen: Bools) -> Elimination:
    """Threshold, neighbours and weights of the chosen nodes; a single neighbour is listed twice, once at weight 0."""
    outward, inward = chosen[edges.first], chosen[edges.second]
    node = np.concatenate([edges.first[outward], edges.second[inward]])
    other = np.concatenate([edges.second[outward], edges.first[inward]])
    price = np.concatenate([edges.price[outward], edges.price[inward]])
    threshold = -gain
    np.add.at(threshold, edges.first[outward], edges.price[outward])
    order = np.argsort(node, kind="stable")
    nodes, starts, counts = np.unique(node[order], return_index=True, return_counts=True)
    last = starts + counts - 1
    neighbours = np.stack([other[order][starts], other[order][last]], axis=1)
    weights = np.stack([price[order][starts], np.where(counts == 2, price[order][last], 0)], axis=1)
    return Elimination(nodes, threshold[nodes], neighbours, weights)


def _nothing() -> Elimination:
    empty = np.zeros(0, np.int64)
    return Elimination(empty, empty, empty.reshape(0, 2), empty.reshape(0, 2))


def _restore(step: Round, low_of_kept: Bools) -> Bools:
    """Sides of all nodes of a round from those of the nodes it kept."""
    low = np.zeros(step.size, bool)
    low[step.kept], low[step.lows] = low_of_kept, True
    gone = step.eliminated
    low[gone.nodes] = gone.threshold < (gone.weights * low[gone.neighbours]).sum(axis=1)
    return low


def maximum_flow_side(gain: Ints, edges: Edges) -> Bools:
    """Nodes that can be reached from the source once no more flow gets through: the smallest low side."""
    low = np.zeros(gain.size, bool)
    if not edges.price.size:
        return gain > 0
    residual = _saturated(_capacities(gain, edges), gain.size)
    from scipy.sparse.csgraph import breadth_first_order

    residual.eliminate_zeros()
    reached = breadth_first_order(residual, gain.size, return_predecessors=False)
    low[reached[reached < gain.size]] = True
    return low


def _capacities(gain: Ints, edges: Edges) -> csr_array[np.int64]:
    """Arcs as a sparse matrix, the source and the sink being the last two rows.

    Half of every edge's price is turned round: the flow through the terminals is then the least.
    """
    from scipy.sparse import csr_array

    half, gain = edges.price // 2, gain.copy()
    np.subtract.at(gain, edges.first, half)
    np.add.at(gain, edges.second, half)
    nodes, source, sink = np.arange(gain.size), np.full(gain.size, gain.size), np.full(gain.size, gain.size + 1)
    tail = np.concatenate([edges.first, edges.second, source, nodes])
    head = np.concatenate([edges.second, edges.first, nodes, sink])
    price = np.concatenate([edges.price - half, half, np.maximum(gain, 0), np.maximum(-gain, 0)])
    return csr_array((price, (tail, head)), shape=(gain.size + 2, gain.size + 2))


def _saturated(residual: csr_array[np.int64], source: int) -> csr_array[np.int64]:
    """Residual of a maximum flow. Capacities beyond int32 are served coarse to fine: each step is a feasible flow."""
    from scipy.sparse.csgraph import maximum_flow

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
