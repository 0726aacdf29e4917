"""onnx's own inference of types and shapes, past operators that it has none for."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from ampgraph.onnx_model.attributes import constant_tensor

Shapes = Mapping[str, tuple[int, ...]]

_LIKE_ITS_INPUT = "InstanceNormalization"  # an op whose inference asks for nothing but its first input
# onnxruntime's operators, which onnx has no inference for, whose result is shaped as their first input. Of an attention
# that is the queries: values are as wide as they are in every model that fusing makes.
_SHAPED_AS_FIRST = frozenset(
    (
        "BiasAdd", "BiasGelu", "FastGelu", "Gelu", "GroupNorm", "MultiHeadAttention", "QuickGelu", "RotaryEmbedding",
        "SkipGroupNorm", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    )
)  # fmt: skip
_UNTOLD = ("GroupNormalization",)  # onnx's own that it has no inference for
_SUM = 3  # the output of a skip normalization that is what it normalizes
_CONTRIB = "com.microsoft"


def infer_once(light: ModelProto) -> ModelProto:
    """onnx's own inference of types and shapes, past operators that have none and would stop all after them."""
    apart = [(index, node) for index, node in enumerate(light.graph.node) if node.domain or node.op_type in _UNTOLD]
    widths = _widths(light.graph) if any(node.op_type == "Attention" for _, node in apart) else {}
    standard = any(entry.domain in ("", "ai.onnx") for entry in light.opset_import)
    silent = {index: (node.domain, node.op_type) for index, node in apart if _keeps_shape(node, widths, standard)}
    for index in silent:
        light.graph.node[index].domain, light.graph.node[index].op_type = "", _LIKE_ITS_INPUT
    sums = _with_sums_apart(light.graph, silent)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    assert isinstance(inferred, ModelProto)  # it gives back what it is given
    for graph in (light.graph, inferred.graph):
        for index in sums:  # from the first on: each is where it will be once those before it are gone
            del graph.node[index + 1]
        for index, (domain, op_type) in silent.items():
            graph.node[index].domain, graph.node[index].op_type = domain, op_type
            if index in sums:
                graph.node[index].output[_SUM] = sums[index]
    return inferred


def _widths(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights that initializers and nodes hold."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    held = ((node, constant_tensor(node)) for node in graph.node if node.op_type == "Constant")
    return {**found, **{node.output[0]: tuple(tensor.dims) for node, tensor in held if tensor is not None}}


def _with_sums_apart(graph: GraphProto, silent: Mapping[int, tuple[str, str]]) -> dict[int, str]:
    """Let nodes of their own make the sums that normalizations make beside their result, shaped as their first input.

    Returns their names, by the index of the normalization.
    """
    found = {
        index: graph.node[index].output[_SUM]
        for index, (_, op_type) in silent.items()
        if op_type.startswith("Skip") and len(graph.node[index].output) > _SUM and graph.node[index].output[_SUM]
    }
    for index in sorted(found, reverse=True):
        normalized = graph.node[index]
        normalized.output[_SUM] = ""
        graph.node.insert(index + 1, onnx.helper.make_node("Identity", [normalized.input[0]], [found[index]]))
    return found


def _keeps_shape(node: NodeProto, widths: Shapes, standard: bool) -> bool:
    """Whether a node that onnx infers nothing of has a result shaped as its first input.

    `standard`: the model has the domain of the operator that stands in for it.
    """
    if node.domain in ("", "ai.onnx"):
        return node.op_type in _UNTOLD
    if node.domain != _CONTRIB or not standard:
        return False
    if node.op_type == "Attention":  # its weights say how wide the projections are
        width = widths.get(node.input[1], ())
        equal = all(entry.name != "qkv_hidden_sizes" for entry in node.attribute)
        return equal and len(width) == 2 and width[1] == 3 * width[0]
    return node.op_type in _SHAPED_AS_FIRST
