"""Moments: when a value goes wrong, so that the first of them can be told where a loop feeds itself.

In a loop, what stands first in the body may go wrong only at the second step, by what came last at the first one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ampgraph.graph import Op, PrecisionGraph
from ampgraph.inspection.comparison import Difference
from ampgraph.inspection.verdict import Moment, Moments
from ampgraph.onnx_model.inventory import LOOPS


def moments(graph: PrecisionGraph, values: Iterable[Difference]) -> Mapping[str, Moments]:
    """By value id, when it went wrong. An error of finite numbers is of all steps, and counts as of the first."""
    positions = {op: position for position, op in enumerate(graph.ops)}
    return {
        value.value: Moments(
            _moment(graph, positions, value, value.at if value.overflowed or value.mismatch else ()),
            _moment(graph, positions, value, value.flushed_at),
        )
        for value in values
    }


def _moment(graph: PrecisionGraph, positions: Mapping[str, int], value: Difference, at: tuple[int, ...]) -> Moment:
    op, steps = graph.ops[value.node], iter(at)
    key: list[float] = []
    for owner in _owners(graph, op):
        key += [positions[owner.id], next(steps, 0) if owner.type in LOOPS else 0]
    return (*key, positions[op.id], math.inf if op.bodies else 0, value.order)


def _owners(graph: PrecisionGraph, op: Op) -> list[Op]:
    """The ops in whose bodies an op stands, the outermost first."""
    found: list[Op] = []
    while op.scope:
        op = graph.ops[graph.scopes[op.scope].owner]
        found.insert(0, op)
    return found
