"""Rotary embedding: x * cos + rotated(x) * sin, where rotated(x) is its second half, negated, then its first half.

Of every head the first part alone may be turned (GPT-NeoX, Phi-2), or the heads of all tokens but the first ones, which
have no place in the image (DINOv3): those are turned by no angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.attention import heads_of
from ampgraph.onnx_model.fuse.heads import heads_in
from ampgraph.onnx_model.fuse.net import CONTRIB, Net, node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.view import View

_START = "rotary_start"
_AXES, _TOKENS, _SIZES = 4, 2, 3  # of heads (batch, heads, tokens, size)


@dataclass(frozen=True)
class _Part:
    """What of heads is turned: so much of each head, 0 for all; and the tokens after so many."""

    size: int = 0
    before: int = 0


@dataclass(frozen=True)
class _Turn:
    """A value that is turned, and the tables of cosines and sines that it is turned by."""

    value: str
    cosine: str
    sine: str


def rotary_of(draft: Draft, sum_: NodeProto) -> View | None:
    """The result of a sum as a view of a fused rotary embedding; None where it is none."""
    turn = _turn(draft, sum_)
    found = draft.view(turn.value) if turn is not None else None
    return _emitted(draft, sum_, turn, found) if turn is not None and found is not None else None


def partial_of(draft: Draft, joined: NodeProto) -> View | None:
    """Heads of which a part alone is turned, as a view of a fused rotary embedding; None for all else.

    The first part of each head, or the tokens after the first ones.
    """
    axis = _axis(draft.net, joined) if len(joined.input) == 2 else None
    first, second = joined.input[:2] if axis in (_TOKENS, _SIZES) else ("", "")
    changed, kept = (first, second) if axis == _SIZES else (second, first)
    sum_ = draft.net.maker(changed, "Add")
    turn = _turn(draft, sum_) if sum_ is not None else None
    part, rest = (draft.view(turn.value), draft.view(kept)) if turn is not None else (None, None)
    if axis is None or turn is None or part is None or rest is None:
        return None
    views = (part, rest) if axis == _SIZES else (rest, part)
    whole = _joined(*views, axis)
    if whole is None:
        return None
    size = part.shape[_SIZES] if axis == _SIZES else 0
    return _emitted(draft, joined, turn, whole, _Part(size, rest.shape[_TOKENS] if axis == _TOKENS else 0))


def _joined(one: View, other: View, axis: int) -> View | None:
    """The view of what two read that lie side by side in a base, one after the other; None where they do not."""
    apart = (*one.dims[:axis], *one.dims[axis + 1 :]) != (*other.dims[:axis], *other.dims[axis + 1 :])
    if len(one.dims) != _AXES or len(other.dims) != _AXES or one.base != other.base or apart:
        return None
    size, more = one.shape[axis], other.shape[axis]
    strides = {stride for view in (one, other) for _, stride in view.dims[axis]}
    if len(strides) != 1 or max(len(one.dims[axis]), len(other.dims[axis])) > 1:
        return None
    stride = strides.pop()
    if other.offset != one.offset + size * stride:
        return None
    return View(one.base, (*one.dims[:axis], ((size + more, stride),), *one.dims[axis + 1 :]), one.offset)


def _turn(draft: Draft, sum_: NodeProto) -> _Turn | None:
    products = [draft.net.maker(name, "Mul") for name in sum_.input]
    for straight, turned in (products, products[::-1]):
        if straight is None or turned is None:
            continue
        for rotated, sine in (turned.input, reversed(turned.input)):
            value = _rotated(draft, rotated)
            if value and value in straight.input:
                return _Turn(value, next((name for name in straight.input if name != value), value), sine)
    return None


def _rotated(draft: Draft, name: str) -> str:
    """The value that `name` is with its halves exchanged and the new first one negated, "" if it is no such thing."""
    net = draft.net
    whole = net.maker(name, "Concat")
    negative = net.maker(whole.input[0], "Neg") if whole is not None and len(whole.input) == 2 else None
    if whole is None or negative is None or not _is_last_axis(net, whole):
        return ""
    return _halved(net, whole.input[1], negative.input[0])


def _is_last_axis(net: Net, joined: NodeProto) -> bool:
    rank = len(net.shapes.get(joined.output[0], ()))
    return rank > 0 and _axis(net, joined) == rank - 1


def _axis(net: Net, joined: NodeProto) -> int | None:
    """The axis along which values are joined, counted from the first one; None where that is not known."""
    rank, axis = len(net.shapes.get(joined.output[0], ())), plain_attributes(joined).get("axis")
    return axis % rank if rank and isinstance(axis, int) else None


def _halved(net: Net, first: str, second: str) -> str:
    """The value of which these are the halves along the last axis, "" where they are not."""
    makers = [net.maker(name, "Slice", "Split") for name in (first, second)]
    one, other = makers
    if one is None or other is None or one.input[0] != other.input[0]:
        return ""
    shape = net.shapes.get(one.input[0], ())
    if not shape or any(net.shapes.get(name) != (*shape[:-1], shape[-1] // 2) for name in (first, second)):
        return ""
    if one.op_type == other.op_type == "Split":
        return str(one.input[0]) if one is other and list(one.output) == [first, second] else ""
    places = [_start(net, each) for each in (one, other)]
    return str(one.input[0]) if places == [0, shape[-1] // 2] else ""


def _start(net: Net, cut: NodeProto) -> int | None:
    """Where a slice of one axis starts; None where it leaves places out or is none."""
    start = net.values(cut.input[1]) if cut.op_type == "Slice" and len(cut.input) > 1 else None
    step = net.scalar(cut.input[4]) if len(cut.input) > 4 else 1
    return int(start.reshape(-1)[0]) if start is not None and start.size == step == 1 else None


def _emitted(draft: Draft, old: NodeProto, turn: _Turn, view: View, part: _Part = _Part()) -> View | None:
    """The heads, turned."""
    found = heads_in(draft, view, old)
    if found is None:
        return None
    sizes = (found.tokens - part.before, part.size or found.size)
    tables = [_table(draft, name, *sizes, old) for name in (turn.cosine, turn.sine)]
    if tables[0] is None or tables[1] is None:
        return None
    if part.before:
        still = zip(tables, (1.0, 0.0), strict=True)
        tables = [_after(draft, str(name), part.before, value, old) for name, value in still]
    start = _START if _START in draft.constants else draft.integers(_START, [0])
    source, made = draft.cut(found.base, found.offset, found.width, old), f"{old.output[0]}_rotary"
    said = {"num_heads": found.heads, "rotary_embedding_dim": part.size or None}
    new = node("RotaryEmbedding", [source, start, *map(str, tables)], [made], CONTRIB, **said)
    dims = heads_of(found.batch, found.heads, found.tokens, found.size, found.width)
    return View(draft.add(new, draft.shapes[source], old), dims)


def _table(draft: Draft, name: str, tokens: int, size: int, old: NodeProto) -> str | None:
    """One half of a table whose halves are alike, (tokens, size) behind axes of 1 or none, as (tokens, size / 2)."""
    shape = draft.net.shapes.get(name, ())
    if shape[-2:] != (tokens, size) or not set(shape[:-2]) <= {1} or not _repeats(draft, name):
        return None
    half = f"{name}_half"
    made = next((each for each in draft.made.values() if each.op_type == "Reshape" and each.input[0] == half), None)
    if made is not None:
        return str(made.output[0])
    places = (("start", 0), ("end", size // 2), ("axis", len(shape) - 1))
    ends = [draft.integers(f"{half}_{key}", [at]) for key, at in places]
    cut = draft.add(node("Slice", [name, *ends], [half]), (*shape[:-1], size // 2), old)
    flat = draft.integers(f"{half}_shape", [-1, size // 2])
    return draft.add(node("Reshape", [cut, flat], [f"{half}_flat"]), (tokens, size // 2), old)


def _after(draft: Draft, table: str, rows: int, value: float, old: NodeProto) -> str:
    """A table after so many rows of one value; made once."""
    name = f"{table}_after_{rows}"
    if name not in draft.made:
        width = draft.shapes[table][1]
        first = draft.table(f"{name}_of_{value:.0f}", np.full((rows, width), value, np.float32))
        shape = (rows + draft.shapes[table][0], width)
        draft.add(node("Concat", [first, table], [name], axis=0), shape, old)
    return name


def _repeats(draft: Draft, name: str) -> bool:
    """Whether the second half of the last axis says what the first half says."""
    net = draft.net
    while (made := net.maker(name, "Unsqueeze", "Cos", "Sin", "Mul", "Cast")) is not None:
        if made.op_type == "Mul" and net.scalar(made.input[1]) is None:
            return False
        name = made.input[0]
    joined = net.maker(name, "Concat")
    if joined is not None:
        return _is_last_axis(net, joined) and len(joined.input) == 2 and joined.input[0] == joined.input[1]
    values = net.table(name)
    return values is not None and not np.any(np.diff(np.stack(np.split(values, 2, -1)), axis=0))
