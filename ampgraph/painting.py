"""List painting as TensorFlow's grappler does it, on legal decisions only: the baseline that the cut must not exceed.

Prices play no part. Allowed ops become low; infer and clear ops do when they lie between low ones; clear ops do when a
low one is beside them; what breaks a tie or an implication is taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ampgraph.bounds import find_bounds, implications_of
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Category, Judgement

Neighbours = Mapping[str, list[str]]


def paint(graph: PrecisionGraph, judgement: Judgement) -> frozenset[str]:
    """Ids of the decisions that painting has low; an assignment that every verdict and link admits."""
    bounds, pairs = find_bounds(graph, judgement), implications_of(graph, judgement)
    after, before = _neighbours(graph)
    legal = {id: judgement.verdicts[id].category for id in graph.decisions if id not in bounds.never}
    allowed = {id for id, category in legal.items() if category is Category.ALLOW}
    through = {id for id, category in legal.items() if category in (Category.INFER, Category.CLEAR)}
    between = through & _spread(allowed, after, through) & _spread(allowed, before, through)
    low = allowed | between | set(bounds.must)
    clear = {id for id in through if legal[id] is Category.CLEAR}
    low |= _spread(low, after, clear) | _spread(low, before, clear)
    return frozenset(_repaired(low, pairs))


def _neighbours(graph: PrecisionGraph) -> tuple[Neighbours, Neighbours]:
    """Decisions downstream and upstream of each."""
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for tail, head in _edges(graph):
        after.setdefault(tail, []).append(head)
        before.setdefault(head, []).append(tail)
    return after, before


def _edges(graph: PrecisionGraph) -> Iterable[tuple[str, str]]:
    for use in graph.uses:
        producer = graph.values[use.value].producer
        if producer:
            yield producer, use.decision
    for op in graph.ops.values():
        outputs = {slot.decision for slot in op.outputs if slot.decision}
        for slot in op.inputs:
            yield from ((slot.decision, output) for output in outputs if slot.decision and output != slot.decision)


def _spread(seeds: Collection[str], neighbours: Neighbours, through: Collection[str]) -> set[str]:
    """The seeds and all that is reached from them over members of `through`."""
    found, stack = set(seeds), sorted(seeds)
    while stack:
        for other in neighbours.get(stack.pop(), ()):
            if other in through and other not in found:
                found.add(other)
                stack.append(other)
    return found


def _repaired(low: set[str], pairs: Iterable[tuple[str, str]]) -> set[str]:
    """The largest part of an assignment in which everything that a low decision requires is low too."""
    requiring: dict[str, list[str]] = {}
    for first, second in pairs:
        requiring.setdefault(second, []).append(first)
    kept = set(low)
    stack = [id for id in requiring if id not in kept]
    while stack:
        for first in requiring.get(stack.pop(), ()):
            if first in kept:
                kept.discard(first)
                stack.append(first)
    return kept
