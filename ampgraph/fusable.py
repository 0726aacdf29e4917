"""Patterns that onnxruntime fuses when it opens a model, and that a cast in the wrong place turns against us.

Layer normalization (onnxruntime's LayerNormFusion): ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add becomes
one LayerNormalization that reads what feeds the pattern, looking through a cast, and takes scale and bias as they
are. With a low input and a float32 scale the fused node is ill-typed and the session does not open; with both low it
is the fast and safe kernel, which computes in float32 inside.

Constants after a convolution (ConvBNFusion, ConvAddFusion, ConvMulFusion): a normalization by constants, a constant per
channel added or multiplied become part of the weights, and take no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ampgraph.costs import Costs
from ampgraph.graph import Op, PrecisionGraph
from ampgraph.work import FEW_CHANNELS


@dataclass(frozen=True, slots=True)
class Normalization:
    """A decomposed layer normalization, as decision and value ids."""

    source: str  # the value that is normalized
    normalized: str  # the quotient, before scale and bias
    affine: tuple[str, ...]  # decisions of the multiplication by scale and the addition of bias


def normalizations(graph: PrecisionGraph) -> tuple[Normalization, ...]:
    """Every decomposed layer normalization of a graph, in order."""
    readers = _readers(graph)
    found = (_normalization(graph, readers, op) for op in graph.ops.values() if op.type == "Div")
    return tuple(pattern for pattern in found if pattern is not None)


def ties(graph: PrecisionGraph, patterns: tuple[Normalization, ...]) -> Iterator[tuple[str, str]]:
    """Scale and bias keep the precision of what is normalized."""
    for pattern in patterns:
        producer = graph.values[pattern.source].producer
        for decision in pattern.affine:
            if producer:
                yield producer, decision


def absorbed(graph: PrecisionGraph) -> frozenset[str]:
    """Ids of the ops that become part of a convolution's weights."""
    tails: set[str] = set()  # values that a convolution and what it absorbed make, for one reader
    found: set[str] = set()
    for op in graph.ops.values():
        if op.type == "Conv":
            follows = _is_constant(graph, op.inputs[1].value)
        else:
            follows = op.type in _ABSORBED and _follows(graph, op, tails)
            found.update([op.id] if follows else [])
        if follows and len(graph.uses_of.get(op.outputs[0].value, ())) == 1:
            tails.add(op.outputs[0].value)
    return frozenset(found)


_ABSORBED = ("BatchNormalization", "Add", "Mul")


def _follows(graph: PrecisionGraph, op: Op, tails: set[str]) -> bool:
    """Whether an op takes a convolution's result and constants that are one number, or one per channel."""
    values = [slot.value for slot in op.inputs]
    others = [value for value in values if value not in tails]
    if len(others) != len(values) - 1 or not all(_is_constant(graph, value) for value in others):
        return False
    return op.type == "BatchNormalization" or _is_per_channel(graph, op.outputs[0].value, others[0])


def _is_per_channel(graph: PrecisionGraph, result: str, constant: str) -> bool:
    shape, own = graph.values[result].shape, graph.values[constant].shape
    if shape is None or own is None or len(own) not in (len(shape), len(shape) - 1):
        return False
    aligned = (1,) * (len(shape) - len(own)) + own
    return aligned[1] == shape[1] and all(size == 1 for axis, size in enumerate(aligned) if axis != 1)


def _is_constant(graph: PrecisionGraph, value: str) -> bool:
    return bool(value) and graph.values[value].constant is not None


def _readers(graph: PrecisionGraph) -> Mapping[str, list[str]]:
    """Op ids by the value they read."""
    readers: dict[str, list[str]] = {}
    for use in graph.uses:
        readers.setdefault(use.value, []).append(use.op)
    return readers


def _normalization(graph: PrecisionGraph, readers: Mapping[str, list[str]], div: Op) -> Normalization | None:
    centered = _maker(graph, div.inputs[0].value, "Sub")
    root = _maker(graph, div.inputs[1].value, "Sqrt")
    shifted = root and _maker(graph, root.inputs[0].value, "Add")
    if centered is None or shifted is None or not _is_variance(graph, shifted):
        return None
    scaled = _next(graph, readers, div.outputs[0].value, "Mul")
    if scaled is None:
        return None
    moved = _next(graph, readers, scaled.outputs[0].value, "Add")
    affine = tuple(op.inputs[0].decision for op in (scaled, moved) if op is not None)
    return Normalization(centered.inputs[0].value, div.outputs[0].value, affine)


def _is_variance(graph: PrecisionGraph, shifted: Op) -> bool:
    """Whether an Add takes the mean of something and a constant."""
    return any(_maker(graph, slot.value, "ReduceMean") is not None for slot in shifted.inputs)


def _maker(graph: PrecisionGraph, value: str, op_type: str) -> Op | None:
    op = graph.ops.get(graph.values[value].op) if value else None
    return op if op is not None and op.type == op_type else None


def _next(graph: PrecisionGraph, readers: Mapping[str, list[str]], value: str, op_type: str) -> Op | None:
    """The only reader of a value, when it is of this type and its other operand is a constant."""
    found = readers.get(value, [])
    op = graph.ops.get(found[0]) if len(found) == 1 else None
    if op is None or op.type != op_type:
        return None
    return op if any(graph.values[slot.value].constant is not None for slot in op.inputs) else None


# What one of these operators stands for in a pattern that fusing looks for: the whole pattern takes at most so many
# times its own time. A softmax is one of some twelve passes over the scores of an attention.
_PATTERNS = {
    "Softmax": 12,
    "LayerNormalization": 3,
    "Erf": 6,
    "Gelu": 7,
    "Tanh": 10,
    "ReduceMean": 6,
    "Clip": 4,
    "InstanceNormalization": 6,
    "GroupNormalization": 4,
}
_SLOW_BIAS, _OTHER_BIAS = 2, 0.5  # the same of convolutions with a bias, in groups or of few channels and others
_SHORTEST_ATTENTION = 4  # tokens, see onnx_model/fuse/attention.py


def most_saved_by_fusing(graph: PrecisionGraph, costs: Costs) -> int:
    """A bound on what fusing can save, in the unit of the prices: it is looked for only where that is worth it."""
    total, least = 0, min(filter(None, costs.high.values()), default=0)
    slow = any(op.type == "Conv" and _has_slow_bias(graph, op) for op in graph.ops.values())
    for decision in graph.decisions.values():
        op = graph.ops.get(decision.op) if decision.principal else None
        if op is None:
            continue
        price = max(costs.high.get(decision.id, 0), costs.low.get(decision.id, 0))
        if op.type in _PATTERNS and not _is_short_attention(graph, op):
            total += _PATTERNS[op.type] * price
        elif op.type == "Conv" and slow and len(op.inputs) > 2:  # the others then take their bias inside
            part = _SLOW_BIAS if _has_slow_bias(graph, op) else _OTHER_BIAS
            total += round(part * max(price - least, 0))  # what a launch takes stays
    return total


def _is_short_attention(graph: PrecisionGraph, op: Op) -> bool:
    shape = graph.values[op.inputs[0].value].shape if op.inputs[0].value else None
    return op.type == "Softmax" and shape is not None and len(shape) > 1 and shape[-2] < _SHORTEST_ATTENTION


def _has_slow_bias(graph: PrecisionGraph, op: Op) -> bool:
    """Whether a convolution has a bias and works in groups or on few channels, see onnx_model/fuse/bias.py."""
    weight = graph.values[op.inputs[1].value].shape
    few = weight is not None and len(weight) > 1 and weight[1] < FEW_CHANNELS
    return few and len(op.inputs) > 2 and bool(op.inputs[2].value)
