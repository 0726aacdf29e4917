"""Ops that write in place: made functional where nobody could tell, pinned where somebody could.

A cast is a copy. What is written to a copy does not reach the original, so no cast may stand near memory that is
written: all ops that make or read such memory keep the types of the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from ampgraph.fx_module.schema import may_alias, tensors_in, written

PIN = "ampgraph.pin"  # node metadata: why an op keeps the types of the source
_OVERLOADS = {("bernoulli_", "float"): "p"}  # where the functional twin's has another name
IN_PLACE = "ampgraph.in_place"  # node metadata: the op that wrote in place what this one makes anew
WRITTEN = "ampgraph.written"  # node metadata: the memory of this value changes while the graph runs


def make_functional(graph: fx.Graph) -> None:
    """Replace in-place ops by their functional twins in a graph of our own; pin what has to stay in place.

    An op without a twin (`bernoulli_`) that writes memory which nobody else sees keeps its place; its result is what
    is read from there on.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    memory = _Memory()
    for node in list(graph.nodes):
        targets = written(node)
        first = node.args[0] if node.args else None
        if len(targets) == 1 and first is targets[0] and _is_private(memory, order, node, targets[0]):
            twin = _twin(node)
            result = node if twin is None else _replace(graph, order, node, twin)
            memory.add(result)
            _pass_on(order, targets[0], result)
            continue
        memory.add(node)
        for each in _shared(node):
            memory.join(node, each)
        for each in targets:
            memory.written.add(memory.home(each))
    _pin(memory)


class _Memory:
    """Which values may share memory: disjoint sets of nodes, by representative."""

    def __init__(self) -> None:
        self.parent: dict[fx.Node, fx.Node] = {}
        self.members: dict[fx.Node, list[fx.Node]] = {}
        self.written: set[fx.Node] = set()

    def add(self, node: fx.Node) -> None:
        self.parent[node] = node
        self.members[node] = [node]

    def home(self, node: fx.Node) -> fx.Node:
        while self.parent[node] is not node:
            node = self.parent[node]
        return node

    def join(self, first: fx.Node, second: fx.Node) -> None:
        small, large = self.home(first), self.home(second)
        if small is large:
            return
        self.parent[small] = large
        self.members[large] += self.members.pop(small)
        if small in self.written:
            self.written.add(large)


def _shared(node: fx.Node) -> Iterator[fx.Node]:
    """Arguments that a result may share memory with."""
    if node.op != "call_function" or not may_alias(node):
        return
    if isinstance(node.target, OpOverload):
        yield from (each for given in node.args[:1] for each in tensors_in(given))
    else:
        yield from node.all_input_nodes


def _twin(node: fx.Node) -> OpOverload | None:
    """The functional op of an in-place one."""
    assert isinstance(node.target, OpOverload)  # only those are known to write
    namespace, name = node.target._schema.name.split("::")
    if namespace != "aten" or not name.endswith("_") or name.endswith("__"):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    overload = _OVERLOADS.get((name, node.target._overloadname), node.target._overloadname)
    twin = getattr(packet, overload, None) if packet is not None else None
    return twin if isinstance(twin, OpOverload) and not twin._schema.is_mutable else None


def _is_private(memory: _Memory, order: dict[fx.Node, int], node: fx.Node, target: fx.Node) -> bool:
    """Whether nobody but later readers of the target itself sees what is written."""
    for member in memory.members[memory.home(target)]:
        if member.op != "call_function":
            return False
        if member is not target and any(order[user] > order[node] for user in member.users):
            return False
    val = target.meta.get("val")
    return not (isinstance(val, torch.Tensor) and val.dtype != _dtype(node))


def _dtype(node: fx.Node) -> torch.dtype | None:
    val = node.meta.get("val")
    return val.dtype if isinstance(val, torch.Tensor) else None


def _replace(graph: fx.Graph, order: dict[fx.Node, int], node: fx.Node, twin: OpOverload) -> fx.Node:
    with graph.inserting_before(node):
        new = graph.call_function(twin, node.args, {**_defaults(node, twin), **node.kwargs})
    new.meta, order[new] = {**node.meta, IN_PLACE: node.target}, order[node]
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    return new


def _defaults(node: fx.Node, twin: OpOverload) -> dict[str, Any]:
    """What the in-place op takes for granted and its twin wants to be told."""
    assert isinstance(node.target, OpOverload)  # it has a twin
    told = {formal.name for formal in twin._schema.arguments if not formal.has_default_value()}
    left = node.target._schema.arguments[len(node.args) :]
    return {formal.name: formal.default_value for formal in left if formal.has_default_value() and formal.name in told}


def _pass_on(order: dict[fx.Node, int], target: fx.Node, result: fx.Node) -> None:
    """Who reads the target later reads the result, so that a cast of either is a cast of what it should be."""
    for user in [user for user in target.users if order[user] > order[result]]:
        user.replace_input_with(target, result)


def _pin(memory: _Memory) -> None:
    for home in memory.written:
        for member in memory.members.get(memory.home(home), ()):
            member.meta[WRITTEN] = True
            for each in (member, *member.users):
                each.meta[PIN] = "shares memory that is written in place, which a cast would copy"
