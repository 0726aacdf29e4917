"""Branches: the nodes of one in the place of an If whose condition is a constant.

torch.onnx's older exporter asks by an If how many axes a tensor has, where it writes `torch.tile`: a number that it
knows (DINOv3's rotary embeddings).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import constants_in
from ampgraph.onnx_model.fuse.net import copy_without, has_data
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.types import bodies


def with_branches(model: ModelProto) -> ModelProto:
    """A copy with the branch that is taken instead of every such If of the main graph; the model itself without any.

    An If stays where a name of its branch stands for something else outside.
    """
    constants, names = constants_in(model.graph), _names_outside(model.graph)
    taken = {
        index: branch
        for index, node in enumerate(model.graph.node)
        if (branch := _branch(node, constants)) is not None and _names(branch).isdisjoint(names)
    }
    if not taken:
        return model
    copy = copy_without(model, "node")
    for index, node in enumerate(model.graph.node):
        if index in taken:
            copy.graph.node.extend(_inlined(node, taken[index]))
            copy.graph.initializer.extend(taken[index].initializer)
        else:
            copy.graph.node.add().CopyFrom(node)
    return copy


def _branch(node: NodeProto, constants: Mapping[str, TensorProto]) -> GraphProto | None:
    """The branch that an If takes, where that is known."""
    condition = constants.get(node.input[0]) if node.op_type == "If" and not node.domain else None
    if condition is None or condition.data_type != TensorProto.BOOL or not has_data(condition):
        return None
    name = "then_branch" if numpy_helper.to_array(condition).all() else "else_branch"
    branch = dict(bodies(node)).get(name)
    return None if branch is None or branch.sparse_initializer else branch


def _inlined(node: NodeProto, branch: GraphProto) -> Iterator[NodeProto]:
    """The nodes of a branch, and what it gives under the names of the If's outputs."""
    yield from branch.node
    for value, name in zip(branch.output, node.output, strict=True):
        if name:
            yield NodeProto(op_type="Identity", name=f"{node.name}_{name}", input=[value.name], output=[name])


def _names(graph: GraphProto) -> set[str]:
    """Names of what a graph makes and holds."""
    made = {name for node in graph.node for name in node.output if name}
    return made | {tensor.name for tensor in graph.initializer}


def _names_outside(graph: GraphProto) -> set[str]:
    """Names that are taken where branches come to stand, and those that are made in more than one body."""
    outside = _names(graph) | {value.name for value in graph.input}
    seen, twice = set(outside), set[str]()
    for node in walk(graph):
        for _, body in bodies(node):
            own = _names(body)
            twice |= own & seen
            seen |= own
    return outside | twice
