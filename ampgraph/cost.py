"""The cost model: prices of a graph's decisions and casts, in time, bytes or points, always whole numbers.

`speed` is a roofline. An op costs a launch plus the longer of its arithmetic and its traffic; float32 matrix products
run at TF32 where the device has it. What low precision gains is credited with reserve (constants below), because
kernels reach less of their roofline in low precision, and a plan slower than the model it came from is worth nothing.
Measured times, where there are any, stand for themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from ampgraph.costs import Costs
from ampgraph.devices import Device, device_named, load_devices
from ampgraph.fusable import absorbed
from ampgraph.graph import Decision, Op, PrecisionGraph, Value
from ampgraph.measured import MeasuredCosts
from ampgraph.own_kernels import NONE as NO_KERNELS
from ampgraph.own_kernels import OwnKernels
from ampgraph.precision import FORMATS, Precision
from ampgraph.work import FEW_CHANNELS, Kind, Work, elements_of, is_view, work_of

__all__ = ["Device", "Objective", "count_measured", "device_named", "load_devices", "modelled_milliseconds", "price"]

Objective = Literal["speed", "memory", "coverage"]

_PICOSECONDS = 1e12
_HIGH_BYTES, _LOW_BYTES = 4, 2

# The part of a modelled gain that is credited. With these, float16's part of TF32's time on one H100, modelled against
# measured: ResNet-50 at batch 32 0.69 against 0.63; PP-OCRv4 at batch 16 det (640 x 640) 0.72 against 0.75, rec (48 x
# 320) 0.85 against 0.72 and 0.94. Recurrent cells wait for one small product after the other.
_CREDIT = {
    Kind.MEMORY: 0.8,
    Kind.MATRIX: 0.8,
    Kind.ATTENTION: 0.8,
    Kind.CONVOLUTION: 0.8,
    Kind.GROUPED: 0.8,
    Kind.NORM: 0.8,
    Kind.SKIP_NORM: 0.8,
    Kind.RECURRENT: 0.3,
}
# Of a launch: a kernel this short takes its time to start and to end, in either precision, so a gain must exceed it. In
# CUDA graphs little is hidden: on one H100 PP-OCRv4 rec at batch 1 took 9.5 % less; this says 6.7, with 0.2 2.2.
_UNSEEN_GAIN, _UNSEEN_IN_GRAPHS = 0.2, 0.05
# Convolutions on tensor cores work on another layout than ONNX's: kernels before and after change it, where sessions do
# not keep channels last all the way. At small sizes float32 ones do without, so low precision pays the launches. On one
# H100, TF32 and float16, plain sessions: ResNet-50 at batch 32 4.7 and 2.95 ms, PP-OCRv4 det at batch 1 3.4 and 4.4 ms.
_LAYOUT_PASSES = 0.25
_LAYOUT_LAUNCHES = 0.25
# Grouped (depthwise) convolutions run outside the tensor cores, at so much of the plain rate. On one H100, batch 32,
# TFLOP/s in float32 and float16: 7 x 7 on 96 x 56 x 56 2.8 and 13, on 384 x 14 x 14 2.8 and 10; 5 x 5 on 240 x 28 x 28
# 12 in float16. 3 x 3 on 96 x 112 x 112 is bound by its traffic.
_GROUPED_HIGH, _GROUPED_LOW = 0.09, 0.33
# Their bias takes a kernel of its own, at this part of the bandwidth; so does any bias in float32. On one H100, 96 x
# 112 x 112 at batch 32: 144 us in float32, 149 in float16.
_BIAS_HIGH, _BIAS_LOW = 0.8, 0.38
# With few channels there is nothing for tensor cores to work on, and cuDNN's kernels with a bias inside reach this part
# of the matrix rate: ResNet's first convolution at batch 32, float16, on one H100 426 us, 60 without the bias.
_FEW_RATE = 0.035
# So many elements of a result keep a large GPU busy. A convolution with a bias that makes fewer gains next to nothing
# in low precision: ResNet-50 at batch 1 on one H100, as a CUDA graph, 0.54 ms in TF32 and 0.52 in float16. Launches
# of plain runs hide that.
_FILLING = 1 << 20
# Normalizations move their data so often, and take so long for a row, in seconds. On one H100, microseconds, float16:
# LayerNormalization of 100,352 x 96 93, 25,088 x 192 44, 6,304 x 768 19; SkipLayerNormalization 62, 17, 7 to 11.
_NORM_PASSES = {Kind.NORM: 2.5, Kind.SKIP_NORM: 1.0}
_NORM_ROW = {Kind.NORM: 0.6e-9, Kind.SKIP_NORM: 0.5e-9}
# Fused attention: the part of the matrix rate that it reaches in low precision, and of the plain rate in float32, where
# onnxruntime's kernels do without tensor cores. On one H200, 197 to 4,096 tokens: 141 to 284 and 14 to 21 TFLOP/s.
_ATTENTION_LOW, _ATTENTION_HIGH = 0.4, 0.5
# However few its tokens, a head of a sequence takes so many seconds. On one H100, 2,048 windows of 56 tokens, 3 heads:
# 163 microseconds.
_ATTENTION_HEAD = 26e-9
# Products in a precision without hardware are converted, computed in float32 and converted back.
_EMULATION = 0.5
# A precision in which an op was tried and did not run would mean copies to the CPU: more than any gain around it.
_NO_KERNEL = 10

# Points. A cast counts 8, so that it still counts under the frequencies 0.5 and 0.125 of nested branches.
_POINTS = {"allow": 100_000, "infer": 1_000}
_CAST_POINTS = 8


def price(
    graph: PrecisionGraph,
    objective: Objective,
    device: Device,
    precision: Precision,
    categories: Mapping[str, str] | None = None,
    measured: MeasuredCosts | None = None,
    own: OwnKernels = NO_KERNELS,
) -> Costs:
    """Prices for decide. `categories`, by decision id, are what `coverage` counts; the others do without.

    `measured`: times that take the roofline's place under `speed`, for the ops that it has and for casts. `own`: what
    kernels of ours compute in low precision, where nothing is measured.
    """
    if objective == "speed":
        return _speed(graph, device, precision, measured, own)
    if objective == "memory":
        return _memory(graph)
    return _coverage(graph, categories or {})


def modelled_milliseconds(picoseconds: int) -> float:
    """A price of the objective `speed` as a report shows it."""
    return picoseconds / 1e9


# speed


def _speed(
    graph: PrecisionGraph, device: Device, precision: Precision, measured: MeasuredCosts | None, own: OwnKernels
) -> Costs:
    high: dict[str, int] = {}
    low: dict[str, int] = {}
    known: dict[tuple[Work, bool], tuple[float, float]] = {}  # the layers of a model repeat
    free = absorbed(graph) if measured else frozenset[str]()
    inside = not _has_grouped_bias(graph)
    for decision in _principals(graph):
        op = graph.ops[decision.op]
        work = work_of(op, graph)
        if work.kind is Kind.VIEW or op.id in free:
            continue
        times = _measured_seconds(op, graph, precision, measured)
        if times is None:
            key = work, op.id in own.convolutions
            if key not in known:
                known[key] = _seconds(work, device, precision, inside, ours=key[1])
            times = (device.launch + known[key][0], device.launch + known[key][1])
        if op.id in own.carried:
            times = (times[0], 0.0)
        frequency = graph.scopes[op.scope].frequency * _PICOSECONDS
        high[decision.id] = round(times[0] * frequency)
        low[decision.id] = round(times[1] * frequency)
    casts = {value.id: round(_cast_seconds(value, device, measured) * _PICOSECONDS) for value in _castable(graph)}
    return Costs("picoseconds", high, low, casts, casts, {}, {})


def _measured_seconds(
    op: Op, graph: PrecisionGraph, precision: Precision, measured: MeasuredCosts | None
) -> tuple[float, float] | None:
    """Time in float32 and in low precision, None where float32 was not measured; never less than a launch."""
    times = measured.times_of(op, graph) if measured else None
    slow = times.get(Precision.FLOAT32) if times else None
    if measured is None or times is None or slow is None:
        return None
    fast = times.get(precision)
    return max(slow, measured.launch), max(_NO_KERNEL * slow if fast is None else fast, measured.launch)


def _cast_seconds(value: Value, device: Device, measured: MeasuredCosts | None) -> float:
    if measured is None:
        return device.launch + _traffic(value) / device.byte_rate
    return max(measured.launch, measured.cast.seconds(_traffic(value)))


def count_measured(graph: PrecisionGraph, measured: MeasuredCosts) -> tuple[int, int]:
    """How many of the ops that `speed` has a price for have a measured one, and how many there are."""
    free = absorbed(graph)
    ops = [graph.ops[decision.op] for decision in _principals(graph) if decision.op not in free]
    priced = [op for op in ops if work_of(op, graph).kind is not Kind.VIEW]
    return sum((measured.times_of(op, graph) or {}).get(Precision.FLOAT32) is not None for op in priced), len(priced)


def _principals(graph: PrecisionGraph) -> Iterator[Decision]:
    return (each for each in graph.decisions.values() if each.principal and each.kind == "op")


def _castable(graph: PrecisionGraph) -> Iterator[Value]:
    """Values that a cast may take: those that a decision produces. Constants are converted beforehand."""
    return (value for value in graph.values.values() if value.producer)


def _traffic(value: Value) -> int:
    return elements_of(value) * (_HIGH_BYTES + _LOW_BYTES)


def _has_grouped_bias(graph: PrecisionGraph) -> bool:
    """Whether a convolution in groups has a bias: a session then lets no convolution take its bias inside."""
    convolutions = (op for op in graph.ops.values() if op.type == "Conv")
    works = (work_of(op, graph) for op in convolutions)
    return any(work.kind is Kind.GROUPED and work.biased for work in works)


def _seconds(
    work: Work, device: Device, precision: Precision, bias_inside: bool, *, ours: bool = False
) -> tuple[float, float]:
    """Time after launch in float32 and in low precision, the latter with reserve. `ours`: by a kernel of our own."""
    hidden = device.launch > device.graph_launch  # small kernels behind launches
    slow = _roofline(work, device, Precision.FLOAT32, _HIGH_BYTES)
    slow += 2 * work.biased * _HIGH_BYTES / (device.byte_rate * _BIAS_HIGH)
    if work.kind is Kind.CONVOLUTION:
        slow += _LAYOUT_PASSES * work.layout * _HIGH_BYTES / device.byte_rate
    fast = _low_seconds(work._replace(biased=0, layout=0) if ours else work, device, precision, bias_inside)
    few = hidden and work.kind is Kind.CONVOLUTION and 0 < work.biased < _FILLING
    if fast >= slow or few:
        return slow, max(slow, fast)
    unseen = (_UNSEEN_GAIN if hidden else _UNSEEN_IN_GRAPHS) * device.launch
    return slow, slow - _CREDIT[work.kind] * max(0.0, slow - fast - unseen)


def _low_seconds(work: Work, device: Device, precision: Precision, bias_inside: bool) -> float:
    emulated = not device.matrix_rate(precision)
    fast = _roofline(work, device, precision, _HIGH_BYTES if emulated else _LOW_BYTES)
    if work.kind is Kind.GROUPED or not bias_inside:
        fast += 2 * work.biased * _LOW_BYTES / (device.byte_rate * _BIAS_LOW)
    if work.kind is Kind.CONVOLUTION and work.layout:
        fast += _LAYOUT_PASSES * work.layout * _LOW_BYTES / device.byte_rate + _LAYOUT_LAUNCHES * device.launch
    return fast


def _roofline(work: Work, device: Device, precision: Precision, size: int) -> float:
    traffic = (work.floats * size + work.other_bytes) / device.byte_rate
    if work.kind in _NORM_PASSES:
        return traffic * _NORM_PASSES[work.kind] + work.rows * _NORM_ROW[work.kind]
    if not work.operations:
        return traffic
    heads = work.rows * _ATTENTION_HEAD if work.kind is Kind.ATTENTION else 0.0
    return max(work.operations / (_rate(work, device, precision) or device.plain_rate * _EMULATION), traffic, heads)


def _rate(work: Work, device: Device, precision: Precision) -> float:
    """Operations a second that kernels of this kind reach; 0 where the device has none for the precision."""
    if work.kind is Kind.GROUPED:
        return device.plain_rate * (_GROUPED_HIGH if precision is Precision.FLOAT32 else _GROUPED_LOW)
    few = work.kind is Kind.CONVOLUTION and work.channels < FEW_CHANNELS and work.biased
    if few and precision is not Precision.FLOAT32:
        return device.matrix_rate(precision) * _FEW_RATE
    if work.kind is Kind.ATTENTION and precision is Precision.FLOAT32:
        return device.plain_rate * _ATTENTION_HIGH
    return device.matrix_rate(precision) * (_ATTENTION_LOW if work.kind is Kind.ATTENTION else 1.0)


# memory


def _memory(graph: PrecisionGraph) -> Costs:
    """Bytes of every value that is made, a value's copies by casts included; parameters once per precision."""
    owned = {value.id: elements_of(value) for value in _castable(graph)}
    high: dict[str, int] = {}
    low: dict[str, int] = {}
    for id, elements in owned.items():
        value = graph.values[id]
        if not value.op or not is_view(graph.ops[value.op]):
            high[value.producer] = high.get(value.producer, 0) + elements * _HIGH_BYTES
            low[value.producer] = low.get(value.producer, 0) + elements * _LOW_BYTES
    down = {id: max(elements * _LOW_BYTES, 1) for id, elements in owned.items()}
    up = {id: max(elements * _HIGH_BYTES, 1) for id, elements in owned.items()}
    constants = {id: graph.values[id] for id in graph.uses_of if graph.values[id].constant is not None}
    held = {id: value for id, value in constants.items() if value.dtype in FORMATS}
    keep_high = {id: elements_of(value) * FORMATS[Precision(value.dtype)].bytes for id, value in held.items()}
    keep_low = {id: elements_of(value) * _LOW_BYTES for id, value in held.items()}
    return Costs("bytes", high, low, down, up, keep_high, keep_low)


# coverage


def _coverage(graph: PrecisionGraph, categories: Mapping[str, str]) -> Costs:
    """Points for what is left high: more than all casts at its slots together, so casts never outweigh a decision."""
    casts = dict.fromkeys((value.id for value in _castable(graph)), _CAST_POINTS)
    around = _casts_around(graph, casts)
    points = {id: _POINTS.get(category, 0) for id, category in categories.items()}
    high = {id: max(worth, around.get(id, 0) + 1) for id, worth in points.items() if worth}
    return Costs("points", high, {}, casts, casts, {}, {})


def _casts_around(graph: PrecisionGraph, casts: Mapping[str, int]) -> dict[str, int]:
    """At most what a decision's casts cost: one for each of its uses, one for each scope that uses what it makes."""
    found: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for use in graph.uses:
        points = round(casts.get(use.value, 0) * max(graph.scopes[use.scope].frequency, 1.0))
        found[use.decision] = found.get(use.decision, 0) + points
        if (use.value, use.scope) not in seen:
            seen.add((use.value, use.scope))
            producer = graph.values[use.value].producer
            found[producer] = found.get(producer, 0) + points
    return found
