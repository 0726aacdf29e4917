"""Rotary embedding: x * cos + rotated(x) * sin, where rotated(x) is its second half, negated, then its first half.

Of every head the first part alone may be turned (GPT-NeoX, Phi-2).
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
    """Heads of which the first part alone is turned, as a view of a fused rotary embedding; None for all else."""
    net = draft.net
    sum_ = net.maker(joined.input[0], "Add") if len(joined.input) == 2 and _is_last_axis(net, joined) else None
    turn = _turn(draft, sum_) if sum_ is not None else None
    part, rest = (draft.view(turn.value), draft.view(joined.input[1])) if turn is not None else (None, None)
    if turn is None or part is None or rest is None or part.base != rest.base or part.dims[:-1] != rest.dims[:-1]:
        return None
    sizes = [view.shape[-1] for view in (part, rest)]
    alone = all(view.dims[-1] == ((size, 1),) for view, size in zip((part, rest), sizes, strict=True))
    if not alone or rest.offset != part.offset + sizes[0]:
        return None
    whole = View(part.base, (*part.dims[:-1], ((sum(sizes), 1),)), part.offset)
    return _emitted(draft, joined, turn, whole, sizes[0])


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
    return rank > 0 and plain_attributes(joined).get("axis") in (-1, rank - 1)


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


def _emitted(draft: Draft, old: NodeProto, turn: _Turn, view: View, part: int = 0) -> View | None:
    """The heads, turned. `part`: how much of each head is, if not all."""
    found = heads_in(draft, view, old)
    if found is None:
        return None
    tables = [_table(draft, name, found.tokens, part or found.size, old) for name in (turn.cosine, turn.sine)]
    if None in tables:
        return None
    start = _START if _START in draft.constants else draft.integers(_START, [0])
    source, made = draft.cut(found.base, found.offset, found.width, old), f"{old.output[0]}_rotary"
    said = {"num_heads": found.heads, "rotary_embedding_dim": part or None}
    new = node("RotaryEmbedding", [source, start, *map(str, tables)], [made], CONTRIB, **said)
    dims = heads_of(found.batch, found.heads, found.tokens, found.size, found.width)
    return View(draft.add(new, draft.shapes[source], old), dims)


def _table(draft: Draft, name: str, tokens: int, size: int, old: NodeProto) -> str | None:
    """One half of a (1, 1, tokens, size) table whose halves are alike, as (tokens, size / 2)."""
    if draft.net.shapes.get(name) != (1, 1, tokens, size) or not _repeats(draft, name):
        return None
    half = f"{name}_half"
    made = next((each for each in draft.made.values() if each.op_type == "Reshape" and each.input[0] == half), None)
    if made is not None:
        return str(made.output[0])
    ends = [draft.integers(f"{half}_{key}", [at]) for key, at in (("start", 0), ("end", size // 2), ("axis", 3))]
    cut = draft.add(node("Slice", [name, *ends], [half]), (1, 1, tokens, size // 2), old)
    flat = draft.integers(f"{half}_shape", [-1, size // 2])
    return draft.add(node("Reshape", [cut, flat], [f"{half}_flat"]), (tokens, size // 2), old)


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
