"""The cut on bare arc networks: every enumeration and networkx agree with it."""

from __future__ import annotations

import time
from itertools import product
from random import Random

import networkx as nx
import numpy as np
import pytest

from ampgraph.cut import HIGH, LOW, Network, minimum_cut
from tests.clock import fresh_heap


def network(gain: list[int], arcs: list[tuple[int, int, int]]) -> Network:
    tail, head, price = np.array(arcs, np.int64).reshape(-1, 3).T
    return Network(np.array(gain, np.int64), tail, head, price)


def price_of(net: Network, low: np.ndarray) -> int:
    """What a cut pays for arcs, and for the gains it leaves."""
    paid = net.price[low[net.tail] & ~low[net.head]].sum()
    return int(paid) + int(np.where(low, np.maximum(-net.gain, 0), np.maximum(net.gain, 0))[2:].sum())


def random_network(random: Random, nodes: int, arcs: int, largest: int, spread: int = 4) -> Network:
    gain = [0, 0, *(random.randint(-largest, largest) for _ in range(nodes))]
    ends = [random.randrange(nodes + 2) for _ in range(arcs)]
    near = [min(max(end + random.randint(-spread, spread), 0), nodes + 1) for end in ends]
    return network(gain, [(a, b, random.randint(0, largest)) for a, b in zip(ends, near, strict=True)])


def smallest_by_enumeration(net: Network) -> np.ndarray:
    cuts = [np.array([True, False, *bits]) for bits in product([False, True], repeat=net.gain.size - 2)]
    return min(cuts, key=lambda low: (price_of(net, low), low.sum()))


def flow_value(net: Network) -> int:
    graph = nx.DiGraph()
    graph.add_nodes_from([LOW, HIGH])
    arcs = [(int(a), int(b), int(c)) for a, b, c in zip(net.tail, net.head, net.price, strict=True)]
    for node, gain in enumerate(net.gain.tolist()[2:], start=2):
        arcs += (LOW, node, max(gain, 0)), (node, HIGH, max(-gain, 0))
    for tail, head, price in arcs:
        before = graph.get_edge_data(tail, head, {"capacity": 0})["capacity"]
        graph.add_edge(tail, head, capacity=before + price)
    return int(nx.maximum_flow_value(graph, LOW, HIGH, flow_func=nx.algorithms.flow.boykov_kolmogorov))


@pytest.mark.parametrize("largest", [2, 50, 1 << 20, 1 << 40], ids=["ties", "small", "millions", "beyond int32"])
def test_every_cut_is_the_smallest_of_the_cheapest(largest: int) -> None:
    random = Random(largest)
    for _ in range(60):
        nodes = random.randint(0, 8)
        net = random_network(random, nodes, random.randint(0, 3 * nodes), largest)
        assert minimum_cut(net).tolist() == smallest_by_enumeration(net).tolist()


@pytest.mark.parametrize("largest", [20, 1 << 44])
def test_large_cuts_cost_what_networkx_finds(largest: int) -> None:
    random = Random(largest)
    for arcs in (300, 600, 1500):
        net = random_network(random, 300, arcs, largest)
        assert price_of(net, minimum_cut(net)) == flow_value(net)


def test_capacities_beyond_int32_reach_scipy_in_parts() -> None:
    """A complete graph leaves nothing to reduce; one unit beyond 2**40 decides."""
    size, huge = 12, 1 << 40
    arcs = [(a, b, huge) for a in range(2, size) for b in range(2, size) if a != b]
    gains = [huge * (1 if node % 2 else -1) for node in range(size)]
    assert not minimum_cut(network(gains, arcs))[2:].any()
    gains[3] += 1
    assert minimum_cut(network(gains, arcs))[2:].all()


def test_equal_cuts_leave_the_fewest_low() -> None:
    assert minimum_cut(network([0, 0, 5, -5], [(2, 3, 9)])).tolist() == [True, False, False, False]
    assert minimum_cut(network([0, 0, 5, -4], [(2, 3, 9)])).tolist() == [True, False, True, True]


def test_terminals_pull_through_arcs() -> None:
    assert minimum_cut(network([0, 0, 0], [(LOW, 2, 3), (2, HIGH, 2)])).tolist() == [True, False, True]
    assert minimum_cut(network([0, 0, 0], [(LOW, 2, 3), (2, HIGH, 3)])).tolist() == [True, False, False]


def test_empty_network() -> None:
    assert minimum_cut(network([0, 0], [])).tolist() == [True, False]


def test_prices_that_could_overflow_are_refused() -> None:
    with pytest.raises(OverflowError, match="sum to less than"):
        minimum_cut(network([0, 0, 1], [(LOW, 2, 1 << 62)]))
    with pytest.raises(OverflowError, match="must be positive"):
        minimum_cut(network([0, 0, 1], [(LOW, 2, -1)]))


@pytest.mark.parametrize("price", [3, 300, 1_000_000])
def test_long_two_sided_chains_take_no_quadratic_time(price: int) -> None:
    """Dinic alone takes 27 s at this length."""
    random, size = Random(price), 50_000
    gain = [0, 0, *(random.randint(1, 100) * (1 if node < size / 2 else -1) for node in range(size))]
    arcs = [(node, node + 1, price) for node in range(2, size + 1)] + [
        (node + 1, node, price) for node in range(2, size)
    ]
    with fresh_heap():
        start = time.process_time()
        low = minimum_cut(network(gain, arcs))
        assert time.process_time() - start < 3
    assert low[2 : size // 2].all() or price > 3
