"""Simplify: what follows from the model alone, whatever the sizes it runs at, as constants; copies left out.

Exporters compute axes and shapes at run time that never change; such nodes run on the CPU and keep a session from
becoming a CUDA graph. A dropout that does nothing is exported as Identity, or as it is, and a cast to the type that a
value has as a cast; both would hide a pattern.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

from onnx import ModelProto, NodeProto, TensorProto
from onnx.numpy_helper import to_array

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.dtypes import NAMES
from ampgraph.onnx_model.fuse.net import Fusion
from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.raising import opset_of
from ampgraph.onnx_model.shape_constants import infer_with_sizes
from ampgraph.onnx_model.types import Type, bodies, types_in, weightless, without_constant_nodes

_INFERENCE_ALONE = 7  # the opset from which a Dropout does nothing unless it is told to train


def simplify(model: ModelProto) -> Fusion:
    """Constants for every small result that can be computed with free dimensions left free."""
    fixed = {value.name for value in (*model.graph.output, *model.graph.input)}
    fixed |= {name for node in model.graph.node for _, body in bodies(node) for name in captured(body)}
    light = without_constant_nodes(weightless(model, without=fixed))  # inputs can be overridden
    sure = list(light.graph.initializer)
    before = {tensor.name for tensor in (*model.graph.initializer, *sure)}
    inferred = infer_with_sizes(light)
    found = [tensor for tensor in inferred.graph.initializer if tensor.name not in before | fixed]
    names = {tensor.name for tensor in found}
    removed = [node for node in model.graph.node if node.output and node.output[0] in names]
    said = {tensor.name: tensor for tensor in (*sure, *found)}
    false = {name for name, tensor in said.items() if _is_false(tensor)}
    idle = {"", *false} if opset_of(model) >= _INFERENCE_ALONE else set[str]()
    types = types_in(inferred.graph)
    copies = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if (_is_identity(node) or _is_idle_dropout(node, idle) or _is_idle_cast(node, types))
        and node.output[0] not in fixed | names
    }
    return Fusion((), replaced=copies, removed=tuple(removed), constants=tuple(found))


def _is_false(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.BOOL and prod(tensor.dims) == 1 and not to_array(tensor).any()


def _is_identity(node: NodeProto) -> bool:
    return node.op_type == "Identity" and not node.domain


def _is_idle_cast(node: NodeProto, types: Mapping[str, Type]) -> bool:
    """Whether a value is cast to what it is, as torch's older exporter writes every `.float()`."""
    known = types.get(node.input[0]) if node.op_type == "Cast" and not node.domain else None
    to = plain_attributes(node).get("to", 0) if known is not None else 0
    return known is not None and isinstance(to, int) and NAMES.get(to, "") == known.dtype != ""


def _is_idle_dropout(node: NodeProto, false: Collection[str]) -> bool:
    """Whether a dropout is for inference, and nobody asks for its mask. `false`: constants that say so, "" for none."""
    is_plain = node.op_type == "Dropout" and not node.domain and not any(node.output[1:])
    return is_plain and [*node.input, "", ""][2] in false
