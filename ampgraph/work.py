"""How much an operator computes and moves: operations, bytes, and which hardware does it."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ampgraph.graph import Op, PrecisionGraph, Value
from ampgraph.precision import Precision

FEW_CHANNELS = 8  # fewer, of what a convolution reads in a group, and tensor cores have nothing to work on
DEFAULT_ELEMENTS = 1 << 16  # of a value of unknown shape
_DEFAULT_DEPTH = 256  # length of the summed axis of a product of unknown shape

_FLOATS = frozenset(Precision)  # whose values may be in another of them
_NARROW_FLOATS = "float8e4m3fn float8e4m3fnuz float8e5m2 float8e5m2fnuz float8e8m0 float4e2m1"
_SIZES = {"bool": 1, "float64": 8, "bfloat16": 2, "complex64": 8, "complex128": 16, "string": 16} | {
    f"{kind}{bits}": max(bits // 8, 1)
    for kind in ("int", "uint", "float")
    for bits in (2, 4, 8, 16, 32, 64)
    if (kind, bits) != ("float", 64)
}
_SIZES |= dict.fromkeys(_NARROW_FLOATS.split(), 1)


class Kind(Enum):
    """Which hardware an operator keeps busy."""

    VIEW = "view"  # none: the output is the input's memory, or there is no work at all
    MEMORY = "memory"  # bandwidth
    MATRIX = "matrix"  # tensor cores
    ATTENTION = "attention"  # tensor cores in low precision; onnxruntime's float32 kernels do without
    CONVOLUTION = "convolution"  # tensor cores, behind a change of layout
    GROUPED = "grouped"  # convolution in groups: no tensor cores
    NORM = "norm"  # bandwidth, several times over, and every row by itself
    SKIP_NORM = "skip norm"  # the same by onnxruntime's fused kernels
    RECURRENT = "recurrent"  # tensor cores, one small product after the other


class Work(NamedTuple):
    """What one run of an operator does. `floats` are elements that move at the op's precision, low ones too."""

    kind: Kind
    operations: int
    floats: int
    other_bytes: int
    layout: int = 0  # float elements whose layout a convolution on tensor cores may change
    biased: int = 0  # float elements of a convolution's result that a bias is added to
    rows: int = 0  # that a normalization works on one by one; of an attention the heads of all sequences
    channels: int = 0  # of what a convolution reads


_NO_WORK = Work(Kind.VIEW, 0, 0, 0)

_VIEW_NAMES = (
    "Reshape Squeeze Unsqueeze Flatten Identity Dropout Shape Size Optional OptionalGetElement OptionalHasElement "
    "SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SequenceAt SequenceLength "
    "aten.view aten.reshape aten._unsafe_view aten.unsqueeze aten.squeeze aten.expand aten.permute aten.transpose "
    "aten.t aten.slice aten.select aten.alias aten.detach aten.split aten.unbind aten.chunk"
)
_VIEWS = frozenset(_VIEW_NAMES.split())
# Reads no more of its first input than it writes.
_PARTIAL_NAMES = "Gather GatherElements GatherND Slice Compress aten.embedding aten.index aten.gather"
_PARTIAL = frozenset(_PARTIAL_NAMES.split())
_CASTS = frozenset(("Cast", "aten.to", "aten._to_copy"))


def is_view(op: Op) -> bool:
    """Whether the op copies and computes nothing."""
    return op.type in _VIEWS or bool(op.bodies)


def elements_of(value: Value) -> int:
    """Number of elements, a stated default where the shape is unknown."""
    return DEFAULT_ELEMENTS if value.shape is None else math.prod(value.shape)


def size_of(dtype: str) -> int:
    """Bytes of one element; 4 where the type is unknown."""
    return _SIZES.get(dtype, 4)


def foreign_float(op: Op, graph: PrecisionGraph) -> str:
    """The float64, complex64 or the like that an op works on, of which nothing is decided; "" for other ops."""
    if op.type in ("Shape", "Size"):
        return ""
    dtypes = (graph.values[slot.value].dtype for slot in (*op.outputs, *op.inputs) if slot.value)
    return next((each for each in dtypes if each.startswith(("float", "complex")) and each not in _FLOATS), "")


def work_of(op: Op, graph: PrecisionGraph) -> Work:
    """What one run of the op does."""
    if is_view(op):
        return _NO_WORK
    floats, other = _moved(op, graph)
    row = _PRODUCTS.get(op.type)
    if row is None:
        kind = _NORMS.get(op.type, Kind.MEMORY)
        return Work(kind, 0, floats, other, rows=_rows(op, graph) if kind is not Kind.MEMORY else 0)
    kind, count = row
    operations = round(count(op, graph))
    if kind is Kind.ATTENTION:
        return Work(kind, operations, floats, other, rows=_heads(op, graph))
    if kind is not Kind.CONVOLUTION:
        return Work(kind, operations, floats, other)
    biased = _outputs(op, graph) if len(op.inputs) > 2 and op.inputs[2].value else 0
    if _integer(op, "group", _integer(op, "groups", 1)) > 1:
        return Work(Kind.GROUPED, operations, floats, other, biased=biased)
    layout = _elements(op.inputs[0].value, graph) + _outputs(op, graph)
    return Work(kind, operations, floats, other, layout, biased, channels=_side(_shape(op, 0, graph), 1))


def _moved(op: Op, graph: PrecisionGraph) -> tuple[int, int]:
    """Elements whose precision is the op's, and other bytes, read and written."""
    floats = other = 0
    slots = op.inputs + op.outputs
    if op.type in _PARTIAL:
        slots = op.outputs[:1] + op.inputs[1:] + op.outputs
    target = _target(op, graph)
    for slot in slots:
        if not slot.value:
            continue
        value = graph.values[slot.value]
        elements = elements_of(value)
        if value.dtype in _FLOATS and slot.decision and not (target and slot in op.outputs):
            floats += elements
        else:
            other += elements * size_of(target or value.dtype)
    return floats, other


def _target(op: Op, graph: PrecisionGraph) -> str:
    """What a cast makes of values in another precision, whatever is decided of what it reads; "" for other ops."""
    if op.type not in _CASTS:
        return ""
    ends = [graph.decisions[slot.decision].present for slot in (*op.inputs[:1], *op.outputs[:1]) if slot.decision]
    return str(ends[1]) if len(set(ends)) == 2 else ""


_NORMS = dict.fromkeys(("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"), Kind.NORM) | {
    "com.microsoft.SkipLayerNormalization": Kind.SKIP_NORM,
    "com.microsoft.SkipSimplifiedLayerNormalization": Kind.SKIP_NORM,
}


# Operations: a multiplication and an addition are two


def _shape(op: Op, slot: int, graph: PrecisionGraph) -> tuple[int, ...] | None:
    if slot >= len(op.inputs) or not op.inputs[slot].value:
        return None
    return graph.values[op.inputs[slot].value].shape


def _elements(value: str, graph: PrecisionGraph) -> int:
    return elements_of(graph.values[value]) if value else DEFAULT_ELEMENTS


def _outputs(op: Op, graph: PrecisionGraph) -> int:
    return _elements(op.outputs[0].value, graph)


def _rows(op: Op, graph: PrecisionGraph) -> int:
    return _elements(op.inputs[0].value, graph) // max(_side(_shape(op, 0, graph), -1), 1)


def _heads(op: Op, graph: PrecisionGraph) -> int:
    shape = _shape(op, 0, graph)
    return shape[0] * _integer(op, "num_heads", 1) if shape else 1


def _integer(op: Op, name: str, default: int) -> int:
    found = op.attributes.get(name, default)
    return int(found) if isinstance(found, int | float) else default


def _side(shape: tuple[int, ...] | None, axis: int) -> int:
    return shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else _DEFAULT_DEPTH


def _product(left: int = 0, right: int = 1) -> Callable[[Op, PrecisionGraph], float]:
    """Matrix product of two input slots: one sum along the left one's last axis for every output element."""

    def count(op: Op, graph: PrecisionGraph) -> float:
        shape = _shape(op, left, graph)
        if shape is not None:
            return 2 * _outputs(op, graph) * _side(shape, -2 if _integer(op, "transA", 0) and len(shape) > 1 else -1)
        other = _shape(op, right, graph)
        axis = -1 if _integer(op, "transB", 0) or other is None or len(other) < 2 else -2
        return 2 * _outputs(op, graph) * _side(other, axis)

    return count


def _convolution(op: Op, graph: PrecisionGraph) -> float:
    """Weights are (out channels, in channels of a group, kernel...)."""
    weights = _shape(op, 1, graph)
    return 2 * _outputs(op, graph) * (math.prod(weights[1:]) if weights else _DEFAULT_DEPTH)


def _transposed_convolution(op: Op, graph: PrecisionGraph) -> float:
    """Weights are (in channels, out channels of a group, kernel...)."""
    weights = _shape(op, 1, graph)
    return 2 * _elements(op.inputs[0].value, graph) * (math.prod(weights[1:]) if weights else _DEFAULT_DEPTH)


def _recurrence(op: Op, graph: PrecisionGraph) -> float:
    """At every step of every sequence, all input weights and all recurrent weights."""
    steps = _elements(op.inputs[0].value, graph) / max(_side(_shape(op, 0, graph), -1), 1)
    return 2 * steps * (_elements(op.inputs[1].value, graph) + _elements(op.inputs[2].value, graph))


def _einsum(op: Op, graph: PrecisionGraph) -> float:
    """Every combination of the labels; an ellipsis counts as the axes it stands for."""
    terms = str(op.attributes.get("equation", "")).split("->")[0].replace(" ", "").split(",")
    sizes: dict[str, int] = {}
    for slot, term in enumerate(terms):
        shape = _shape(op, slot, graph)
        if shape is None:
            return 2.0 * _outputs(op, graph) * _DEFAULT_DEPTH
        head, dots, tail = term.partition("...")
        axes = list(zip(head, shape, strict=False)) + list(zip(reversed(tail), reversed(shape), strict=False))
        if dots:
            axes.append(("...", math.prod(shape[len(head) : len(shape) - len(tail)])))
        for label, size in axes:
            sizes[label] = max(size, sizes.get(label, 1))
    return 2 * math.prod(sizes.values())


def _keys(op: Op, graph: PrecisionGraph, slot: int) -> int:
    """Number of keys that a query attends to; the query's own length where keys are packed with it."""
    shape = _shape(op, slot, graph)
    if shape is None:
        return _side(_shape(op, 0, graph), 1)
    return _side(shape, 1 if len(shape) == 5 else -2)


def _attention(past: int = -1) -> Callable[[Op, PrecisionGraph], float]:
    """Queries with keys, then weights with values; `past` is the slot of cached keys."""

    def count(op: Op, graph: PrecisionGraph) -> float:
        keys = _keys(op, graph, 1)
        cached = _shape(op, past, graph) if past >= 0 else None
        keys += cached[-2] if cached is not None and len(cached) > 1 else 0
        return 2 * keys * (_elements(op.inputs[0].value, graph) + _outputs(op, graph))

    return count


def _projected_attention(op: Op, graph: PrecisionGraph) -> float:
    """com.microsoft.Attention: input (batch, length, width) and weights (width, 3 widths), then attention."""
    width = _side(_shape(op, 1, graph), 1)
    tokens = _elements(op.inputs[0].value, graph)
    return 2 * tokens * width + 4 * _outputs(op, graph) * _side(_shape(op, 0, graph), 1)


def _narrow_product(op: Op, graph: PrecisionGraph) -> float:
    """Products with weights of a few bits, whose shape is in the attributes."""
    return 2 * _outputs(op, graph) * _integer(op, "K", _DEFAULT_DEPTH)


_PRODUCTS: dict[str, tuple[Kind, Callable[[Op, PrecisionGraph], float]]] = {
    name: (kind, count)
    for names, kind, count in (
        ("MatMul Gemm aten.mm aten.bmm aten.matmul aten.linear", Kind.MATRIX, _product()),
        ("aten.addmm aten.baddbmm", Kind.MATRIX, _product(1, 2)),
        (
            "com.microsoft.FusedMatMul com.microsoft.TransposeMatMul com.microsoft.FusedGemm "
            "com.microsoft.GemmFastGelu com.microsoft.FusedMatMulActivation com.microsoft.GemmFloat8",
            Kind.MATRIX,
            _product(),
        ),
        ("com.microsoft.MatMulNBits com.microsoft.MatMulBnb4 com.microsoft.MatMulFpQ4", Kind.MATRIX, _narrow_product),
        ("Einsum", Kind.MATRIX, _einsum),
        ("Attention", Kind.ATTENTION, _attention(4)),
        ("com.microsoft.Attention", Kind.ATTENTION, _projected_attention),
        ("com.microsoft.MultiHeadAttention", Kind.ATTENTION, _attention(6)),
        ("com.microsoft.GroupQueryAttention", Kind.ATTENTION, _attention(3)),
        (
            "aten.scaled_dot_product_attention aten._scaled_dot_product_flash_attention "
            "aten._scaled_dot_product_efficient_attention",
            Kind.MATRIX,
            _attention(),
        ),
        (
            "Conv DeformConv com.microsoft.FusedConv com.microsoft.NhwcConv com.microsoft.NhwcFusedConv "
            "aten.convolution aten.conv2d",
            Kind.CONVOLUTION,
            _convolution,
        ),
        ("ConvTranspose", Kind.CONVOLUTION, _transposed_convolution),
        ("LSTM GRU RNN", Kind.RECURRENT, _recurrence),
    )
    for name in names.split()
}
