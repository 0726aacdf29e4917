"""Prices of a training step: forward and backward, casts and the casts back of their gradients, parameters as well.

A roofline as in `cost`, without what is onnxruntime's. A product's backward is two products; a cast's is a cast. A
parameter's low copy costs a cast for each step and one of its gradient, whoever takes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from ampgraph.costs import Costs
from ampgraph.devices import Device
from ampgraph.graph import Decision, PrecisionGraph, Value
from ampgraph.precision import Precision
from ampgraph.work import Kind, Work, elements_of, work_of

_PICOSECONDS = 1e12
_HIGH_BYTES, _LOW_BYTES = 4, 2
# Kernels and traffic of forward and backward together, in those of forward.
_BACKWARD_PRODUCT = 3.0  # the product, and one for the gradient of each operand
_BACKWARD_OTHER = 3.0  # reads what forward read and made, writes a gradient
_LAUNCHES = 2.0
_CASTS = 2.0  # there, and back for the gradient
# Of a launch: copies of parameters are made by fewer kernels than there are parameters.
_COPY_LAUNCH = 0.25
_ATTENTION_HIGH = 0.5  # of the plain rate: fused float32 attention does without tensor cores
_GROUPED_HIGH, _GROUPED_LOW = 0.09, 0.33  # see cost.py
# What low precision gains on other than products is credited with reserve, as in cost.py.
_CREDIT = 0.8


def price_training(
    graph: PrecisionGraph, device: Device, precision: Precision, worthwhile: Collection[str] = ()
) -> Costs:
    """Prices in picoseconds of one step with one micro-step.

    `worthwhile`: decisions that go low wherever that is legal, whatever the casts around them take: what a trainer
    means who asks for mixed precision, and what a tiny example batch must not talk a plan out of.
    """
    high, low = dict[str, int](), dict[str, int]()
    for decision in _principals(graph):
        slow, fast = _seconds(work_of(graph.ops[decision.op], graph), device, precision)
        high[decision.id], low[decision.id] = _picoseconds(slow), _picoseconds(fast)
    casts = {value.id: _cast(value, device) for value in graph.values.values() if value.producer}
    constants = (graph.values[id] for id in graph.uses_of if graph.values[id].constant is not None)
    copies = {value.id: _copy(value, device) for value in constants if value.shape != ()}
    around = _casts_around(graph, casts, copies) if worthwhile else {}
    for id in worthwhile:
        floor = low.get(id, 0) + around.get(id, 0) + 1
        high[id] = max(high.get(id, 0), floor)
    return Costs("picoseconds", high, low, casts, casts, {}, copies)


def _principals(graph: PrecisionGraph) -> Iterator[Decision]:
    return (each for each in graph.decisions.values() if each.principal and each.kind == "op")


def _picoseconds(seconds: float) -> int:
    return round(seconds * _PICOSECONDS)


def _cast(value: Value, device: Device) -> int:
    traffic = elements_of(value) * (_HIGH_BYTES + _LOW_BYTES)
    return _picoseconds(_CASTS * (device.launch + traffic / device.byte_rate))


def _copy(value: Value, device: Device) -> int:
    traffic = elements_of(value) * (_HIGH_BYTES + _LOW_BYTES)
    return _picoseconds(_CASTS * (_COPY_LAUNCH * device.launch + traffic / device.byte_rate))


def _seconds(work: Work, device: Device, precision: Precision) -> tuple[float, float]:
    """Forward and backward in float32 and in low precision."""
    if work.kind is Kind.VIEW:
        return 0.0, 0.0
    times = _BACKWARD_PRODUCT if work.operations else _BACKWARD_OTHER
    slow = _roofline(work, device, Precision.FLOAT32, _HIGH_BYTES) * times
    fast = _roofline(work, device, precision, _LOW_BYTES) * times
    launches = _LAUNCHES * device.launch
    return launches + slow, launches + slow - _CREDIT * (slow - fast)


def _roofline(work: Work, device: Device, precision: Precision, size: int) -> float:
    traffic = (work.floats * size + work.other_bytes) / device.byte_rate
    return max(work.operations / _rate(work, device, precision), traffic) if work.operations else traffic


def _rate(work: Work, device: Device, precision: Precision) -> float:
    is_high = precision is Precision.FLOAT32
    if work.kind is Kind.GROUPED:
        return device.plain_rate * (_GROUPED_HIGH if is_high else _GROUPED_LOW)
    if work.kind is Kind.ATTENTION and is_high:
        return device.plain_rate * _ATTENTION_HIGH
    return device.matrix_rate(precision) or device.plain_rate


def _casts_around(graph: PrecisionGraph, casts: Mapping[str, int], copies: Mapping[str, int]) -> dict[str, int]:
    """At most what it takes to have a decision low: casts of what it reads and makes, copies of parameters."""
    found: dict[str, int] = {}
    made: set[str] = set()
    for use in graph.uses:
        amount = casts.get(use.value, 0) + copies.get(use.value, 0)
        found[use.decision] = found.get(use.decision, 0) + amount
        if use.value not in made:
            made.add(use.value)
            producer = graph.values[use.value].producer
            found[producer] = found.get(producer, 0) + amount
    return found
