"""Attention: softmax(scale * Q K^T + mask) V in heads, however it is written, as one kernel of onnxruntime's.

Scores that tanh bounds (Gemma 2) are for ONNX's own attention, from opset 23 on: MultiHeadAttention has no bound, and
GroupQueryAttention, which has one, has no kernel in float32 on CUDA to hold the answers against.

Q, K and V are read through their views: what an exporter does between a projection and the product with its
neighbour is reshapes and transposes, and onnxruntime's kernels take the projection's result as it is. On one H200,
microseconds a layer, float16, 32 x 197 tokens in 12 heads of 64: 136 as separate operators, 27 as MultiHeadAttention;
in float32 148 and 270, so that the fused operator is for low precision. 49 tokens in windows: 177 and 320. Of few
tokens in few heads the launches take the time: MiniLM on one H200, 9 tokens, takes 0.23 ms with attention in one
kernel, and 0.40 as it is.

A projection may have tokens before sequences, as torch's own modules do where they are not told `batch_first`: its
input, or its result where it makes less than all three, then changes the two axes, and so does the kernel's result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from onnx import NodeProto

from ampgraph.onnx_model.fuse.known import MEASURES
from ampgraph.onnx_model.fuse.masks import Mask, Rows, four_axes, may_be_empty, shape_of, total_of, with_zeros
from ampgraph.onnx_model.fuse.net import CONTRIB, node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.scores import is_guarded, parted_of, softmax_of, unbounded, unscaled
from ampgraph.onnx_model.fuse.view import Factor, Shape, View, merged, transposed

_BOUNDED_ATTENTION = 23  # the opset from which ONNX has an attention
_ON_THE_WAY = frozenset((*MEASURES, "Div", "Expand", "Gather", "Identity", "Mul", "Reshape", "Slice", "Split"))
_ON_THE_WAY |= {"Squeeze", "Transpose", "Unsqueeze"}
SHORTEST = 64  # tokens; onnxruntime's fused kernels work in blocks of that many
_SHORTEST_OF_FEW, _FEW = 4, 1024  # tokens, heads of all sequences: where launches take the time, fewer are better


@dataclass(frozen=True)
class Operand:
    """A projection's result, (batch, tokens, width), and the heads' part of its rows.

    `times`: how many of the heads, one after the other, are one of the rows' own. `swapped`: whether the model has it
    as (tokens, batch, width).
    """

    base: str
    heads: int
    size: int  # of one head
    offset: int
    width: int
    scale: float
    times: int = 1
    swapped: bool = False

    @property
    def part(self) -> int:
        """How much of a row it is."""
        return self.heads // self.times * self.size


def attention_of(draft: Draft, product: NodeProto) -> View | None:
    """The result of a product of weights and values, as a view of a fused attention; None where it is none."""
    net = draft.net
    soft = softmax_of(draft, product.input[0])
    if soft is None:
        return None
    causal, guarded = soft.input[0] in net.source.causal, is_guarded(draft, product.input[0])
    parted = parted_of(draft, net.source.causal.get(soft.input[0], soft.input[0]))
    if parted is not None and causal and guarded and parted.masks:  # which rows are empty, all masks together tell
        causal, parted = False, parted_of(draft, soft.input[0])
    if parted is None or (parted.lifted and may_be_empty(draft, parted.masks)):  # such rows would not be even
        return None
    scores, scale, bound = unbounded(draft, parted.scores)
    inner = net.maker(scores, "MatMul")
    shapes = [net.shapes.get(name) for name in (scores, product.output[0])]
    if inner is None or None in shapes:
        return None
    left, left_scale = unscaled(draft, inner.input[0])
    right, right_scale = unscaled(draft, inner.input[1])
    views = [draft.view(name) for name in (left, right, product.input[1])]
    if any(view is None or len(view.dims) not in (3, 4) for view in views):
        return None
    pairs = zip(views, (0, 1, 0), strict=True)
    query, key, value = (_operand(draft, view, turned, product) for view, turned in pairs)  # type: ignore[arg-type]
    if query is None or key is None or value is None:
        return None
    key, value = (_one_for_all(each, query.heads) for each in (key, value))
    if not query.heads == key.heads == value.heads:
        return None
    if value.scale != 1.0:  # the kernels scale scores alone
        return None
    masked = (net.makers[soft.input[0]],) if causal else ()
    nodes = (inner, *parted.nodes, *masked, soft, product)
    scale *= left_scale * right_scale
    found = _Attention(
        query, key, value, scale, parted.masks, causal, nodes, bound, guarded and may_be_empty(draft, parted.masks)
    )
    return _emitted(draft, product, found, shapes[0] or (), shapes[1] or ())


@dataclass(frozen=True)
class _Attention:
    query: Operand
    key: Operand
    value: Operand
    scale: float
    masks: tuple[Mask, ...]
    causal: bool
    nodes: tuple[NodeProto, ...]  # that it stands for, beside what scales, splits and turns
    bound: float = 0.0  # of the scores, by tanh, before the masks; 0: none
    guarded: bool = False  # rows that are masked out whole give zeros


def _operand(draft: Draft, view: View, turned: int, old: NodeProto) -> Operand | None:
    """A view of (batch, heads, tokens, size), heads and batch perhaps in one, as a projection's result."""
    rank = len(view.dims)
    if turned:  # the keys, for the product
        view = transposed(view, (*range(rank - 2), rank - 1, rank - 2))
    view = draft.in_rows(view, old)
    shape = draft.shapes[view.base]
    if len(shape) != 3 or 0 in view.shape:
        return None
    size, width = view.shape[-1], shape[2]
    times = next((count for count, stride in view.dims[rank - 3][-1:] if stride == 0), 1)
    own = view if times == 1 else _once(view, rank - 3)
    found = ((swapped, _heads_in(own, shape, swapped=swapped)) for swapped in (False, True))
    swapped, heads = next(((swapped, heads) for swapped, heads in found if heads), (False, 0))
    if not heads or view.offset + heads * size > width:
        return None
    base, scale = view.base, 1.0
    maker = draft.maker(base)
    if maker is not None and maker.op_type == "Mul" and maker.domain == "":
        base, scale = unscaled(draft, base)
        draft.shapes.setdefault(base, shape)
    base = draft.swapped(base, old) if swapped else base
    return Operand(base, heads * times, size, view.offset, width, scale, times, swapped)


def _heads_in(view: View, shape: Shape, *, swapped: bool) -> int:
    """How many heads side by side a view of (batch, heads, tokens, size) has in its base's rows; 0: it is no such."""
    rank, size, tokens, batch = len(view.dims), view.shape[-1], view.shape[-2], shape[1 if swapped else 0]
    heads = view.shape[1] if rank == 4 else view.shape[0] // batch
    fits = shape[:2] == ((tokens, batch) if swapped else (batch, tokens))
    return heads if fits and view.dims == heads_of(batch, heads, tokens, size, shape[2], rank, swapped=swapped) else 0


def _one_for_all(operand: Operand, heads: int) -> Operand:
    """Heads of keys or values, a single one as that of every query head: products broadcast it."""
    return replace(operand, heads=heads, times=heads) if operand.heads == 1 else operand


def _once(view: View, axis: int) -> View:
    """The view without the repetition that is last in an axis."""
    return View(view.base, (*view.dims[:axis], view.dims[axis][:-1], *view.dims[axis + 1 :]), view.offset)


def heads_of(
    batch: int, heads: int, tokens: int, size: int, width: int, rank: int = 4, *, swapped: bool = False
) -> tuple[tuple[Factor, ...], ...]:
    """Dimensions of (batch, heads, tokens, size), or with rank 3 (batch * heads, ...), over (batch, tokens, width).

    `swapped`: over (tokens, batch, width).
    """
    strides = (width, batch * width) if swapped else (tokens * width, width)
    each = [((batch, strides[0]),), ((heads, size),), ((tokens, strides[1]),), ((size, 1),)]
    dims = [tuple(factor for factor in dim if factor[0] != 1) for dim in each]
    return tuple(dims) if rank == 4 else (merged(dims[0] + dims[1]), *dims[2:])


def _emitted(draft: Draft, product: NodeProto, found: _Attention, scores: Shape, result: Shape) -> View | None:
    query, key, value = found.query, found.key, found.value
    batch, tokens = draft.shapes[query.base][:2]
    keys = scores[-1]
    spread = any(draft.shapes[each.base][:2] != (batch, keys) for each in (key, value))  # one memory for the batch
    shortest = _SHORTEST_OF_FEW if batch * query.heads <= _FEW else SHORTEST
    if spread or min(tokens, keys) < shortest or (found.causal and tokens != keys):
        return None
    rows = Rows(query.base, query.heads, keys)
    mask = four_axes(draft, total_of(draft, found.masks, rows, product, lifted=found.bound > 0), rows, product)
    if mask is None or (found.guarded and (shape_of(draft, mask) or ())[1:2] != (1,)):
        return None
    scale = found.scale * query.scale * key.scale
    name = f"{product.output[0]}_fused"
    said = {"num_heads": query.heads, "scale": scale, "unidirectional": 1 if found.causal else None}
    if found.bound:
        new = _bounded(draft, found, name, mask, scale, product)
        return None if new is None else _result(draft, new, found, mask, result)
    packed = _packed(draft, found)
    if packed is not None and query.size == value.size:
        inputs = [*packed, "", "", mask] if mask else packed
        new = node("Attention", inputs, [name], CONTRIB, **said)
    else:
        parts = [_alone(draft, each, product) for each in (query, key, value)]
        inputs = [*parts, "", "", mask] if mask else parts
        new = node("MultiHeadAttention", inputs, [name], CONTRIB, **said)
    return _result(draft, new, found, mask, result)


def _result(draft: Draft, new: NodeProto, found: _Attention, mask: str, result: Shape) -> View:
    """The kernel's result as the product's, with zeros where the source has them: for a row of -inf kernels give NaN,
    or a mean."""
    query, value = found.query, found.value
    batch, tokens = draft.shapes[query.base][:2]
    shape = (batch, tokens, value.heads * value.size)
    name = draft.add(new, shape, *found.nodes)
    if found.guarded:
        name = draft.add(with_zeros(draft, name, mask, found.nodes[-1]), shape, found.nodes[-1])
    name = draft.swapped(name, found.nodes[-1]) if query.swapped else name
    dims = heads_of(batch, value.heads, tokens, value.size, shape[2], len(result), swapped=query.swapped)
    return View(name, dims)


def _bounded(draft: Draft, found: _Attention, name: str, mask: str, scale: float, old: NodeProto) -> NodeProto | None:
    """ONNX's own attention, which bounds its scores before it adds a mask, and knows groups of heads."""
    two = bool(mask) and found.causal  # which it takes one of
    if draft.net.opset < _BOUNDED_ATTENTION or found.bound < 0 or scale <= 0 or two:
        return None
    parts = [draft.cut(each.base, each.offset, each.part, old) for each in (found.query, found.key, found.value)]
    heads, groups = found.query.heads, found.key.heads // found.key.times
    return node(
        "Attention",
        [*parts, mask] if mask else parts,
        [name],
        q_num_heads=heads,
        kv_num_heads=groups,
        scale=scale,
        softcap=found.bound,
        is_causal=1 if found.causal else None,
    )


def _packed(draft: Draft, found: _Attention) -> list[str] | None:
    """Input, weights and bias of one projection that makes queries, keys and values."""
    operands = (found.query, found.key, found.value)
    if any(each.times != 1 or _is_shared(draft, each.base, found.nodes) for each in operands):
        return None
    if len({each.base for each in operands}) == 1:
        projection = _projection(draft, found.query.base)
        width = found.query.heads * found.query.size
        thirds = [each.offset for each in operands] == [0, width, 2 * width]
        whole = found.query.width == 3 * width
        if projection is None or not thirds or not whole:
            return None
        source, weights, bias = projection
        return [source, weights, bias or draft.join(("",), 3 * width, 0)]  # without one, the CPU's kernel breaks down
    projections = [_projection(draft, each.base) for each in operands if each.offset == 0]
    sources = [each for each in projections if each is not None]
    whole = all(each.width == each.heads * each.size == found.query.width for each in operands)
    if len(sources) < 3 or len({source for source, *_ in sources}) > 1 or not whole:
        return None
    width, biases = found.query.width, tuple(bias for *_, bias in sources)
    weights = draft.join(tuple(weight for _, weight, _ in sources), width, 1)
    bias = draft.join(biases, width, 0) if weights else ""
    return [sources[0][0], weights, bias] if bias else None


def _is_shared(draft: Draft, base: str, attention: tuple[NodeProto, ...]) -> bool:
    """Whether more than the attention works on what a base holds: it is then made in any case."""
    net = draft.net
    waiting, own = [draft.swapped_of(base) or base], {id(each) for each in attention}
    while waiting:
        name = waiting.pop()
        if name in net.fixed:
            return True
        for each in net.readers.get(name, ()):
            if id(each) not in own and each.op_type not in _ON_THE_WAY:
                return True
            if id(each) not in own and each.op_type not in MEASURES:
                waiting.extend(each.output)
    return False


def _projection(draft: Draft, base: str) -> tuple[str, str, str] | None:
    """Input, weights and bias ("" without) of the matrix product that makes a base of three axes."""
    if before := draft.swapped_of(base):
        found = _projection(draft, before)
        return None if found is None else (draft.swapped(found[0], draft.made[base]), *found[1:])
    net, made, bias = draft.net, draft.maker(base), ""
    if made is not None and made.op_type == "Add":
        bias = next((name for name in made.input if net.is_vector(name, draft.shapes[base][-1])), "")
        made = draft.maker(next((name for name in made.input if name != bias), ""))
        if not bias:
            return None
    plain = made is not None and made.op_type == "MatMul" and made.input[1] in net.constants
    if made is None or not plain or len(net.constants[made.input[1]].dims) != 2:
        return None
    if len(draft.shapes.get(made.input[0]) or net.shapes.get(made.input[0], ())) != 3:
        return None
    return made.input[0], made.input[1], bias


def _alone(draft: Draft, operand: Operand, old: NodeProto) -> str:
    """The operand as a tensor of its own; cut out of a wider projection where it is part of one."""
    return _for_all(draft, operand, draft.cut(operand.base, operand.offset, operand.part, old), old)


def _for_all(draft: Draft, operand: Operand, name: str, old: NodeProto) -> str:
    """The operand's rows, each head once for every query head of its group, as the kernel that takes masks wants."""
    if operand.times == 1:
        return name
    rows, own = draft.shapes[name][:2], operand.heads // operand.times
    apart = draft.integers(f"{name}_groups", (0, 0, own, 1, operand.size))
    split = draft.add(node("Reshape", [name, apart], [f"{name}_grouped"]), (*rows, own, 1, operand.size), old)
    more = draft.integers(f"{name}_times", (1, 1, 1, operand.times, 1))
    shape = (*rows, own, operand.times, operand.size)
    spread = draft.add(node("Expand", [split, more], [f"{name}_spread"]), shape, old)
    flat = draft.integers(f"{name}_heads", (0, 0, operand.heads * operand.size))
    return draft.add(node("Reshape", [spread, flat], [f"{name}_repeated"]), (*rows, operand.heads * operand.size), old)
