"""Inferred: what is known of a model's values at the sizes that a session is opened for."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.types import fixed_size, infer, types_in

_KINDS = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


def kinds_of(model: ModelProto, sizes: Mapping[str, Shape]) -> dict[str, int]:
    """Element types of values, where they are known and this is about them."""
    found = types_in(infer(model, sizes).graph)
    return {name: _KINDS[each.dtype] for name, each in found.items() if each.dtype in _KINDS}


def shapes_of(model: ModelProto, sizes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of values at these sizes: inferred, with what the model declares of what contrib operators make."""
    symbols = {
        dim.dim_param: size
        for value in model.graph.input
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False)
        if dim.dim_param
    }
    inferred = _shapes_in(infer(model, sizes).graph)
    declared = [each for value in model.graph.value_info if (each := _at(value, symbols)) and each.name not in inferred]
    if not declared:
        return inferred
    said = {value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in declared}
    return {**said, **_shapes_in(infer(model, sizes, declared=declared).graph), **inferred}


def _shapes_in(graph: GraphProto) -> dict[str, Shape]:
    return {name: each.shape for name, each in types_in(graph).items() if each.shape is not None}


def _at(value: ValueInfoProto, symbols: Mapping[str, int]) -> ValueInfoProto | None:
    """A declared type with sizes for its symbols, where all are known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    found = [symbols.get(dim.dim_param) if dim.dim_param else fixed_size(dim) for dim in dims]
    return None if None in found else helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, found)
