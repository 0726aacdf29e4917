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

_DEEPEST = 6  # operators that are looked through: a roll along two axes is four
_MOST_PARTS = 8  # of a concatenation
_ROW_BY_ROW = ("MatMul", "FusedMatMul", "Add", "Mul", "Reshape")


def rolled(net: Net, name: str, depth: int = _DEEPEST) -> tuple[str, Array]:
    """The value that a value's tokens come from, and from where: a token number for every token, images apart.

    Values are (batch, ..., width); between the two lie the axes of tokens. A value that is no other one in another
    order comes from itself, and so does one behind more operators than `depth`.
    """
    shape = net.shapes.get(name, ())[1:-1]
    own = name, np.arange(prod(shape)).reshape(shape)
    made = net.maker(name, *_READS) if depth and name in net.shapes else None
    return own if made is None else _READS[made.op_type](net, made, depth - 1) or own


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
    if view is None or net.shapes.get(source) != shape or not is_whole(view, draft.shapes[view.base]):
        return None
    if view.base == source or np.array_equal(order.reshape(-1), np.arange(order.size)):
        return None
    base = _reordered(draft, view.base, order.reshape(-1), each)
    return whole(base, shape) if base else None


def _side_by_side(draft: Draft, each: NodeProto) -> View | None:
    """Several tokens of an image as one: a transformer's patches are merged so."""
    net, shape = draft.net, draft.net.shapes[each.output[0]]
    if len(each.input) > _MOST_PARTS or 0 in shape:
        return None
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
    chain = []
    while (made := draft.made.get(base)) is not None and made.op_type in _ROW_BY_ROW:
        chain.append(made)
        base = made.input[0]
    places = (
        numpy_helper.to_array(draft.constants[made.input[1]]) if made is not None and made.op_type == "Gather" else None
    )
    if made is None or places is None or places.shape != order.shape:
        return ""
    index = draft.integers(f"{made.input[1]}_in_order", places[order])
    found = _again(draft, made, [made.input[0], index], old)
    for each in reversed(chain):
        found = _again(draft, each, [found, *each.input[1:]], old)
    return found


def _again(draft: Draft, made: NodeProto, inputs: list[str], old: NodeProto) -> str:
    """A node of ours once more, on other inputs."""
    name = made.output[0]
    copy = NodeProto(op_type=made.op_type, domain=made.domain, input=inputs, output=[f"{name}_in_order"])
    copy.attribute.extend(made.attribute)
    return draft.add(copy, draft.shapes[name], made, old)


def _concatenated(net: Net, made: NodeProto, depth: int) -> tuple[str, Array] | None:
    parts = [rolled(net, name, depth) for name in made.input[:_MOST_PARTS]]
    axis, rank = plain_attributes(made).get("axis"), len(net.shapes[made.output[0]])
    if not isinstance(axis, int) or not 0 < axis % rank < rank - 1 or len(parts) < len(made.input):
        return None
    if len({source for source, _ in parts}) > 1 or any(order.ndim != rank - 2 for _, order in parts):
        return None
    return parts[0][0], np.concatenate([order for _, order in parts], axis % rank - 1)


def _sliced(net: Net, made: NodeProto, depth: int) -> tuple[str, Array] | None:
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
    source, order = rolled(net, made.input[0], depth)
    return (source, order[tuple(places)]) if order.ndim == rank - 2 else None


def _padded(net: Net, made: NodeProto, depth: int) -> tuple[str, Array] | None:
    """What is padded with nothing."""
    pads = net.values(made.input[1]) if len(made.input) > 1 else None
    return rolled(net, made.input[0], depth) if pads is not None and not pads.any() else None


_READS = {"Concat": _concatenated, "Slice": _sliced, "Pad": _padded}
