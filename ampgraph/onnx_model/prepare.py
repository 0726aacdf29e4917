"""Prepare: the form of a model that lift and apply both see. Functions inlined, nodes in topological order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.schema import signature
from ampgraph.onnx_model.types import bodies


def prepare(model: ModelProto) -> ModelProto:
    """A model of the same meaning that has no model-local function and whose nodes stand in topological order.

    The model itself is returned when it has that form already. Raises ModelError on a cycle.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(_aligned(model))
    if _is_sorted(model.graph):
        return model
    ordered = ModelProto()
    ordered.CopyFrom(model)
    _sort(ordered.graph)
    return ordered


def _aligned(model: ModelProto) -> ModelProto:
    """The model with functions at its own opsets where that means the same: onnx inlines no others."""
    aligned = ModelProto()
    aligned.CopyFrom(model)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    for function in aligned.functions:
        for entry in function.opset_import:
            version = versions.get(entry.domain, entry.version)
            if version != entry.version and _mean_the_same(function.node, entry.domain, entry.version, version):
                entry.version = version
    return aligned


def _mean_the_same(nodes: Iterable[NodeProto], domain: str, first: int, second: int) -> bool:
    """Whether the operators of a domain have one version at both opsets, in bodies too."""
    return all(
        (node.domain != domain or _version(node, first) == _version(node, second))
        and all(_mean_the_same(body.node, domain, first, second) for _, body in bodies(node))
        for node in nodes
    )


def _version(node: NodeProto, opset: int) -> int:
    schema = signature(node.domain, node.op_type, opset)
    return schema.since_version if schema else 0


def _names_before(graph: GraphProto) -> set[str]:
    names = {value.name for value in graph.input}
    names.update(tensor.name for tensor in graph.initializer)
    names.update(tensor.values.name for tensor in graph.sparse_initializer)
    return names


def _is_sorted(graph: GraphProto) -> bool:
    """Whether every node reads only what stands before it. A name that nothing produces is lift's to report."""
    made = {name for node in graph.node for name in node.output}
    seen = _names_before(graph)
    for node in graph.node:
        for name in node.input:
            if name not in seen and name in made and name:
                return False
        for _, body in bodies(node) if node.attribute else ():
            if any(name in made and name not in seen for name in captured(body)) or not _is_sorted(body):
                return False
        seen.update(node.output)
    return True


def captured(body: GraphProto) -> set[str]:
    """Names that a body reads from the graphs around it."""
    own = _names_before(body) | {name for node in body.node for name in node.output}
    read = {name for node in body.node for name in node.input if name} | {value.name for value in body.output}
    for node in body.node:
        for _, inner in bodies(node):
            read |= captured(inner)
    return read - own


def _sort(graph: GraphProto) -> None:
    """Stable topological sort, in place, bodies included."""
    for node in graph.node:
        for _, body in bodies(node):
            _sort(body)
    ordered = [NodeProto() for _ in graph.node]
    for copy, node in zip(ordered, in_order(list(graph.node)), strict=True):
        copy.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(ordered)


def in_order(nodes: list[NodeProto]) -> list[NodeProto]:
    """The same nodes, each after those that it reads from, else in the order given. Raises ModelError on a cycle."""
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [_needs(node, makers) for node in nodes]
    order = _order(needs)
    if len(order) < len(nodes):
        stuck = nodes[next(index for index in range(len(nodes)) if index not in set(order))]
        raise ModelError(
            f"node {stuck.name or stuck.op_type!r}", "is part of a cycle", "a model must be acyclic: export it again"
        )
    return [nodes[index] for index in order]


def _needs(node: NodeProto, makers: dict[str, int]) -> set[int]:
    read: set[str] = set(node.input)
    for _, body in bodies(node):
        read |= captured(body)
    return {makers[name] for name in read if name in makers}


def _order(needs: list[set[int]]) -> list[int]:
    """Indices so that each follows what it needs, keeping the given order where it can; short when there is a cycle."""
    waiting = [len(need) for need in needs]
    readers: dict[int, list[int]] = {}
    for index, need in enumerate(needs):
        for source in need:
            readers.setdefault(source, []).append(index)
    ready = [index for index, count in enumerate(waiting) if count == 0]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for reader in _less(waiting, readers.get(index, ())):
            heapq.heappush(ready, reader)
    return order


def _less(waiting: list[int], readers: Iterable[int]) -> list[int]:
    freed = []
    for reader in readers:
        waiting[reader] -= 1
        if waiting[reader] == 0:
            freed.append(reader)
    return freed
