"""Types and shapes of every value: onnx's own inference, run on the model without its weights.

What the source says of inner values is not believed where inference can tell (value_info goes stale); where inference
stops (contrib and custom ops) the source's word stands.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy.typing as npt
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto

from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.dimensions import completed, formulas_of, symbol_sizes
from ampgraph.onnx_model.dtypes import NAMES
from ampgraph.onnx_model.inference import infer_once
from ampgraph.onnx_model.shape_constants import Reading, infer_with_sizes, sizes_in

LARGEST_CONSTANT_FOR_INFERENCE = 1024  # elements; shape operands are far smaller, weights far larger
_INITIALIZERS_ALONE = 4  # the IR version from which they need not be inputs
_FREE_BATCH, _FREE_SPATIAL, _FREE_LENGTH = 1, 224, 128


@dataclass(frozen=True, slots=True)
class Type:
    """What is known of a value; `shape` is None unless every dimension is."""

    dtype: str
    kind: str = "tensor"
    shape: tuple[int, ...] | None = None


def bodies(node: NodeProto) -> Iterable[tuple[str, GraphProto]]:
    """The subgraphs of a node with their attribute names."""
    return _bodies(node) if node.attribute else ()


def _bodies(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            for index, graph in enumerate(attribute.graphs):
                yield f"{attribute.name}.{index}", graph


def type_of(proto: TypeProto) -> Type:
    """Read a TypeProto; a sequence, optional or map has the dtype of its elements."""
    if proto.HasField("tensor_type"):
        tensor = proto.tensor_type
        return Type(NAMES.get(tensor.elem_type, ""), "tensor", _shape(tensor) if tensor.HasField("shape") else None)
    kind = proto.WhichOneof("value") or ""
    if kind in ("sequence_type", "optional_type"):
        inner = type_of(getattr(proto, kind).elem_type)
        return Type(inner.dtype, kind.removesuffix("_type"))
    if kind == "map_type":
        return Type(type_of(proto.map_type.value_type).dtype, "map")
    if kind == "sparse_tensor_type":
        return Type(NAMES.get(proto.sparse_tensor_type.elem_type, ""), "sparse")
    return Type("")


def is_like(shape: Sequence[int], declared: Sequence[int | None]) -> bool:
    """Whether a shape is one of those that are declared, None being a free size."""
    alike = len(shape) == len(declared)
    return alike and all(size is None or size == given for given, size in zip(shape, declared, strict=True))


def by_x(sizes: Iterable[int | None]) -> str:
    """Sizes as users write them, `?x3x224x224`."""
    return "x".join("?" if size is None else str(size) for size in sizes) or "a scalar"


def fixed_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """A dimension's size; None when it is free. Some exporters write -1 for free."""
    size = int(dim.dim_value)
    return size if size > 0 or (size == 0 and dim.HasField("dim_value")) else None


def _shape(tensor: TypeProto.Tensor) -> tuple[int, ...] | None:
    sizes = []
    for dim in tensor.shape.dim:
        size = fixed_size(dim)
        if size is None:
            return None
        sizes.append(size)
    return tuple(sizes)


def modelled_inputs(model: ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
    """The shape each graph input is modelled at: the caller's, else its own with free dimensions filled in.

    A free first dimension is a batch of 1; free trailing dimensions of an image (rank 4 or 5) are 224, others 128. A
    symbol gets one size throughout the model, that of the caller's shapes where they have one; one that is a formula
    of others (`dimensions.py`) the one that follows.
    """
    initialized = {tensor.name for tensor in model.graph.initializer}
    symbols = symbol_sizes(model, shapes)
    chosen: dict[str, tuple[int, ...]] = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        if value.name in initialized or not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
            continue
        dims, sizes = tensor.shape.dim, list(shapes.get(value.name, ()))
        for index, dim in enumerate(() if sizes else dims):
            sizes.append(_size(dim, index, len(dims), symbols))
            if dim.dim_param:
                symbols.setdefault(dim.dim_param, sizes[-1])
        chosen[value.name] = tuple(sizes)
    return following(model, chosen, symbols, given=shapes)


def following(
    model: ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    symbols: Mapping[str, int],
    given: Collection[str] = (),
) -> Mapping[str, tuple[int, ...]]:
    """Shapes by input with the sizes that follow from those of `symbols`, but in inputs that are `given`."""
    formulas = formulas_of(model)
    if not formulas:
        return shapes
    sizes, found = completed(symbols, formulas), dict(shapes)
    for value in model.graph.input:
        if value.name in found and value.name not in given:
            names = [dim.dim_param for dim in value.type.tensor_type.shape.dim]
            pairs = zip(found[value.name], names, strict=True)
            found[value.name] = tuple(sizes.get(name, size) if name in formulas else size for size, name in pairs)
    return found


def _size(dim: onnx.TensorShapeProto.Dimension, index: int, rank: int, symbols: Mapping[str, int]) -> int:
    size = fixed_size(dim)
    if size is not None:
        return size
    if dim.dim_param in symbols:
        return symbols[dim.dim_param]
    if index == 0:
        return _FREE_BATCH
    return _FREE_SPATIAL if rank >= 4 and index >= rank - 2 else _FREE_LENGTH


def infer(
    model: ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    sizes: bool = True,
    known: Mapping[str, tuple[int, ...]] | None = None,
    declared: Iterable[ValueInfoProto] = (),
) -> ModelProto:
    """A weightless copy of the model, its inputs at concrete `shapes`, with inferred types in every value_info.

    `sizes`: compute shape arithmetic too; without it shapes may be missing, types are not. `known`: shapes of float32
    values that inference cannot know, since their operators are not ONNX's. `declared`: types that are taken as said.
    """
    light = weightless(model)
    _fill_inputs(light.graph, shapes)
    said = {value.name: value for value in declared}
    kept = [value for value in light.graph.value_info if value.name not in said]
    del light.graph.value_info[:]
    light.graph.value_info.extend((*kept, *said.values()))
    for name, shape in (known or {}).items():
        light.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return infer_with_sizes(light) if sizes else infer_once(light)


def sizes_at(
    light: ModelProto, shapes: Mapping[str, tuple[int, ...]], reading: Reading | None = None
) -> tuple[dict[str, tuple[int, ...]], dict[str, npt.NDArray[Any]]]:
    """Shapes of a weightless model's values, its inputs at concrete `shapes`, and small results; both by name.

    `reading`: of its graph, for those who ask at several sizes.
    """
    copy = ModelProto()
    copy.CopyFrom(light)
    _fill_inputs(copy.graph, shapes)
    return sizes_in(copy, reading)


def weightless(model: ModelProto, without: Collection[str] = ()) -> ModelProto:
    """A copy that has no inner value_info except on outputs of ops without a schema, and no data of large constants.

    `without`: initializers of the main graph that it has not either.
    """
    light = ModelProto()
    light.ir_version = model.ir_version
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    _lighten(model.graph, light.graph, {o.domain: o.version for o in model.opset_import}, without)
    return light


def without_constant_nodes(light: ModelProto) -> ModelProto:
    """A weightless model with its Constant nodes as initializers, in place: inference has those nodes behind it."""
    kept = []
    for node in light.graph.node:
        tensor = constant_tensor(node)
        if tensor is None:
            kept.append(node)
        else:
            held = light.graph.initializer.add()
            held.CopyFrom(tensor)
            held.name = node.output[0]
    if len(kept) < len(light.graph.node):
        light.ir_version = max(light.ir_version, _INITIALIZERS_ALONE)
        copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
        del light.graph.node[:]
        light.graph.node.extend(copies)
    return light


def _lighten(source: GraphProto, target: GraphProto, opsets: Mapping[str, int], without: Collection[str] = ()) -> None:
    target.name = source.name
    target.input.extend(source.input)
    target.output.extend(source.output)
    target.sparse_initializer.extend(source.sparse_initializer)
    for tensor in source.initializer:
        if tensor.name not in without:
            _copy_tensor(tensor, target.initializer.add())
    heavy = {index for index, node in enumerate(source.node) if node.attribute and _is_heavy(node)}
    if not heavy:
        target.node.extend(source.node)
    else:
        for index, node in enumerate(source.node):
            if index in heavy:
                _copy_node(node, target.node.add(), opsets)
            else:
                target.node.add().CopyFrom(node)
    unknown: set[str] = set()
    for node in source.node:
        if not _is_standard(node.op_type, node.domain, opsets.get(node.domain, 1)):
            unknown.update(node.output)
    target.value_info.extend(info for info in source.value_info if info.name in unknown)


@cache
def _is_standard(op_type: str, domain: str, opset: int) -> bool:
    return bool(onnx.defs.has(op_type, opset, domain))


def _is_light(tensor: onnx.TensorProto) -> bool:
    small = math.prod(tensor.dims) <= LARGEST_CONSTANT_FOR_INFERENCE
    return small and tensor.data_location != onnx.TensorProto.EXTERNAL


def _copy_tensor(source: onnx.TensorProto, target: onnx.TensorProto) -> None:
    if _is_light(source):
        target.CopyFrom(source)
    else:
        target.name, target.data_type = source.name, source.data_type
        target.dims.extend(source.dims)


def _is_heavy(node: NodeProto) -> bool:
    """Whether a node has a body or data that inference does without."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            return True
        if attribute.type == AttributeProto.TENSOR and not _is_light(attribute.t):
            return True
    return False


def _copy_node(source: NodeProto, target: NodeProto, opsets: Mapping[str, int]) -> None:
    target.op_type, target.domain = source.op_type, source.domain
    target.input.extend(source.input)
    target.output.extend(source.output)
    for attribute in source.attribute:
        copy = target.attribute.add()
        if attribute.type == AttributeProto.TENSOR:
            copy.name, copy.type = attribute.name, attribute.type
            _copy_tensor(attribute.t, copy.t)
        elif attribute.type == AttributeProto.GRAPH:
            copy.name, copy.type = attribute.name, attribute.type
            _lighten(attribute.g, copy.g, opsets)
        else:
            copy.CopyFrom(attribute)


def _fill_inputs(graph: GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    for value in graph.input:
        sizes = shapes.get(value.name)
        if sizes is not None:
            del value.type.tensor_type.shape.dim[:]
            value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=size) for size in sizes)
    for value in graph.output:  # declared for free dimensions: let inference say
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def types_in(graph: GraphProto) -> dict[str, Type]:
    """Types of the values of one graph by name, bodies not included."""
    found = {tensor.name: Type(NAMES[tensor.data_type], "tensor", tuple(tensor.dims)) for tensor in graph.initializer}
    for values in (graph.value_info, graph.input, graph.output):
        for value in values:
            name = value.name
            if name not in found or not found[name].dtype:
                found[name] = type_of(value.type)
    return found
