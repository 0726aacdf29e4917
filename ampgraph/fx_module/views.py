"""Views that a body can do without or take in another order: it runs and is not shown.

Attention packs query, key and value into one product, turns the axis of the three to the front and takes them apart
(`.permute(2, 0, 3, 1, 4).unbind(0)`). Backward puts the three gradients together in that order, and the product's own
gradient needs them in the order of memory: another copy of all three. Taken apart first and turned after, they are put
together where they belong. Taken apart by an index each (`qkv[0], qkv[1], qkv[2]`), backward would make zeros as large
as all three for each, and add those up.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from ampgraph.fx_module.body import Body
from ampgraph.fx_module.grad_modes import Mode, grad_modes

_FLATTEN = torch.ops.aten.flatten.using_ints
_PERMUTE = torch.ops.aten.permute.default
_SELECT = torch.ops.aten.select.int
_UNBIND = torch.ops.aten.unbind.int


def settled(body: Body) -> Body:
    """The body with such views in the better order, and without those that change nothing."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(body.graph, {}))
    found = [*_unbind_selected(graph), *_unbind_first(graph), *_leave_out(graph)]
    return replace(body, run=fx.GraphModule({}, graph).forward, graph=graph) if found else body


def _unbind_selected(graph: fx.Graph) -> Iterator[fx.Node]:
    """One op for all indices of an axis, if all are taken with gradients on or all with them off."""
    modes = grad_modes(graph)
    for source in list(graph.nodes):
        indices = [_selected(user, source) for user in source.users]
        axis = indices[0][0] if indices and _are_alike(modes, source.users) else -1
        if len(indices) > 1 and sorted(indices) == [(axis, place) for place in range(_size(source, axis))]:
            selects = list(source.users)
            with graph.inserting_before(min(selects)):
                unbind = graph.call_function(_UNBIND, (source, axis))
            for select, (_, place) in zip(selects, indices, strict=True):
                select.target, select.args, select.kwargs = operator.getitem, (unbind, place), {}
            yield unbind


def _are_alike(modes: Mapping[fx.Node, Mode], nodes: Iterable[fx.Node]) -> bool:
    """Whether gradients are on at all of some nodes, or off at all of them."""
    return len({modes[each] for each in nodes}) == 1


def _selected(user: fx.Node, source: fx.Node) -> tuple[int, int]:
    """Axis and index, (-1, -1) for what is no such op."""
    rank = _rank(source)
    axis, place = user.args[1:3] if user.target is _SELECT and user.args[0] is source and rank else (None, None)
    if not isinstance(axis, int) or not isinstance(place, int):
        return -1, -1
    return axis % rank, place % max(_size(source, axis % rank), 1)


def _size(node: fx.Node, axis: int) -> int:
    """0 where it is not known."""
    val = node.meta.get("val")
    size = val.shape[axis] if isinstance(val, Tensor) and val.dim() else 0
    return size if isinstance(size, int) else 0


def _unbind_first(graph: fx.Graph) -> Iterator[fx.Node]:
    modes = grad_modes(graph)
    for node in list(graph.nodes):
        is_turned = node.target is _UNBIND and _is_turned(node.args[0]) and all(map(_is_item, node.users))
        if is_turned and _are_alike(modes, [node.args[0], node, *node.users]):
            yield from _turn_after(graph, node)


def _is_turned(source: object) -> bool:
    return isinstance(source, fx.Node) and source.target is _PERMUTE and len(source.users) == 1


def _is_item(user: fx.Node) -> bool:
    return user.target is operator.getitem


def _turn_after(graph: fx.Graph, unbind: fx.Node) -> Iterator[fx.Node]:
    turned = unbind.args[0]
    assert isinstance(turned, fx.Node)  # asked before
    order = turned.args[1]
    assert isinstance(order, list | tuple)  # of axes
    axes = [int(axis) % len(order) for axis in order]  # type: ignore[arg-type]
    apart = axes.pop(int(unbind.args[1]) if len(unbind.args) > 1 else 0)  # type: ignore[arg-type]
    unbind.args = turned.args[0], apart
    graph.erase_node(turned)
    for item in list(unbind.users):
        users = list(item.users)
        with graph.inserting_after(item):
            piece = graph.call_function(_PERMUTE, (item, [axis - (axis > apart) for axis in axes]))
        piece.meta, item.meta = item.meta, {}
        for user in users:
            user.replace_input_with(item, piece)
        yield piece


def _leave_out(graph: fx.Graph) -> Iterator[fx.Node]:
    for node in list(graph.nodes):
        source = node.args[0] if node.target is _FLATTEN and not node.kwargs else None
        if isinstance(source, fx.Node) and _is_one_axis(_rank(source), *node.args[1:]):
            node.replace_all_uses_with(source)
            graph.erase_node(node)
            yield source


def _is_one_axis(rank: int, first: Any = 0, last: Any = -1) -> bool:  # noqa: ANN401  (what nodes hold)
    """Whether flattening from one axis to the other changes nothing."""
    return bool(rank) and bool(first % rank == last % rank)


def _rank(node: fx.Node) -> int:
    """0 where it is not known."""
    val = node.meta.get("val")
    return val.dim() if isinstance(val, Tensor) else 0
