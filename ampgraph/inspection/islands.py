"""Islands: nodes next to each other that stay in float32, each island with the reason that it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ampgraph.inspection.document import Graph, Island, Node
from ampgraph.precision import Precision

BY_PRICE, MOSTLY = "cost", 0.8  # of an island's price: so much of it left by price is an island left by price
OWN = ("rule", "range", "parameter", "kernel", "unknown", "user", "pin", "taint", "source", "cost")


def find_islands(graph: Graph) -> tuple[Island, ...]:
    """The islands of a picture, those that take the most time first."""
    nodes = [node for node in graph.nodes if node.kind == "op" and node.precision == Precision.FLOAT32]
    islands = [_island(members) for members in _neighbours(nodes)]
    return tuple(sorted(islands, key=lambda island: (-island.time, -len(island.nodes))))


def _neighbours(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes in groups that share a value which one of them makes."""
    parents = list(range(len(nodes)))

    def top(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    makers = {value: place for place, node in enumerate(nodes) for value in node.outputs if value}
    for place, node in enumerate(nodes):
        for value in node.inputs:
            if value in makers:
                parents[top(place)] = top(makers[value])
    groups: dict[int, list[Node]] = {}
    for place, node in enumerate(nodes):
        groups.setdefault(top(place), []).append(node)
    return list(groups.values())


def _island(members: Sequence[Node]) -> Island:
    reason = _telling(members)
    types = Counter(node.type for node in members)
    time = sum(node.high or 0.0 for node in members)
    ids = tuple(node.id for node in members)
    return Island(ids, dict(types.most_common()), reason.cause, reason.rule, reason.why, time)


def _telling(members: Sequence[Node]) -> Node:
    """The first node with a reason of its own, rather than one taken from a neighbour; an island that low precision
    would not pay for is told by its dearest node.
    """
    left = [node for node in members if node.cause == BY_PRICE]
    if sum(node.high or 0.0 for node in left) > MOSTLY * sum(node.high or 0.0 for node in members):
        return max(left, key=lambda node: node.high or 0.0)
    return min(members, key=lambda node: OWN.index(node.cause) if node.cause in OWN else len(OWN))
