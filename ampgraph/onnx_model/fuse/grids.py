"""Grids: gathers whose places follow from sizes alone, and that take all of a value in order or one row over and over.

Exporters write masks that were made by `torch.vmap` as a gather at every place of a grid, and the types of tokens that
nobody gave as a gather of row 0 for each. What the places of a grid are is run, as for causal masks, and must come of
ranges and constants that are only turned about: what holds at some sizes then holds at all, with no bound in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.known import PICKING, TURNING, computed, is_size, whole_maker
from ampgraph.onnx_model.fuse.net import Array, Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Recipe, Row
from ampgraph.onnx_model.fuse.view import Shape

_AXES_ARE_INPUTS = 13  # opset from which Unsqueeze takes them so


@dataclass
class _Draft:
    """What has been found so far. Grows."""

    nodes: list[NodeProto] = field(default_factory=list)
    removed: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)


def fuse_grids(net: Net) -> Fusion:
    """Every gather of all elements in their order as a view, every one of a single row as that row."""
    draft = _Draft()
    grids = [each for each in net.graph.node if _may_be_view(net, each)]
    places = computed(net, list(dict.fromkeys(each.input[1] for each in grids))) if grids else {}
    for each in grids:
        if each.input[1] in places:
            _view(net, each, places[each.input[1]], draft)
    for each in net.graph.node:
        if _may_be_row(net, each):
            _row(net, each, draft)
    kinds = {"gather in order": len(draft.nodes), "gather of one row": len(draft.replaced)}
    return Fusion(
        tuple(draft.nodes),
        draft.replaced,
        tuple(draft.removed),
        tuple(draft.constants.values()),
        draft.recipes,
        draft.shapes,
        {kind: count for kind, count in kinds.items() if count},
    )


def _may_be_view(net: Net, each: NodeProto) -> bool:
    """Whether this gathers single elements of data, at places of a grid."""
    is_one = each.op_type == "GatherND" and not each.domain and not plain_attributes(each).get("batch_dims", 0)
    return (
        is_one and each.input[0] in net.shapes and each.input[0] not in net.constants and _is_grid(net, each.input[1])
    )


def _is_grid(net: Net, name: str) -> bool:
    """Whether a value is made of constants and of ranges of sizes, turned about and put side by side."""
    made = whole_maker(net, name, *TURNING, "Concat", "Range")
    if name in net.constants or made is None:
        return name in net.constants
    if made.op_type == "Range":
        start, limit, step = made.input
        return net.scalar(start) == 0 and net.scalar(step) == 1 and is_size(net, limit)
    return all(_is_grid(net, part) for part in (made.input if made.op_type == "Concat" else made.input[:1]))


def _filling(net: Net, name: str) -> int | None:
    """The one number that a value is full of, however large it is; None where there may be others."""
    constant = net.table(name) if name in net.constants else None
    if constant is not None:
        return int(constant.flat[0]) if constant.size and np.all(constant == constant.flat[0]) else None
    made = whole_maker(net, name, *TURNING, *PICKING, "Concat")
    if made is None:
        return None
    parts = {_filling(net, part) for part in (made.input if made.op_type == "Concat" else made.input[:1])}
    return parts.pop() if len(parts) == 1 else None


def _may_be_row(net: Net, each: NodeProto) -> bool:
    """Whether this gathers rows of a constant table, to be added to as many."""
    if each.op_type != "Gather" or each.domain or plain_attributes(each).get("axis", 0) != 0:
        return False
    if not net.is_own_float(each.input[0]) or len(net.constants[each.input[0]].dims) != 2:
        return False
    add = net.sole_reader(each.output[0], "Add")
    shape = net.shapes.get(each.output[0])
    return add is not None and shape is not None and all(net.shapes.get(name) == shape for name in add.input)


def _view(net: Net, each: NodeProto, places: Array, draft: _Draft) -> None:
    shape = net.shapes[each.input[0]]
    axes = _axes_of_one(places.shape[:-1], shape) if places.shape[-1] == len(shape) else None
    if axes is None or not _are_in_order(places, shape):
        return
    inputs, old = [each.input[0]], axes if net.opset < _AXES_ARE_INPUTS else None
    if old is None:
        inputs.append(fresh(net, f"{each.output[0]}_axes", draft.constants))
        draft.constants[inputs[-1]] = numpy_helper.from_array(np.array(axes, np.int64), inputs[-1])
    draft.nodes.append(with_origin(node("Unsqueeze", inputs, each.output[:1], axes=old), [each]))
    draft.removed.append(each)


def _are_in_order(places: Array, shape: Shape) -> bool:
    """Whether places of single elements are all there are, first to last."""
    if prod(places.shape[:-1]) != prod(shape):
        return False
    flat = np.ravel_multi_index(tuple(np.mod(places, shape).reshape(-1, len(shape)).T), shape)
    return bool(np.array_equal(flat, np.arange(prod(shape))))


def _axes_of_one(made: Shape, shape: Shape) -> tuple[int, ...] | None:
    """Where axes of 1 go into a shape to make another; None where that does not make it."""
    axes, left = [], list(shape)
    for axis, size in enumerate(made):
        if left and size == left[0]:
            left.pop(0)
        elif size == 1:
            axes.append(axis)
        else:
            return None
    return tuple(axes) if not left else None


def _row(net: Net, each: NodeProto, draft: _Draft) -> None:
    table, place = net.constants[each.input[0]], _filling(net, each.input[1])
    if place is None or not -table.dims[0] <= place < table.dims[0]:
        return
    place %= table.dims[0]
    name = fresh(net, f"{each.input[0]}_row_{place}")
    draft.constants[name] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=table.dims[1:])
    draft.recipes[name] = Row(each.input[0], place)
    draft.shapes[name] = (int(table.dims[1]),)
    draft.replaced[each.output[0]] = name
    draft.removed.append(each)
