"""What fusing changed between two plans: nodes that one has apart and the other as part of one node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ampgraph.inspection.recorded_plan import Line, Recorded, ground

Side = Literal["first", "second"]


@dataclass(frozen=True, slots=True)
class FusedChange:
    """Decisions of nodes that are part of fused nodes in the other plan, and came to the same there.

    `before` and `after` speak of the first of them, in the order of the two plans; their `why` is an example.
    """

    type: str  # of the fused nodes
    side: Side  # the plan that has the fused nodes
    nodes: tuple[str, ...]  # the fused ones
    before: Line
    after: Line
    decisions: tuple[str, ...]  # of the plan that has the nodes apart

    @property
    def is_moved(self) -> bool:
        """Whether fusing came with another precision."""
        return self.before.precision != self.after.precision


class _Part(NamedTuple):
    """A decision of a node that is part of a fused one."""

    type: str
    side: Side
    node: str
    before: Line
    after: Line
    decision: str


def fused_changes(first: Recorded, second: Recorded) -> tuple[FusedChange, ...]:
    """What became part of what, those with another precision first, then by their number."""
    groups: dict[tuple[object, ...], list[_Part]] = {}
    for part in (*_parts(second, first, "second"), *_parts(first, second, "first")):
        key = (part.type, part.side, *_kind(part.before), *_kind(part.after))
        groups.setdefault(key, []).append(part)
    found = map(_change, groups.values())
    return tuple(sorted(found, key=lambda each: (not each.is_moved, -len(each.decisions))))


def _change(parts: Sequence[_Part]) -> FusedChange:
    one, nodes = parts[0], dict.fromkeys(each.node for each in parts)
    decisions = tuple(each.decision for each in parts)
    return FusedChange(one.type, one.side, tuple(nodes), one.before, one.after, decisions)


def _kind(line: Line) -> tuple[str, ...]:
    return (line.precision, *ground(line))


def _parts(fused: Recorded, apart: Recorded, side: Side) -> Iterator[_Part]:
    """What `apart` has of what nodes of `fused` stand for; each decision with the first node that does."""
    theirs, ours = _by_node(apart), _by_node(fused)
    told: set[str] = set()
    for node, replacement in fused.replaced.items():
        if node in theirs or not ours.get(node):
            continue
        line = fused.decisions[ours[node][0]]
        for name in replacement.nodes:
            for decision in theirs.get(name, ()) if name not in ours else ():
                if decision not in told:
                    told.add(decision)
                    pair = (apart.decisions[decision], line)
                    before, after = pair if side == "second" else pair[::-1]
                    yield _Part(replacement.type, side, node, before, after, decision)


def _by_node(plan: Recorded) -> Mapping[str, list[str]]:
    """Decisions by node."""
    found: dict[str, list[str]] = {}
    for decision in plan.decisions:
        found.setdefault(plan.node_of(decision), []).append(decision)
    found.pop("", None)
    return found
