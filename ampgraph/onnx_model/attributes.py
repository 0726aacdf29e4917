"""Attributes of nodes as plain data, and the tensors of Constant nodes."""

from __future__ import annotations

from typing import cast

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, numpy_helper

from ampgraph.graph import Attribute
from ampgraph.onnx_model import tensors


def constant_tensor(node: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node that ampgraph may convert; None for other nodes and for strings and sparse data."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or not node.attribute:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        return cast(TensorProto, attribute.t)
    if attribute.name in ("value_float", "value_floats"):
        data = [attribute.f] if attribute.name == "value_float" else list(attribute.floats)
        dims = [] if attribute.name == "value_float" else [len(data)]
        return TensorProto(dims=dims, data_type=TensorProto.FLOAT, float_data=data)
    if attribute.name in ("value_int", "value_ints"):
        whole = [attribute.i] if attribute.name == "value_int" else list(attribute.ints)
        dims = [] if attribute.name == "value_int" else [len(whole)]
        return TensorProto(dims=dims, data_type=TensorProto.INT64, int64_data=whole)
    return None


def constants_in(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers that nobody can override, and what Constant nodes hold, each under its value's name."""
    inputs = {value.name for value in graph.input}
    found = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in inputs}
    held = ((node.output[0], tensor) for node in graph.node if (tensor := constant_tensor(node)) is not None)
    return {**found, **dict(held)}


def plain_attributes(node: NodeProto) -> dict[str, Attribute]:
    """Attributes as plain numbers, strings and tuples; a one-element tensor as a number; graphs and types left out."""
    found: dict[str, Attribute] = {}
    for attribute in node.attribute:
        kind = attribute.type
        if kind == AttributeProto.INT:
            found[attribute.name] = attribute.i
        elif kind == AttributeProto.FLOAT:
            found[attribute.name] = attribute.f
        elif kind == AttributeProto.STRING:
            found[attribute.name] = attribute.s.decode(errors="replace")
        elif kind == AttributeProto.INTS:
            found[attribute.name] = tuple(attribute.ints)
        elif kind == AttributeProto.FLOATS:
            found[attribute.name] = tuple(attribute.floats)
        elif kind == AttributeProto.STRINGS:
            found[attribute.name] = tuple(text.decode(errors="replace") for text in attribute.strings)
        elif kind == AttributeProto.TENSOR and _is_plain_scalar(attribute.t):
            found[attribute.name] = float(numpy_helper.to_array(attribute.t).reshape(-1)[0])
    return found


def _is_plain_scalar(tensor: TensorProto) -> bool:
    """Whether a tensor is one number that lies in the proto."""
    is_here = tensor.data_location != TensorProto.EXTERNAL
    wordy = (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128)
    return is_here and tensor.data_type not in wordy and tensors.element_count(tensor) == 1
