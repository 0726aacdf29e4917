"""Value ranges: what constants and operators say about the numbers a value can hold.

One pass in topological order, one row of `range_table` per family of operators; what no row knows stays unknown. The
claims hold up to rounding in the value's own format, for runs in which no NaN appears (a NaN is one in either
precision) and no 64-bit integer of unknown range wraps around. Sizes come from modelled shapes, which a run may exceed,
so whatever depends on one is evidence and not proof.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ampgraph.graph import Constant, Op, PrecisionGraph, Value
from ampgraph.intervals import FLOAT_LIMITS, INF, INTEGER_LIMITS, Interval, Known, hull
from ampgraph.range_table import EVERY_OUTPUT, RULES

__all__ = ["Interval", "propagate"]

_NARROW = {dtype: Interval(ends[0], ends[1], integer=True) for dtype, ends in INTEGER_LIMITS.items() if ends[1] < 1e6}
_NARROW["bool"] = Interval(0.0, 1.0, integer=True)


def propagate(graph: PrecisionGraph, known: Mapping[str, Interval] | None = None) -> Mapping[str, Interval]:
    """Intervals by value id; an absent value is unknown. `known` (calibrated or given ranges) goes before all else."""
    given = known or {}
    ranges = _sources(graph) | dict(given)
    results = _body_results(graph)
    for op in _bodies_first(graph):
        found = _outputs(op, graph, ranges, results)
        for slot, interval in zip(op.outputs, found, strict=False) if found else ():
            if interval is None or not slot.value or slot.value in given:
                continue
            fitted = _fit(interval, graph.values[slot.value])
            if fitted is not None and (fitted.complete or slot.value not in ranges):
                ranges[slot.value] = fitted
    return ranges


def _outputs(
    op: Op, graph: PrecisionGraph, ranges: Mapping[str, Interval], results: Mapping[tuple[str, int], str]
) -> Sequence[Known]:
    if op.bodies:
        return _of_bodies(op, ranges, results)
    rules = RULES.get(op.type)
    if rules is not None:
        args = [ranges.get(slot.value) for slot in op.inputs]
        if len(op.outputs) == 1:
            return (rules[0](op, args, graph),)
        return [rule(op, args, graph) for rule, _ in zip(rules, op.outputs, strict=False)]
    return [ranges.get(op.inputs[0].value)] * len(op.outputs) if op.type in EVERY_OUTPUT else ()


# Before any operator is looked at: constants, and dtypes of few values


def _sources(graph: PrecisionGraph) -> dict[str, Interval]:
    ranges: dict[str, Interval] = {}
    for value in graph.values.values():
        interval = _of_constant(value.constant, value.dtype) if value.constant is not None else None
        interval = interval or (_NARROW.get(value.dtype) if value.kind == "tensor" else None)
        if interval is not None:
            ranges[value.id] = interval
    return ranges


def _of_constant(constant: Constant, dtype: str) -> Known:
    if constant.has_nan:
        return None
    if constant.has_infinity:  # its sign is not recorded
        return Interval(-INF, INF)
    scalar = constant.scalar
    integer = dtype in INTEGER_LIMITS or dtype == "bool" or (scalar is not None and float(scalar).is_integer())
    return Interval(float(constant.lowest), float(constant.highest), integer=integer)


# What a value's dtype does to a result


def _fit(interval: Interval, value: Value) -> Known:
    """The interval as the dtype can hold it: floats overflow to infinity and flush to zero, integers wrap around."""
    lo, hi = interval.lo, interval.hi
    if value.kind != "tensor" or not lo <= hi or (lo == -INF and hi == INF and interval.unbounded):
        return None
    limits = FLOAT_LIMITS.get(value.dtype)
    if limits is not None:
        largest, smallest = limits
        fits = (-largest <= lo or lo == -INF) and (hi <= largest or hi == INF) and lo <= 0 <= hi
        fits = fits or (smallest <= lo and hi <= largest) or (-largest <= lo and hi <= -smallest)
        return interval if fits else _fit_float(interval, largest, smallest)
    if value.dtype not in INTEGER_LIMITS:
        return interval if value.dtype == "bool" and lo >= 0 and hi <= 1 else None
    least_integer, most = INTEGER_LIMITS[value.dtype]
    wide = value.dtype.endswith("64") and interval.unbounded
    if (least_integer <= lo or (wide and lo == -INF)) and (hi <= most or (wide and hi == INF)):
        return interval if interval.integer else replace(interval, integer=True)
    return _NARROW.get(value.dtype)


def _fit_float(interval: Interval, largest: float, smallest: float) -> Known:
    lo, hi = interval.lo, interval.hi
    if not interval.complete:  # evidence of more than the largest number is evidence of that number
        lo, hi = (end if math.isinf(end) else min(max(end, -largest), largest) for end in (lo, hi))
        return replace(interval, lo=lo, hi=hi)
    over = -INF < lo < -largest or largest < hi < INF
    lo = -INF if lo < -largest else 0.0 if 0 < lo < smallest else min(lo, largest) if lo < INF else lo
    hi = INF if hi > largest else 0.0 if -smallest < hi < 0 else max(hi, -largest) if hi > -INF else hi
    if over and lo == -INF and hi == INF:
        return None
    return replace(interval, lo=lo, hi=hi, unbounded=interval.unbounded or over)


# Bodies


def _bodies_first(graph: PrecisionGraph) -> Iterator[Op]:
    """Ops in topological order, an op after the ops of the bodies it owns."""
    scopes: dict[str, list[Op]] = {}
    for each in graph.ops.values():
        scopes.setdefault(each.scope, []).append(each)
    pending: list[Iterator[Op]] = [iter(scopes.get("", ()))]
    owners: list[Op] = []
    while pending:
        op: Op | None = next(pending[-1], None)
        if op is None:
            pending.pop()
            if owners:
                yield owners.pop()
        elif op.bodies:
            owners.append(op)
            pending.append(iter([inner for body in op.bodies for inner in scopes.get(body, ())]))
        else:
            yield op


def _body_results(graph: PrecisionGraph) -> dict[tuple[str, int], str]:
    """Value ids by (body, index of the body's output)."""
    inner = (use for use in graph.uses if use.scope)
    return {(use.scope, use.slot): use.value for use in inner if graph.scopes[use.scope].owner == use.op}


def _of_bodies(op: Op, ranges: Mapping[str, Interval], results: Mapping[tuple[str, int], str]) -> list[Known]:
    """Outputs of If, Loop and Scan. A state ends as its initial value or a body's result, whatever it was before."""
    if op.type not in ("If", "Loop", "Scan"):
        return []
    skip = 1 if op.type == "Loop" else 0  # a Loop body's first output is its condition
    initial = _initial_values(op)
    found: list[Known] = []
    for index in range(len(op.outputs)):
        values = [results.get((body, index + skip), "") for body in op.bodies]
        found.append(hull([ranges.get(value) for value in values + initial[index : index + 1]]))
    return found


def _initial_values(op: Op) -> list[str]:
    inputs = [slot.value for slot in op.inputs]
    if op.type == "Loop":
        return inputs[2:]
    scanned = op.attributes.get("num_scan_inputs")
    if op.type == "Scan" and isinstance(scanned, int):
        return inputs[1 if op.version < 9 else 0 : len(inputs) - scanned]
    return []
