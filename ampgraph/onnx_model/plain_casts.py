"""Plain casts: Cast where CastLike stands and the type is known.

torch's exporter writes the ends of ranges as CastLike of a size. onnxruntime has no kernel for it: it is spelt out
when constants have been folded, so that what it feeds stays shape arithmetic on the CPU, even at fixed sizes, and the
session becomes no CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, helper

from ampgraph.onnx_model.dtypes import NAMES
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.types import bodies, infer, types_in

_TYPES = {name: number for number, name in NAMES.items()}


def with_plain_casts(model: ModelProto) -> ModelProto:
    """A copy with every CastLike of known type as a Cast; the model itself where there is none."""
    if not any(_is_like(node) for node in walk(model.graph)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for node, to in list(_targets(copy.graph, infer(model, {}, sizes=False).graph, {})):
        _as_cast(node, to)
    return copy


def _is_like(node: NodeProto) -> bool:
    return node.op_type == "CastLike" and not node.domain


def _targets(graph: GraphProto, inferred: GraphProto, outer: Mapping[str, str]) -> Iterator[tuple[NodeProto, int]]:
    """Nodes to replace with the type to cast to; `inferred` is the same graph with the types of its values."""
    known = {**outer, **{name: each.dtype for name, each in types_in(inferred).items() if each.dtype}}
    for node, same in zip(graph.node, inferred.node, strict=True):
        if _is_like(node) and known.get(node.input[1]) in _TYPES:
            yield node, _TYPES[known[node.input[1]]]
        for (_, body), (_, twin) in zip(bodies(node), bodies(same), strict=True):
            yield from _targets(body, twin, known)


def _as_cast(node: NodeProto, to: int) -> None:
    """In place; what CastLike says of saturation holds for Cast too."""
    node.op_type = "Cast"
    del node.input[1:]
    node.attribute.append(helper.make_attribute("to", to))
