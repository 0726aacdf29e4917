"""Ops that write in place: made functional where nobody could tell, pinned where somebody could.

A cast is a copy. What is written to a copy does not reach the original, so no cast may stand near memory that is
written: all ops that make or read such memory keep the types of the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, fx

from ampgraph.fx_module.grad_modes import Mode, grad_modes, made_in
from ampgraph.fx_module.schema import shared, written
from ampgraph.fx_module.twins import made_anew

PIN = "ampgraph.pin"  # node metadata: why an op keeps the types of the source
IN_PLACE = "ampgraph.in_place"  # node metadata: the op that wrote in place what this one makes anew
WRITTEN = "ampgraph.written"  # node metadata: the memory of this value changes while the graph runs


def make_functional(graph: fx.Graph) -> None:
    """Replace in-place ops by their functional twins in a graph of our own; pin what has to stay in place.

    An op without a twin (`normal_`) that writes memory which nobody else sees keeps its place; its result is what is
    read from there on.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    memory, modes = _Memory(), grad_modes(graph)
    for node in list(graph.nodes):
        targets = written(node)
        if not _is_free(memory, order, modes, node, targets):
            memory.add(node, shared(node))
            for each in targets:
                memory.written.add(memory.home(each))
            continue
        twin = made_anew(graph, node)
        if twin is None:
            memory.mark(targets[0])
            memory.add(node)
            _pass_on(order, targets[0], node)
            continue
        twin.meta[IN_PLACE], order[twin], modes[twin] = node.target, order[node], modes[node]
        memory.add(twin, shared(twin))
        node.replace_all_uses_with(twin)
        graph.erase_node(node)
        _pass_on(order, targets[0], twin)
    _pin(memory)


class _Memory:
    """Which values may share memory: disjoint sets of nodes, by representative."""

    def __init__(self) -> None:
        self.parent: dict[fx.Node, fx.Node] = {}
        self.members: dict[fx.Node, list[fx.Node]] = {}
        self.written: set[fx.Node] = set()

    def add(self, node: fx.Node, others: Iterable[fx.Node] = ()) -> None:
        self.parent[node] = node
        self.members[node] = [node]
        for each in others:
            self.join(node, each)

    def mark(self, node: fx.Node) -> None:
        for member in self.members[self.home(node)]:
            member.meta[WRITTEN] = True

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


def _is_free(
    memory: _Memory,
    order: dict[fx.Node, int],
    modes: Mapping[fx.Node, Mode],
    node: fx.Node,
    targets: Sequence[fx.Node],
) -> bool:
    """Whether a node writes its first argument alone, and a new value in that one's place would do."""
    is_simple = len(targets) == 1 and bool(node.args) and node.args[0] is targets[0]
    return is_simple and not _keeps_gradient(modes, node, targets[0]) and _is_private(memory, order, node, targets[0])


def _is_private(memory: _Memory, order: dict[fx.Node, int], node: fx.Node, target: fx.Node) -> bool:
    """Whether nobody but later readers of the target itself sees what is written."""
    for member in memory.members[memory.home(target)]:
        if member.op != "call_function":
            return False
        if member is not target and any(order[user] > order[node] for user in member.users):
            return False
    return True


def _keeps_gradient(modes: Mapping[fx.Node, Mode], node: fx.Node, target: fx.Node) -> bool:
    """Whether a target has its gradient through a write that has none: what is made anew there would have none."""
    val = target.meta.get("val")
    has_any = isinstance(val, Tensor) and (val.is_floating_point() or val.is_complex())
    return has_any and modes[node] is False and made_in(modes, target) is not False


def _pass_on(order: dict[fx.Node, int], target: fx.Node, result: fx.Node) -> None:
    """Who reads the target later reads the result, so that a cast of either is a cast of what it should be."""
    for user in [user for user in target.users if order[user] > order[result]]:
        user.replace_input_with(target, result)


def _pin(memory: _Memory) -> None:
    for home in memory.written:
        memory.mark(home)
        for member in memory.members[memory.home(home)]:
            for each in (member, *member.users):
                each.meta[PIN] = "shares memory that is written in place, which a cast would copy"
