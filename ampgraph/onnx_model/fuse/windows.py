"""Attention in windows: an image's tokens in groups, with a bias for every pair of places, as one kernel.

onnxruntime's kernel with a bias wants rows of a multiple of eight, and an exporter's windows are slices, transposes and
49 tokens. One gather takes the tokens of every window with some to fill it up, which the bias hides; queries, keys and
values come from products of their own, so that nothing is split or turned; one gather takes the tokens back. Where the
bias differs from window to window (shifted ones have a mask), it is spread over the images. Windows as heads would need
no copies, but onnxruntime's float32 kernel reads where it must not when it has 192 of them. Without a bias (Twins) any
number of tokens is a row.

On one H100, float16, 32 images, microseconds from one layer normalization to the next, as exported and so, without and
with a shift: 56 x 56 tokens of 96 513, 758 and 351; 28 x 28 of 192 247, 387 and 187; 14 x 14 of 384 137, 237 and 114;
7 x 7 of 768 85 and 76. In windows of 49 as they are 480, 256, 149 and 94; of 64 370, 194, 120 and 79.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.attention import SHORTEST
from ampgraph.onnx_model.fuse.known import computed, without_data
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, node
from ampgraph.onnx_model.fuse.rolls import rolled
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.scores import softmax_of, unscaled, unscaled_by_head
from ampgraph.onnx_model.fuse.unit import unit_heads, unit_of
from ampgraph.onnx_model.fuse.view import Factor, Shape, View, transposed

LARGEST = 256  # tokens of a window: 16 x 16
_WHOLE = 8  # a row of the bias is a multiple of so many
_HIDDEN = -30000.0  # a bias that leaves no weight, and a number of float16


@dataclass(frozen=True)
class _Heads:
    """A view of (batch * windows, heads, tokens, size) on rows (batch, ..., width).

    `order`: (windows, tokens), which of an image's tokens stands where; the same in every image.
    """

    base: str
    heads: int
    size: int
    offset: int
    order: Array
    rows: tuple[tuple[Factor, ...], tuple[Factor, ...]]  # (batch * windows) and tokens, strides in rows

    def is_like(self, other: _Heads) -> bool:
        """Whether another operand has the same heads of the same tokens in the same order."""
        return (self.heads, self.size) == (other.heads, other.size) and np.array_equal(self.order, other.order)


@dataclass(frozen=True)
class _Projection:
    """The product of rows with a part of constant weights and the sum with that part of a bias, "" without."""

    source: str
    weight: str
    bias: str
    offset: int
    width: int


@dataclass(frozen=True)
class _Windows:
    """Attention in windows: three projections of the same rows, and a bias (windows or 1, heads, tokens, tokens).

    Without a bias the kernel takes windows of any size as they are.
    """

    heads: _Heads
    parts: tuple[_Projection, ...]
    scale: float
    bias: Array | None
    nodes: tuple[NodeProto, ...]  # that it stands for, beside what moves data
    unit: float | None = None  # the least length that heads of queries and keys are divided by, where they are
    by_head: Array | None = None  # what scores of each head are multiplied by

    @property
    def filled(self) -> int:
        """Tokens of a window with those that fill it up."""
        tokens = int(self.heads.order.shape[1])
        return tokens if self.bias is None else -(-tokens // _WHOLE) * _WHOLE


def windows_of(draft: Draft, product: NodeProto) -> View | None:
    """The result of a product of weights and values, as a view of a fused attention; None where it is none."""
    net = draft.net
    soft, shape = softmax_of(draft, product.input[0]), net.sizes(product.output[0])
    if soft is None or shape is None or len(shape) not in (4, 5) or None in shape[1:] or (shape[-2] or 0) > LARGEST:
        return None
    scores, sums = _summed(draft, soft.input[0])
    scores, scale = unscaled(draft, scores)
    scores, by_head = unscaled_by_head(net, scores)
    inner = net.maker(scores, "MatMul")
    if inner is None or not _are_square(net.shapes.get(scores, ())):
        return None
    left, left_scale = unscaled(draft, inner.input[0])
    right, right_scale = unscaled(draft, inner.input[1])
    queries, keys, unit = _of_products(draft, left, right)
    views = (queries, keys, draft.view(product.input[1]))
    operands = _operands(draft, views)
    if not operands or not _is_for_windows(draft, operands[0][0], plain=not sums):
        return None
    bias = _bias(draft, sums, operands[0][0]) if sums else None
    if sums and bias is None:
        return None
    nodes = (inner, *(sum_ for sum_, _ in sums), soft, product)
    parts = tuple(part for _, part in operands)
    scale *= left_scale * right_scale
    result = _emitted(draft, product, _Windows(operands[0][0], parts, scale, bias, nodes, unit, by_head))
    return _with_windows_apart(result, views[0]) if len(shape) == 5 else result


def _are_square(shape: Shape) -> bool:
    """Whether scores are of as many tokens as attend."""
    return len(shape) > 1 and shape[-2] == shape[-1]


def _of_products(draft: Draft, left: str, right: str) -> tuple[View | None, View | None, float | None]:
    """Queries and turned keys, before they were divided by their lengths if both are, and the least of those."""
    change = draft.net.maker(right, "Transpose")
    query, key = (unit_of(draft.net, name) for name in (left, change.input[0] if change is not None else ""))
    turned = draft.view(key.value) if key is not None else None
    if change is None or turned is None or query is None or key is None or query.floor != key.floor:
        return draft.view(left), draft.view(right), None
    order = plain_attributes(change).get("perm")
    if order != (*range(len(turned.dims) - 2), len(turned.dims) - 1, len(turned.dims) - 2):
        return None, None, None
    return draft.view(query.value), transposed(turned, [int(axis) for axis in order]), query.floor


def _with_windows_apart(view: View, like: View | None) -> View:
    """The view of windows of all images as one of images and of windows, as that of the queries has them."""
    count = len(like.dims[0]) if like is not None else 0
    return View(view.base, (view.dims[0][:count], view.dims[0][count:], *view.dims[1:]), view.offset)


def _with_windows_together(view: View) -> View:
    """Images and windows, where they are two axes, as one."""
    return view if len(view.dims) != 5 else View(view.base, (view.dims[0] + view.dims[1], *view.dims[2:]), view.offset)


def _operands(draft: Draft, views: Sequence[View | None]) -> list[tuple[_Heads, _Projection]]:
    """Queries, keys (turned for the product) and values; none unless they are alike, of the same rows."""
    whole = [_with_windows_together(view) for view in views if view is not None]
    if len(whole) < len(views) or any(len(view.dims) != 4 for view in whole):
        return []
    query, key, value = whole
    found = [_operand(draft, view) for view in (query, transposed(key, (0, 1, 3, 2)), value)]
    operands = [each for each in found if each is not None]
    if len(operands) < 3:
        return []
    (first, part), *others = operands
    alike = all(other.is_like(first) and each.source == part.source for other, each in others)
    return operands if alike and _is_fixed(draft, part.source) else []


def _is_for_windows(draft: Draft, heads: _Heads, *, plain: bool) -> bool:
    """Whether tokens stand in windows or in an image, or are too few for what else makes attention one kernel.

    `plain`: nothing is added to scores, where few tokens alone are no reason to gather them.
    """
    windows, tokens = heads.order.shape
    return bool(windows > 1 or (tokens < SHORTEST and not plain) or len(draft.shapes[heads.base]) > 3)


def _operand(draft: Draft, view: View) -> tuple[_Heads, _Projection] | None:
    heads = _heads(draft, view)
    part = _projection(draft, heads) if heads is not None else None
    return (heads, part) if heads is not None and part is not None else None


def _summed(draft: Draft, name: str) -> tuple[str, list[tuple[NodeProto, str]]]:
    """Scores without what is added to them whatever the data, and those sums, each with what it adds."""
    net, sums, sure = draft.net, list[tuple[NodeProto, str]](), without_data(draft.net)
    while (made := net.maker(name, "Add", "Reshape", "Identity")) is not None:
        if made.op_type != "Add":
            name = made.input[0]
            continue
        added = [each for each in made.input if each in sure]
        if len(added) != 1:
            break
        sums.append((made, added[0]))
        name = next(each for each in made.input if each != added[0])
    return name, sums


def _heads(draft: Draft, view: View) -> _Heads | None:
    """What a view says of an attention's operand; None where its rows are no whole tokens of an image each."""
    shape = draft.shapes[view.base]
    if len(shape) < 2 or 0 in shape:
        return None
    batch, *places, width = shape
    (count, heads, _, size), tokens = view.shape, prod(places)
    plain = view.dims[1] == _factor(heads, size) and view.dims[3] == _factor(size, 1) and view.offset < width
    if not plain or count % batch:
        return None
    offsets = _offsets(view.dims[0])[:, None] + _offsets(view.dims[2])
    order = (offsets // width).reshape(batch, count // batch, -1)
    order = order - np.arange(batch)[:, None, None] * tokens
    each_once = np.array_equal(np.sort(order[0], axis=None), np.arange(tokens))
    if np.any(offsets % width) or np.any(order != order[0]) or not each_once:
        return None
    windows, row = (tuple((count, stride // width) for count, stride in view.dims[axis]) for axis in (0, 2))
    return _Heads(view.base, heads, size, view.offset, order[0], (windows, row))


def _factor(size: int, stride: int) -> tuple[Factor, ...]:
    return ((size, stride),) if size != 1 else ()


def _offsets(dim: Sequence[Factor]) -> Array:
    """Where a dimension's places lie in the base, in elements."""
    found = np.zeros(1, np.int64)
    for size, stride in dim:
        found = (found[:, None] + np.arange(size) * stride).reshape(-1)
    return found


def _projection(draft: Draft, heads: _Heads) -> _Projection | None:
    net, made, bias, width = draft.net, draft.maker(heads.base), "", draft.shapes[heads.base][-1]
    if made is not None and made.op_type == "Add" and made.domain == "":
        bias = next((name for name in made.input if net.is_vector(name, width) and net.is_own_float(name)), "")
        made = draft.maker(next((name for name in made.input if name != bias), "")) if bias else None
    if made is None or made.op_type != "MatMul" or made.domain or not net.is_own_float(made.input[1]):
        return None
    if len(net.constants[made.input[1]].dims) != 2:
        return None
    return _Projection(made.input[0], made.input[1], bias, heads.offset, heads.heads * heads.size)


def _is_fixed(draft: Draft, source: str) -> bool:
    """Whether only the batch of some rows is free."""
    sizes = draft.net.sizes(source)
    return sizes is not None and len(sizes) > 2 and None not in sizes[1:]


def _bias(draft: Draft, sums: Sequence[tuple[NodeProto, str]], heads: _Heads) -> Array | None:
    """What is added to the scores of every window; None where it is not the same for every image."""
    net, (windows, tokens) = draft.net, heads.order.shape
    values = computed(net, list(dict.fromkeys(name for _, name in sums)))
    total = np.zeros((1, heads.heads, tokens, tokens), np.float32)
    for sum_, name in sums:
        table = values.get(name)
        shape = net.shapes.get(sum_.output[0], ())
        fits = shape[-3:] == (heads.heads, tokens, tokens) and (len(shape) == 4 or shape[1:-3] == (windows,))
        each = _of_windows(table, shape, windows) if table is not None and fits else None
        if each is None:
            return None
        total = total + np.maximum(each, _HIDDEN)
    return total[:1] if np.array_equal(total, np.broadcast_to(total[:1], total.shape)) else total


def _of_windows(table: Array, shape: Shape, windows: int) -> Array | None:
    """What is added to scores (batch * windows, heads, tokens, tokens), or (batch, windows, ...), by window."""
    aligned = table.reshape((1,) * (len(shape) - table.ndim) + table.shape)
    apart = len(shape) == 5
    if len(aligned) == 1:
        return aligned[0] if apart else aligned
    by_image = aligned if apart else aligned.reshape(-1, windows, *aligned.shape[1:])
    return by_image[0] if np.array_equal(by_image, np.broadcast_to(by_image[:1], by_image.shape)) else None


def _emitted(draft: Draft, product: NodeProto, found: _Windows) -> View:
    net, name, heads = draft.net, product.output[0], found.heads
    source, places = rolled(net, found.parts[0].source)
    batch, tokens = net.shapes[source][0], heads.order.size
    order, back = _orders(found)
    rows = _gathered(draft, name, source, places.reshape(-1)[order], product)
    query, key, value = (_projected(draft, rows, each, product) for each in found.parts)
    query, shift = _biased(draft, query, found.parts[0], product), _part(draft, found.parts[2], "bias")
    if found.unit is not None:  # else a key's bias adds the same to all scores of a query, and goes
        key = unit_heads(draft, _biased(draft, key, found.parts[1], product), heads.heads, found.unit, product)
        query = unit_heads(draft, query, heads.heads, found.unit, product)
    if found.by_head is not None:
        row = draft.table(f"{name}_by_head", np.repeat(found.by_head, heads.size).astype(np.float32))
        query = draft.add(node("Mul", [query, row], [f"{query}_by_head"]), draft.shapes[query], product)
    attended = _attended(draft, found, (query, key, value), product)
    index = draft.integers(f"{name}_places", back)
    width = found.parts[2].width
    result = draft.add(node("Gather", [attended, index], [f"{name}_tokens"], axis=1), (batch, tokens, width), product)
    shape = net.shapes[found.parts[0].source]
    result = draft.reshaped(result, (batch, *shape[1:-1], width), product)
    if shift:  # weights add up to one
        result = draft.add(node("Add", [result, shift], [f"{name}_biased"]), draft.shapes[result], product)
    return _as_heads(result, heads)


def _orders(found: _Windows) -> tuple[Array, Array]:
    """Which token stands at every place that the kernel reads, and at which place every token then is."""
    order, filled = found.heads.order, found.filled
    tokens = order.shape[1]
    full = np.concatenate([order, np.repeat(order[:, :1], filled - tokens, axis=1)], axis=1)
    back = np.empty(order.size, np.int64)
    back[order] = np.arange(full.size).reshape(full.shape)[:, :tokens]
    return full.reshape(-1), back


def _gathered(draft: Draft, name: str, source: str, order: Array, old: NodeProto) -> str:
    batch, *places, width = draft.net.shapes[source]
    rows = draft.reshaped(source, (batch, prod(places), width), old)
    index = draft.integers(f"{name}_order", order)
    return draft.add(node("Gather", [rows, index], [f"{name}_windows"], axis=1), (batch, order.size, width), old)


def _projected(draft: Draft, rows: str, part: _Projection, old: NodeProto) -> str:
    weight = _part(draft, part, "weight")
    shape = (*draft.shapes[rows][:2], part.width)
    return draft.add(node("MatMul", [rows, weight], [f"{old.output[0]}_projected"]), shape, old)


def _biased(draft: Draft, rows: str, part: _Projection, old: NodeProto) -> str:
    bias = _part(draft, part, "bias")
    return draft.add(node("Add", [rows, bias], [f"{rows}_biased"]), draft.shapes[rows], old) if bias else rows


def _part(draft: Draft, part: _Projection, which: str) -> str:
    """The columns of a projection's weights or bias that an operand comes from; "" where there is no bias."""
    name = part.weight if which == "weight" else part.bias
    return draft.columns(name, part.offset, part.width) if name else ""


def _attended(draft: Draft, found: _Windows, operands: Sequence[str], old: NodeProto) -> str:
    """The kernel on operands of (batch, places, width), and its result in that shape."""
    batch, places, width = draft.shapes[operands[0]]
    rows = (batch * len(found.heads.order), found.filled, width)
    given = [draft.reshaped(each, rows, old) for each in operands]
    said = {"num_heads": found.heads.heads, "scale": found.scale}
    inputs = given if found.bias is None else [*given, "", "", _spread(draft, found, found.bias, operands[0], old)]
    new = node("MultiHeadAttention", inputs, [f"{old.output[0]}_fused"], CONTRIB, **said)
    return draft.reshaped(draft.add(new, rows, *found.nodes), (batch, places, width), old)


def _spread(draft: Draft, found: _Windows, bias: Array, rows: str, old: NodeProto) -> str:
    """The bias of the kernel: one for all windows, or one for every window of every image."""
    name, table, batch = f"{old.output[0]}_bias", _filled(bias, found.filled), draft.shapes[rows][0]
    constant = draft.table(name, table)
    if len(table) == 1:
        return constant
    shape = draft.add(node("Shape", [rows], [f"{name}_shape"]), (3,), old)
    first, others = draft.integers(f"{name}_first", (0,)), draft.integers(f"{name}_others", table.shape)
    images = draft.add(node("Gather", [shape, first], [f"{name}_images"], axis=0), (1,), old)
    wanted = draft.add(node("Concat", [images, others], [f"{name}_sizes"], axis=0), (5,), old)
    spread = draft.add(node("Expand", [constant, wanted], [f"{name}_spread"]), (batch, *table.shape), old)
    return draft.reshaped(spread, (batch * len(table), *table.shape[1:]), old)


def _filled(bias: Array, filled: int) -> Array:
    """The bias (windows or 1, heads, tokens, tokens) for so many tokens, with what fills a window up hidden."""
    windows, heads, tokens, _ = bias.shape
    table = np.full((windows, heads, filled, filled), _HIDDEN, np.float32)
    table[..., :tokens] = 0
    table[..., :tokens, :tokens] = bias
    return table


def _as_heads(base: str, heads: _Heads) -> View:
    """Rows of all heads in an image's own order, seen as the product's result: windows, heads, tokens, size."""
    width = heads.heads * heads.size
    windows, tokens = (tuple((size, stride * width) for size, stride in dim) for dim in heads.rows)
    return View(base, (windows, _factor(heads.heads, heads.size), tokens, _factor(heads.size, 1)))
