"""Rolls: tokens of an image in another order, as slices that change places or as a row of indices.

A shifted window transformer rolls its image, works on rows, and rolls it back. The order is followed through slices and
concatenations. Where rows come from a gather of ours, what is done row by row in between does not see the order, so the
way back becomes part of the gather. Patches that are merged are slices, put side by side: one gather too.
"""

from __future__ import annotations

from math import prod

import numpy as np
from onnx import NodeProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Array, Net, node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.view import View, is_whole, whole

_ROW_BY_ROW = ("MatMul", "FusedMatMul", "Add", "Mul", "Reshape")


def rolled(net: Net, name: str) -> tuple[str, Array]:
    """The value that a value's tokens come from, and from where: a token number for every token, images apart.

    Values are (batch, ..., width); between the two lie the axes of tokens. A value that is no other one in another
    order comes from itself.
    """
    shape = net.shapes[name][1:-1]
    own = name, np.arange(prod(shape)).reshape(shape)
    made = net.maker(name, "Concat", "Slice", "Pad")
    if made is None:
        return own
    return _READS[made.op_type](net, made) or own


def reordered_of(draft: Draft, each: NodeProto) -> View | None:
    """A concatenation of slices that only reorders tokens, or puts several side by side, as a gather in that order."""
    if each.domain not in ("", "ai.onnx") or len(draft.net.shapes.get(each.output[0], ())) < 3:
        return None
    return _unrolled(draft, each) or _side_by_side(draft, each)


def _unrolled(draft: Draft, each: NodeProto) -> View | None:
    """Tokens of what a gather of ours began, in another order."""
    net, shape = draft.net, draft.net.shapes[each.output[0]]
    source, order = rolled(net, each.output[0])
    view = draft.views.get(source)
    if view is None or net.shapes[source] != shape or not is_whole(view, draft.shapes[view.base]):
        return None
    if view.base == source or np.array_equal(order.reshape(-1), np.arange(order.size)):
        return None
    base = _reordered(draft, view.base, order.reshape(-1), each)
    return whole(base, shape) if base else None


def _side_by_side(draft: Draft, each: NodeProto) -> View | None:
    """Several tokens of an image as one: a transformer's patches are merged so."""
    net, shape = draft.net, draft.net.shapes[each.output[0]]
    parts = [rolled(net, name) for name in each.input]
    source, order = parts[0]
    sizes = net.sizes(source)
    axis = plain_attributes(each).get("axis")
    last = isinstance(axis, int) and axis % len(shape) == len(shape) - 1
    if not last or sizes is None or None in sizes[1:] or source in each.input:
        return None
    if any(other != source or places.shape != order.shape for other, places in parts):
        return None
    batch, *_, width = net.shapes[source]
    index = np.stack([places.reshape(-1) for _, places in parts], axis=-1).reshape(-1)
    rows = draft.reshaped(source, (batch, prod(net.shapes[source][1:-1]), width), each)
    new = node("Gather", [rows, draft.integers(f"{each.output[0]}_order", index)], [f"{each.output[0]}_rows"], axis=1)
    made = draft.add(new, (batch, index.size, width), each)
    return whole(draft.reshaped(made, shape, each), shape)


def _reordered(draft: Draft, base: str, order: Array, old: NodeProto) -> str:
    """The base again, with its tokens in this order; "" where it does not come from a gather row by row."""
    made = draft.made.get(base)
    if made is None or made.op_type not in ("Gather", *_ROW_BY_ROW):
        return ""
    copy = NodeProto(op_type=made.op_type, domain=made.domain, input=made.input, output=[f"{base}_in_order"])
    copy.attribute.extend(made.attribute)
    if made.op_type == "Gather":
        places = numpy_helper.to_array(draft.constants[made.input[1]])
        if places.shape != order.shape:
            return ""
        copy.input[1] = draft.integers(f"{made.input[1]}_in_order", places[order])
    else:
        copy.input[0] = _reordered(draft, made.input[0], order, old)
    return draft.add(copy, draft.shapes[base], made, old) if copy.input[0] else ""


def _concatenated(net: Net, made: NodeProto) -> tuple[str, Array] | None:
    parts = [rolled(net, name) for name in made.input]
    axis, rank = plain_attributes(made).get("axis"), len(net.shapes[made.output[0]])
    if not isinstance(axis, int) or len({source for source, _ in parts}) > 1 or not 0 < axis % rank < rank - 1:
        return None
    return parts[0][0], np.concatenate([order for _, order in parts], axis % rank - 1)


def _sliced(net: Net, made: NodeProto) -> tuple[str, Array] | None:
    rank = len(net.shapes[made.output[0]])
    given = [net.values(name) if name else None for name in made.input[1:]]
    if len(given) < 3 or any(values is None for values in given):
        return None
    starts, ends, axes, *steps = (values.reshape(-1).tolist() for values in given if values is not None)
    places = [slice(None)] * (rank - 2)
    for start, end, axis, step in zip(starts, ends, axes, steps[0] if steps else [1] * len(axes), strict=True):
        if not 0 < axis % rank < rank - 1:
            return None
        places[axis % rank - 1] = slice(start, end, step)
    source, order = rolled(net, made.input[0])
    return source, order[tuple(places)]


def _padded(net: Net, made: NodeProto) -> tuple[str, Array] | None:
    """What is padded with nothing."""
    pads = net.values(made.input[1]) if len(made.input) > 1 else None
    return rolled(net, made.input[0]) if pads is not None and not pads.any() else None


_READS = {"Concat": _concatenated, "Slice": _sliced, "Pad": _padded}
