"""Islands: nodes next to each other that stay in float32, each island with the reason that it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ampgraph.inspection.document import Graph, Hold, Island, Node
from ampgraph.precision import Precision

FOLLOWS, FOUND = "taint", "source"
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
    holds = _holds(members, reason)
    return Island(ids, dict(types.most_common()), reason.cause, reason.rule, reason.why, time, holds)


def _holds(members: Sequence[Node], telling: Node) -> tuple[Hold, ...]:
    """What holds nodes by itself, a rule or another cause; all follow from elsewhere where there is none."""
    own = [node for node in members if node.cause != FOLLOWS] or [telling]
    counted = Counter(map(_ground, own))
    first: dict[tuple[str, int, str], Node] = {}
    for node in (telling, *own):
        first.setdefault(_ground(node), node)
    ordered = sorted(first, key=lambda each: (each != _ground(telling), -counted[each]))
    return tuple(Hold(each[0], each[1], first[each].why, counted[each]) for each in ordered)


def _ground(node: Node) -> tuple[str, int, str]:
    """What tells holds apart: a rule, else the sentence. All prices are one reason, and so is that nobody decided."""
    if node.cause in (BY_PRICE, FOUND):
        return node.cause, -1, ""
    return node.cause, node.rule, "" if node.rule >= 0 else node.why


def _telling(members: Sequence[Node]) -> Node:
    """The first node with a reason of its own, rather than one taken from a neighbour; an island that low precision
    would not pay for is told by its dearest node.
    """
    left = [node for node in members if node.cause == BY_PRICE]
    if sum(node.high or 0.0 for node in left) > MOSTLY * sum(node.high or 0.0 for node in members):
        return max(left, key=lambda node: node.high or 0.0)
    return min(members, key=lambda node: OWN.index(node.cause) if node.cause in OWN else len(OWN))
