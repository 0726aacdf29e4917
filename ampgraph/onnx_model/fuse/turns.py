"""Turns: x * cos + rotated(x) * sin, the pairs of x being turned each by its angle.

A pair is a place of the first half and the one of the second half, as most write it, or two neighbours (GLM, Cohere).
rotated(x) has the second of each pair, negated, in the place of the first, and the first in that of the second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.known import computed, without_data
from ampgraph.onnx_model.fuse.net import Net


@dataclass(frozen=True)
class Turn:
    """A value that is turned, its tables of cosines and sines, and whether pairs are neighbours."""

    value: str
    cosine: str
    sine: str
    adjacent: bool = False


def turn_of(net: Net, sum_: NodeProto) -> Turn | None:
    """What a sum turns; None where it is no such thing."""
    products = [net.maker(name, "Mul") for name in sum_.input]
    for straight, turned in (products, products[::-1]):
        if straight is None or turned is None:
            continue
        for rotated, sine in (turned.input, reversed(turned.input)):
            value, adjacent = _rotated(net, rotated)
            if value and value in straight.input:
                return Turn(value, next((name for name in straight.input if name != value), value), sine, adjacent)
    return None


def _rotated(net: Net, name: str) -> tuple[str, bool]:
    """The value that this is with its pairs exchanged, and whether those are neighbours; "" for none."""
    made = net.maker(name, "Concat", "Reshape")
    adjacent = made is not None and made.op_type == "Reshape"
    joined = net.maker(made.input[0], "Concat") if made is not None and adjacent else made
    if joined is None or len(joined.input) != 2 or not is_last_axis(net, joined):
        return "", False
    first, second = (_column(net, each) for each in joined.input) if adjacent else joined.input
    negative = net.maker(first, "Neg")
    if negative is None:
        return "", False
    value = (_alternating if adjacent else _halved)(net, second, negative.input[0])
    return (value, adjacent) if net.shapes.get(value) == net.shapes.get(name) else ("", False)


def _column(net: Net, name: str) -> str:
    """A value before it got a last axis of 1; "" where it has none."""
    made, shape = net.maker(name, "Unsqueeze", "Reshape"), net.shapes.get(name, ())
    alike = made is not None and net.shapes.get(made.input[0]) == shape[:-1] and shape[-1:] == (1,)
    return str(made.input[0]) if made is not None and alike else ""


def _alternating(net: Net, first: str, second: str) -> str:
    """The value of which these are every second place along the last axis, from the first and from the second on."""
    cuts = _two_of_one(net, first, second, "Slice")
    return str(cuts[0].input[0]) if [_start(net, each, 2) for each in cuts] == [0, 1] else ""


def is_last_axis(net: Net, joined: NodeProto) -> bool:
    """Whether values are joined along their last axis."""
    rank = len(net.shapes.get(joined.output[0], ()))
    return rank > 0 and axis_of(net, joined) == rank - 1


def axis_of(net: Net, joined: NodeProto) -> int | None:
    """The axis along which values are joined, counted from the first one; None where that is not known."""
    rank, axis = len(net.shapes.get(joined.output[0], ())), plain_attributes(joined).get("axis")
    return axis % rank if rank and isinstance(axis, int) else None


def _halved(net: Net, first: str, second: str) -> str:
    """The value of which these are the halves along the last axis, "" where they are not."""
    cuts = _two_of_one(net, first, second, "Slice", "Split")
    if not cuts:
        return ""
    source, one, other = str(cuts[0].input[0]), *cuts
    if one.op_type == other.op_type == "Split":
        return source if one is other and list(one.output) == [first, second] else ""
    return source if [_start(net, each) for each in cuts] == [0, net.shapes[first][-1]] else ""


def _two_of_one(net: Net, first: str, second: str, *types: str) -> tuple[NodeProto, ...]:
    """What makes two values, each half as wide as the one that both are cut out of; () where that is not so."""
    cuts = tuple(made for name in (first, second) if (made := net.maker(name, *types)) is not None)
    if len(cuts) < 2 or cuts[0].input[0] != cuts[1].input[0]:
        return ()
    shape = net.shapes.get(cuts[0].input[0], ())
    half = (*shape[:-1], shape[-1] // 2) if shape else None
    return cuts if half is not None and all(net.shapes.get(name) == half for name in (first, second)) else ()


def _start(net: Net, cut: NodeProto, by: int = 1) -> int | None:
    """Where a slice of one axis starts; None where it takes other steps or is none."""
    start = net.values(cut.input[1]) if cut.op_type == "Slice" and len(cut.input) > 1 else None
    step = net.scalar(cut.input[4]) if len(cut.input) > 4 else 1
    return int(start.reshape(-1)[0]) if start is not None and start.size == 1 and step == by else None


def says_twice(net: Net, name: str, *, adjacent: bool) -> bool:
    """Whether both places of every pair along the last axis say the same."""
    while (made := net.maker(name, "Unsqueeze", "Cos", "Sin", "Mul", "Cast")) is not None:
        if made.op_type == "Mul" and net.scalar(made.input[1]) is None:
            return False
        name = made.input[0]
    values = net.table(name)
    if values is None and net.maker(name, "Split", "Slice") is not None and name in without_data(net):
        values = computed(net, [name]).get(name)
    if values is not None:
        pairs = values.reshape(*values.shape[:-1], -1, 2) if adjacent else np.stack(np.split(values, 2, -1), -1)
        return bool(np.all(pairs[..., 0] == pairs[..., 1]))
    if adjacent:
        return _is_doubled(net, name)
    joined = net.maker(name, "Concat", "Tile")
    if joined is None or joined.op_type == "Tile":
        return joined is not None and _tiles_twice(net, joined)
    return len(joined.input) == 2 and joined.input[0] == joined.input[1] and is_last_axis(net, joined)


def _tiles_twice(net: Net, tile: NodeProto) -> bool:
    """Whether a value is another one twice, side by side."""
    times = net.values(tile.input[1])
    return times is not None and times.tolist() == [1] * (times.size - 1) + [2]


def _is_doubled(net: Net, name: str) -> bool:
    """Whether a value is another one, each place of its last axis twice."""
    flat = net.maker(name, "Reshape")
    spread = net.maker(flat.input[0], "Expand") if flat is not None else None
    if flat is None or spread is None:
        return False
    before, after = net.shapes.get(spread.input[0], ()), net.shapes.get(spread.output[0], ())
    alike = before[-1:] == (1,) and after[-1:] == (2,) and len(after) > 1
    return alike and net.shapes.get(name, ())[-1:] == (2 * after[-2],)
