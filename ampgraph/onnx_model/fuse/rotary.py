"""Rotary embedding: heads that are turned by tables of cosines and sines, as one kernel.

Of every head the first part alone may be turned (GPT-NeoX, Phi-2), or the heads of all tokens but the first ones, which
have no place in the image (DINOv3): those are turned by no angle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from ampgraph.onnx_model.fuse.attention import heads_of
from ampgraph.onnx_model.fuse.heads import heads_in
from ampgraph.onnx_model.fuse.net import CONTRIB, node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.turns import Turn, axis_of, says_twice, turn_of
from ampgraph.onnx_model.fuse.view import View

_START = "rotary_start"
_AXES, _TOKENS, _SIZES = 4, 2, 3  # of heads (batch, heads, tokens, size)


@dataclass(frozen=True)
class _Part:
    """What of heads is turned: so much of each head, 0 for all; and the tokens after so many."""

    size: int = 0
    before: int = 0


def rotary_of(draft: Draft, sum_: NodeProto) -> View | None:
    """The result of a sum as a view of a fused rotary embedding; None where it is none."""
    turn = turn_of(draft.net, sum_)
    found = draft.view(turn.value) if turn is not None else None
    return _emitted(draft, sum_, turn, found) if turn is not None and found is not None else None


def partial_of(draft: Draft, joined: NodeProto) -> View | None:
    """Heads of which a part alone is turned, as a view of a fused rotary embedding; None for all else.

    The first part of each head, or the tokens after the first ones.
    """
    axis = axis_of(draft.net, joined) if len(joined.input) == 2 else None
    first, second = joined.input[:2] if axis in (_TOKENS, _SIZES) else ("", "")
    changed, kept = (first, second) if axis == _SIZES else (second, first)
    sum_ = draft.net.maker(changed, "Add")
    turn = turn_of(draft.net, sum_) if sum_ is not None else None
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


def _emitted(draft: Draft, old: NodeProto, turn: Turn, view: View, part: _Part = _Part()) -> View | None:
    """The heads, turned."""
    found = heads_in(draft, view, old)
    if found is None:
        return None
    sizes = (found.tokens - part.before, part.size or found.size)
    tables = [_table(draft, name, sizes, turn.adjacent, old) for name in (turn.cosine, turn.sine)]
    if tables[0] is None or tables[1] is None:
        return None
    if part.before:
        still = zip(tables, (1.0, 0.0), strict=True)
        tables = [_after(draft, str(name), part.before, value, old) for name, value in still]
    start = _START if _START in draft.constants else draft.integers(_START, [0])
    source, made = draft.cut(found.base, found.offset, found.width, old), f"{old.output[0]}_rotary"
    said = {"num_heads": found.heads, "interleaved": 1 if turn.adjacent else None}
    new = node("RotaryEmbedding", [source, start, *map(str, tables)], [made], CONTRIB, **said)
    if part.size:
        new.attribute.append(helper.make_attribute("rotary_embedding_dim", part.size))
    dims = heads_of(found.batch, found.heads, found.tokens, found.size, found.width)
    return View(draft.add(new, draft.shapes[source], old), dims)


def _table(draft: Draft, name: str, sizes: tuple[int, int], adjacent: bool, old: NodeProto) -> str | None:
    """A table that says everything twice, (tokens, size) behind axes of 1 or none, as (tokens, size / 2)."""
    shape, (tokens, size) = draft.net.shapes.get(name, ()), sizes
    if shape[-2:] != sizes or not set(shape[:-2]) <= {1} or not says_twice(draft.net, name, adjacent=adjacent):
        return None
    half = f"{name}_half"
    made = next((each for each in draft.made.values() if each.op_type == "Reshape" and each.input[0] == half), None)
    if made is not None:
        return str(made.output[0])
    end, step = (size, (("step", 2),)) if adjacent else (size // 2, ())
    places = (("start", 0), ("end", end), ("axis", len(shape) - 1), *step)
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
