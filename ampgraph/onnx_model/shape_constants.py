"""Shape arithmetic computed: what a model derives from its inputs' shapes becomes constant once those are chosen.

onnx's own inference follows sizes through a few operators only, and exporters write many more: a Reshape of a constant
list of axes is enough to lose every shape after it. Small results are computed here and given to inference as
initializers. They hold for the modelled shapes alone, like every shape that is inferred.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from ampgraph.onnx_model.dtypes import NAMES

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]
Shapes = Mapping[str, tuple[int, ...]]

LARGEST = 4096  # elements of a shape, a list of axes, positions or the like
_DATA_FIELDS = ("float_data", "int32_data", "int64_data")
DONE = "~computed"  # ends the name of an output whose result is an initializer now
_LIKE_ITS_INPUT = "InstanceNormalization"  # an op whose inference asks for nothing but its first input
# onnxruntime's operators, which onnx has no inference for, whose result is shaped as their first input. Of an attention
# that is the queries: values are as wide as they are in every model that fusing makes.
_SHAPED_AS_FIRST = frozenset(
    (
        "BiasAdd", "BiasGelu", "FastGelu", "Gelu", "GroupNorm", "MultiHeadAttention", "QuickGelu", "RotaryEmbedding",
        "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    )
)  # fmt: skip
_CONTRIB = "com.microsoft"
ROUNDS = 8  # of inference, each of which may make more sizes known


def infer_with_sizes(light: ModelProto) -> ModelProto:
    """Infer the types and shapes of a weightless model, and again for as long as more sizes become known.

    Computed results become initializers of `light`, in place; what made them keeps its place and loses its output.
    """
    inferred = infer_once(light)
    if not _may_compute(light.graph):
        return inferred
    for _ in range(ROUNDS):
        if not _lacks_shapes(inferred.graph) or not _fold(light.graph, inferred.graph, {}, {}):
            break
        inferred = infer_once(light)
    return inferred


def _may_compute(graph: GraphProto) -> bool:
    """Whether any result can be computed: the first needs a shape, constants alone, or a body to look into."""
    known = {tensor.name for tensor in graph.initializer} | {""}
    known.update(node.output[0] for node in graph.node if node.op_type == "Constant" and node.output)
    return any(
        node.op_type in ("Shape", "Size")
        or (node.op_type in _OPS and known.issuperset(node.input))
        or (bool(node.attribute) and bool(_bodies(node)))
        for node in graph.node
    )


def infer_once(light: ModelProto) -> ModelProto:
    """onnx's own inference of types and shapes, past operators that have none and would stop all after them."""
    widths = {tensor.name: tuple(tensor.dims) for tensor in light.graph.initializer}
    standard = any(entry.domain in ("", "ai.onnx") for entry in light.opset_import)
    silent = {
        index: (node.domain, node.op_type)
        for index, node in enumerate(light.graph.node)
        if _keeps_shape(node, widths, standard)
    }
    for index in silent:
        light.graph.node[index].domain, light.graph.node[index].op_type = "", _LIKE_ITS_INPUT
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    inferred = inferred if isinstance(inferred, ModelProto) else light
    for index, (domain, op_type) in silent.items():
        for graph in (light.graph, inferred.graph):
            graph.node[index].domain, graph.node[index].op_type = domain, op_type
    return inferred


def _keeps_shape(node: NodeProto, widths: Shapes, standard: bool) -> bool:
    """Whether a node that onnx infers nothing of has a result shaped as its first input.

    `standard`: the model has the domain of the operator that stands in for it.
    """
    if node.domain in ("", "ai.onnx"):
        return node.op_type == "GroupNormalization"
    if node.domain != _CONTRIB or not standard:
        return False
    if node.op_type == "Attention":  # its weights say how wide the projections are
        width = widths.get(node.input[1], ())
        equal = all(entry.name != "qkv_hidden_sizes" for entry in node.attribute)
        return equal and len(width) == 2 and width[1] == 3 * width[0]
    return node.op_type in _SHAPED_AS_FIRST


def _lacks_shapes(graph: GraphProto) -> bool:
    sized = {value.name for value in (*graph.value_info, *graph.output) if _static_shape(value) is not None}
    sized.update(tensor.name for tensor in graph.initializer)
    return any(
        any(name and name not in sized for name in node.output) or any(map(_lacks_shapes, _bodies(node)))
        for node in graph.node
    )


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    if any(not dim.HasField("dim_value") or dim.dim_value < 0 for dim in tensor.shape.dim):
        return None
    return tuple(dim.dim_value for dim in tensor.shape.dim)


def _fold(light: GraphProto, inferred: GraphProto, outer: Mapping[str, Array], around: Shapes) -> bool:
    """Turn results that can be computed into initializers of `light`; whether there were any new ones.

    `outer` and `around`: constants and shapes of the graphs around a body, which inference does not look for there.
    """
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    shapes = {**around, **{value.name: shape for value in values if (shape := _static_shape(value)) is not None}}
    shapes.update((tensor.name, tuple(tensor.dims)) for tensor in inferred.initializer)
    found = bool(outer) and _capture(light, outer)
    known = {**outer, **_small_constants(light)}
    for node, twin in zip(light.node, inferred.node, strict=True):
        for body, body_twin in zip(_bodies(node), _bodies(twin), strict=True):
            found |= _fold(body, body_twin, known, shapes)
        found |= _compute(node, light, known, shapes)
    return found


def _capture(body: GraphProto, outer: Mapping[str, Array]) -> bool:
    """Copy the constants that a body takes from around it into the body; whether there were new ones."""
    read = {name for node in body.node for name in node.input if name in outer}
    own = {name for node in body.node for name in node.output} | {value.name for value in body.input}
    wanted = sorted(read - own - {tensor.name for tensor in body.initializer})
    body.initializer.extend(numpy_helper.from_array(outer[name], name) for name in wanted)
    return bool(wanted)


def _compute(node: NodeProto, light: GraphProto, known: dict[str, Array], shapes: Shapes) -> bool:
    """Make a node's result known, and an initializer; whether that is new."""
    if node.domain not in ("", "ai.onnx") or not node.output or node.output[0].endswith(DONE):
        return False
    result = _result(node, known, shapes)
    if result is None or result.size > LARGEST:
        return False
    known[node.output[0]] = result
    if node.op_type == "Constant":
        return False
    light.initializer.append(numpy_helper.from_array(result, node.output[0]))
    node.output[0] += DONE
    return True


def _small_constants(graph: GraphProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_plain(tensor)}


def _is_plain(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor is small, has its data with it, and is of a type that sizes are computed in."""
    numeric = NAMES.get(tensor.data_type, "").startswith(("int", "bool", "float32"))
    size = math.prod(tensor.dims)
    present = tensor.HasField("raw_data") or any(len(getattr(tensor, name)) == size for name in _DATA_FIELDS)
    return numeric and present and size <= LARGEST and tensor.data_location != onnx.TensorProto.EXTERNAL


def _result(node: NodeProto, known: Mapping[str, Array], shapes: Shapes) -> Array | None:
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type == "Constant":
        return _constant(attributes)
    if node.op_type in ("Shape", "Size"):
        return _measured(node, attributes, shapes.get(node.input[0]))
    compute = _OPS.get(node.op_type)
    if compute is None or not all(name in known or not name for name in node.input) or len(node.output) > 1:
        return None
    try:
        with np.errstate(all="ignore"):
            result = compute([known.get(name) for name in node.input], attributes)
            return None if result is None else np.asarray(result)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):  # no run could compute it either
        return None


def _constant(attributes: Attributes) -> Array | None:
    value = attributes.get("value")
    if value is not None:
        return numpy_helper.to_array(value) if _is_plain(value) else None
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in attributes:
            return np.array(attributes[name], dtype)
    return None


def _measured(node: NodeProto, attributes: Attributes, shape: tuple[int, ...] | None) -> Array | None:
    if shape is None:
        return None
    if node.op_type == "Size":
        return np.array(math.prod(shape), np.int64)
    return np.array(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


Compute = Callable[[list[Any], Attributes], Any]


def _axes(operands: list[Any], attributes: Attributes, slot: int = 1) -> tuple[int, ...] | None:
    """Axes as an input, or before opset 13 an attribute."""
    given = operands[slot] if len(operands) > slot and operands[slot] is not None else attributes.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _cast(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    return operands[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))


def _divide(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    first, second = operands
    if first.dtype.kind == "f":
        return first / second
    return np.trunc(first / second).astype(first.dtype) if np.all(second) else None  # ONNX truncates


def _slice(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    data = operands[0]
    given = [*operands[1:], *[None] * (5 - len(operands))]
    starts = attributes["starts"] if given[0] is None else given[0]
    ends = attributes["ends"] if given[1] is None else given[1]
    axes = _axes([given[2]], attributes, 0) or tuple(range(len(starts)))
    steps = [1] * len(starts) if given[3] is None else given[3]
    selected = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -data.shape[axis] else int(end)
        selected[axis] = slice(int(start), stop, int(step))
    return data[tuple(selected)]


def _reshape(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    data, wanted = operands
    if not attributes.get("allowzero"):
        wanted = [data.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    return data.reshape(tuple(int(size) for size in wanted))


def _unsqueeze(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    return np.expand_dims(operands[0], _axes(operands, attributes) or ())


def _over_axes(function: Callable[..., Any]) -> Compute:
    def compute(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
        axes = _axes(operands, attributes)
        if not axes and attributes.get("noop_with_empty_axes"):
            return operands[0]
        kept = function(operands[0], axis=axes or None, keepdims=bool(attributes.get("keepdims", 1)))
        return np.asarray(kept).astype(operands[0].dtype)

    return compute


def _elementwise(function: Callable[..., Any]) -> Compute:
    def compute(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
        return function(*operands) if _is_small(np.broadcast_shapes(*(part.shape for part in operands))) else None

    return compute


def _is_small(shape: Sequence[int]) -> bool:
    return math.prod(int(size) for size in shape) <= LARGEST


def _fill(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    value = numpy_helper.to_array(attributes["value"])[0] if "value" in attributes else np.float32(0)
    return np.full(tuple(operands[0]), value) if _is_small(operands[0]) else None


def _expand(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    data, wanted = operands
    shape = np.broadcast_shapes(data.shape, tuple(int(size) for size in wanted))
    return np.broadcast_to(data, shape) if _is_small(shape) else None


def _gather(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    data, indices = operands
    return np.take(data, indices, attributes.get("axis", 0)) if data.size * indices.size <= LARGEST**2 else None


def _range(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    start, limit, delta = (part.item() for part in operands)
    return (
        np.arange(start, limit, delta, dtype=operands[0].dtype) if abs(limit - start) <= LARGEST * abs(delta) else None
    )


def _chained(function: Callable[..., Any]) -> Compute:
    return lambda operands, _: reduce(function, operands) if len(operands) < LARGEST else None


_OPS: Mapping[str, Compute] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "CastLike": lambda operands, _: operands[0].astype(operands[1].dtype),
    "Ceil": _elementwise(np.ceil),
    "Concat": lambda operands, attributes: np.concatenate(operands, attributes["axis"]),
    "ConstantOfShape": _fill,
    "Div": _divide,
    "Equal": _elementwise(np.equal),
    "Expand": _expand,
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Identity": lambda operands, _: operands[0],
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Max": _chained(np.maximum),
    "Min": _chained(np.minimum),
    "Mod": lambda operands, attributes: (np.fmod if attributes.get("fmod") else np.mod)(*operands),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Range": _range,
    "ReduceMax": _over_axes(np.max),
    "ReduceMin": _over_axes(np.min),
    "ReduceProd": _over_axes(np.prod),
    "ReduceSum": _over_axes(np.sum),
    "Reshape": _reshape,
    "Round": _elementwise(np.round),
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": lambda operands, attributes: np.squeeze(operands[0], _axes(operands, attributes)),
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda operands, attributes: np.transpose(operands[0], attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where),
}  # fmt: skip
