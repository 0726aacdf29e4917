"""Simplify: what follows from the model alone, whatever the sizes it runs at, as constants; copies left out.

Exporters compute axes and shapes at run time that never change; such nodes run on the CPU and keep a session from
becoming a CUDA graph. A dropout that does nothing is exported as Identity, which would hide a pattern.
"""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from ampgraph.onnx_model.fuse.net import Fusion
from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.shape_constants import infer_with_sizes
from ampgraph.onnx_model.types import bodies, weightless


def simplify(model: ModelProto) -> Fusion:
    """Constants for every small result that can be computed with free dimensions left free."""
    before = {tensor.name for tensor in model.graph.initializer}
    fixed = {value.name for value in (*model.graph.output, *model.graph.input)}
    fixed |= {name for node in model.graph.node for _, body in bodies(node) for name in captured(body)}
    light = weightless(model)
    sure = [tensor for tensor in light.graph.initializer if tensor.name not in fixed]  # others can be overridden
    del light.graph.initializer[:]
    light.graph.initializer.extend(sure)
    inferred = infer_with_sizes(light)
    found = [tensor for tensor in inferred.graph.initializer if tensor.name not in before | fixed]
    names = {tensor.name for tensor in found}
    removed = [node for node in model.graph.node if node.output and node.output[0] in names]
    copies = {node.output[0]: node.input[0] for node in model.graph.node if _is_copy(node, fixed | names)}
    return Fusion((), replaced=copies, removed=tuple(removed), constants=tuple(found))


def _is_copy(node: NodeProto, needed: set[str]) -> bool:
    return node.op_type == "Identity" and not node.domain and node.output[0] not in needed
