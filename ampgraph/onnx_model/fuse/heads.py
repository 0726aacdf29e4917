"""Heads side by side: the rows of a value that kernels take, behind the heads that an exporter turned to the front.

A head that is normalized after the change of layout (Gemma 3, vision transformers with normalized queries) is
normalized before it instead: the same rows in another order.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from onnx import NodeProto

from ampgraph.onnx_model.fuse.attention import heads_of
from ampgraph.onnx_model.fuse.net import node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.skip_norm import Norm
from ampgraph.onnx_model.fuse.view import View


@dataclass(frozen=True)
class Heads:
    """Heads side by side in a part of a base's rows, (batch, tokens, width)."""

    base: str
    offset: int
    batch: int
    heads: int
    tokens: int
    size: int  # of one head

    @property
    def width(self) -> int:
        """How much of a row they are."""
        return self.heads * self.size


def heads_in(draft: Draft, found: View, old: NodeProto) -> Heads | None:
    """What a view of (batch, heads, tokens, size) reads; None where those are not heads side by side."""
    if len(found.dims) != 4:
        return None
    view = draft.in_rows(found, old)
    batch, heads, tokens, size = view.shape
    shape = draft.shapes[view.base]
    fits = len(shape) == 3 and view.dims == heads_of(batch, heads, tokens, size, shape[-1])
    if not fits or shape[:2] != (batch, tokens) or view.offset + heads * size > shape[-1]:
        return None
    return Heads(view.base, view.offset, batch, heads, tokens, size)


def normalized_of(draft: Draft, norm: Norm) -> View | None:
    """The result of a normalization of turned heads, as a view of heads that are normalized side by side."""
    view = draft.view(norm.value)
    found = heads_in(draft, view, norm.nodes[-1]) if view is not None else None
    if found is None or any(each.output[0] not in draft.net.shapes for each in norm.nodes):
        return None
    old, rows, sizes = norm.nodes[-1], (found.batch, found.tokens), (found.heads, found.size)
    source = draft.cut(found.base, found.offset, found.width, old)
    apart = draft.integers(f"{norm.output}_apart", (0, 0, *sizes))
    names = {norm.value: draft.add(node("Reshape", [source, apart], [f"{norm.output}_heads"]), (*rows, *sizes), old)}
    for each in norm.nodes:
        new = node(each.op_type, [names.get(name, name) for name in each.input], [f"{each.output[0]}_side_by_side"])
        new.attribute.extend(each.attribute)
        size = draft.net.shapes[each.output[0]][-1]
        names[each.output[0]] = draft.add(new, (*rows, found.heads, size), each)
    dims = heads_of(found.batch, found.heads, found.tokens, found.size, found.width)
    return View(names[norm.output], dims)


def biased_of(draft: Draft, sum_: NodeProto) -> View | None:
    """Turned heads with a constant row for each (DeBERTa), as a view of rows with all of those; None for all else."""
    net = draft.net
    bias = next((name for name in sum_.input if net.is_own_float(name)), "")
    view = draft.view(next((name for name in sum_.input if name != bias), "")) if bias else None
    shape = view.shape if view is not None else ()
    if view is None or len(shape) != 4 or tuple(net.constants[bias].dims)[-3:] != (shape[1], 1, shape[3]):
        return None
    found = heads_in(draft, view, sum_) if prod(net.constants[bias].dims) == shape[1] * shape[3] else None
    if found is None:
        return None
    source, row = draft.cut(found.base, found.offset, found.width, sum_), draft.vector(bias)
    name = draft.add(node("Add", [source, row], [f"{sum_.output[0]}_side_by_side"]), draft.shapes[source], sum_)
    return View(name, heads_of(found.batch, found.heads, found.tokens, found.size, found.width))
