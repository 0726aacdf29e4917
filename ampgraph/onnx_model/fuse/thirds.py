"""Thirds: queries, keys and values that one projection makes head by head, as thirds of its rows.

GPT-NeoX's projection makes query, key and value of the first head, then those of the second. Kernels take the queries
of all heads side by side; they are after the projection's columns change places. That costs nothing, and nothing is
lost where no attention is found: there are as many nodes as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.known import MEASURES
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Recipe, Sorted
from ampgraph.onnx_model.fuse.view import Shape

_HEADS_FIRST = (0, 2, 1, 3)
_PARTS = 3  # queries, keys and values
_PARTS_AXIS = 3  # in (batch, tokens, heads, parts, size)
_SPLIT_OF_COUNTS = 18  # the opset from which Split takes how many parts there are


@dataclass(frozen=True)
class _Projection:
    """The product with constant weights that makes rows, and the sum with its bias."""

    product: NodeProto
    sum_: NodeProto | None
    bias: str


@dataclass(frozen=True)
class _Found:
    """A projection, the reshape that takes its heads apart, and what takes each of those apart.

    `turned`: the change of layout between the two, where the parts are split and not gathered.
    """

    projection: _Projection
    apart: NodeProto
    turned: NodeProto | None
    takers: tuple[NodeProto, ...]
    heads: int
    parts: int
    size: int


@dataclass
class _Draft:
    """What has been found so far. Grows."""

    net: Net
    nodes: list[NodeProto] = field(default_factory=list)
    removed: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    measured: dict[str, str] = field(default_factory=dict)  # rows that only their shape is asked of -> sorted ones

    def value(self, old: NodeProto, shape: Shape) -> str:
        """A name for what takes the place of a node's output."""
        name = fresh(self.net, f"{old.output[0]}_sorted")
        self.shapes[name] = shape
        return name

    def sorted(self, name: str, found: _Found) -> str:
        """Take in a constant with the parts of heads sorted; made once for one way."""
        made = fresh(self.net, f"{name}_sorted_{found.heads}_{found.parts}")
        self.constants[made] = TensorProto(name=made, data_type=TensorProto.FLOAT, dims=self.net.constants[name].dims)
        self.recipes[made] = Sorted(name, found.heads, found.parts)
        return made

    def sizes(self, old: NodeProto, *sizes: int) -> str:
        """Take in the operand of a reshape that leaves batch and tokens as they are."""
        name = fresh(self.net, f"{old.output[0]}_sorted_shape")
        self.constants[name] = numpy_helper.from_array(np.array([0, 0, *sizes], np.int64), name)
        return name

    def integer(self, old: NodeProto, word: str, value: int) -> str:
        """Take in a list of one number."""
        name = fresh(self.net, f"{old.output[0]}_sorted_{word}")
        self.constants[name] = numpy_helper.from_array(np.array([value], np.int64), name)
        return name


def fuse_thirds(net: Net) -> Fusion:
    """Every heads' parts, split after the heads are turned or gathered before, as so many more heads."""
    draft = _Draft(net)
    for each in net.graph.node:
        way = _WAYS.get(each.op_type) if not each.domain else None
        found = way(net, each) if way is not None else None
        if found is None:
            continue
        rows = _rows(draft, found)
        draft.nodes += _with_gathers(draft, found, rows) if found.turned is None else _with_cuts(draft, found, rows)
        draft.removed += found.takers
    made = tuple(draft.constants.values())
    return Fusion(tuple(draft.nodes), draft.measured, tuple(draft.removed), made, draft.recipes, draft.shapes)


def _split(net: Net, split: NodeProto) -> _Found | None:
    """(batch, tokens, heads, parts * size), turned, then split along its last axis."""
    turned = net.maker(split.input[0], "Transpose") if net.sole_reader(split.input[0], "Split") else None
    apart = net.maker(turned.input[0], "Reshape") if turned is not None else None
    if turned is None or apart is None or net.sole_reader(apart.output[0], "Transpose") is None:
        return None
    whole, parts = net.sizes(apart.output[0]) or (), len(split.output)
    sizes = {shape[-1] if (shape := net.shapes.get(name)) else 0 for name in split.output}
    if plain_attributes(turned).get("perm") != _HEADS_FIRST or len(whole) != len(_HEADS_FIRST) or len(sizes) != 1:
        return None
    heads, width, size = whole[2], whole[3], sizes.pop()
    projection = _projection(net, apart)
    if heads in (None, 1) or width != parts * size or projection is None:
        return None
    return _Found(projection, apart, turned, (split,), heads, parts, size)


def _sliced(net: Net, turned: NodeProto) -> _Found | None:
    """As what is split, cut into slices, the way torch's older exporter writes it; their ends may be measured.

    Three of them, for a head is cut in two where a part of it is turned.
    """
    cuts = [each for each in net.readers.get(turned.output[0], ()) if each.op_type not in MEASURES]
    apart, whole = net.maker(turned.input[0], "Reshape"), net.sizes(turned.input[0]) or ()
    if apart is None or net.sole_reader(apart.output[0], "Transpose") is None or turned.output[0] in net.fixed:
        return None
    sizes = {shape[-1] if (shape := net.shapes.get(each.output[0])) else 0 for each in cuts}
    if plain_attributes(turned).get("perm") != _HEADS_FIRST or len(whole) != len(_HEADS_FIRST) or len(sizes) != 1:
        return None
    heads, width, size = whole[2], whole[3], sizes.pop()
    projection, starts = _projection(net, apart), {_start(net, each) for each in cuts}
    if heads in (None, 1) or width != _PARTS * size or projection is None or starts != {0, size, 2 * size}:
        return None
    return _Found(projection, apart, turned, tuple(cuts), heads, _PARTS, size)


def _start(net: Net, cut: NodeProto) -> int | None:
    """Where a slice of the last axis starts; None for others."""
    if cut.op_type != "Slice" or cut.domain or len(cut.input) not in (4, 5):
        return None
    start, axis, step = (
        net.scalar(name) if name else 1.0 for name in (cut.input[1], cut.input[3], [*cut.input, ""][4])
    )
    is_plain = start is not None and start >= 0 and axis in (-1, len(_HEADS_FIRST) - 1) and step == 1
    return int(start) if is_plain and start is not None else None


def _gathered(net: Net, apart: NodeProto) -> _Found | None:
    """(batch, tokens, heads, parts, size), each part gathered."""
    whole, takers = net.sizes(apart.output[0]) or (), net.readers.get(apart.output[0], ())
    if len(whole) != _PARTS_AXIS + 2 or not takers or apart.output[0] in net.fixed or not _take_parts(net, takers):
        return None
    heads, parts, size = whole[2:]
    projection = _projection(net, apart)
    if heads is None or parts is None or size is None or projection is None:
        return None
    return _Found(projection, apart, None, takers, heads, parts, size)


def _take_parts(net: Net, takers: Iterable[NodeProto]) -> bool:
    """Whether each of these gathers one part of every head."""
    for each in takers:
        index = net.values(each.input[1]) if each.op_type == "Gather" and not each.domain else None
        if index is None or index.ndim or plain_attributes(each).get("axis", 0) not in (_PARTS_AXIS, _PARTS_AXIS - 5):
            return False
    return True


def _projection(net: Net, apart: NodeProto) -> _Projection | None:
    """What makes the rows that this alone reads, and takes apart; None where no weights of the model's own do."""
    name = apart.input[0]
    rows, shape = net.shapes.get(name, ()), net.shapes[apart.output[0]]
    alike = len(rows) > 2 and prod(rows[:-1]) == prod(shape[:2]) and rows[-1] == prod(shape[2:])
    working = [each for each in net.readers.get(name, ()) if each.op_type not in MEASURES]
    if not alike or name in net.fixed or any(each is not apart for each in working):
        return None
    sum_, bias = net.maker(name, "Add"), ""
    if sum_ is not None:
        bias = next((each for each in sum_.input if net.is_vector(each, rows[-1]) and net.is_own_float(each)), "")
        name = next((each for each in sum_.input if each != bias), "") if bias else ""
    product = net.maker(name, "MatMul")
    if product is None or (sum_ is not None and net.sole_reader(name, "Add") is None):
        return None
    light = net.is_own_float(product.input[1]) and len(net.constants[product.input[1]].dims) == 2
    return _Projection(product, sum_, bias) if light else None


_WAYS: Mapping[str, Callable[[Net, NodeProto], _Found | None]] = {
    "Reshape": _gathered,
    "Split": _split,
    "Transpose": _sliced,
}


def _rows(draft: _Draft, found: _Found) -> str:
    """The projection's rows with the parts of heads sorted."""
    made = found.projection
    name = found.apart.input[0]
    shape = draft.net.shapes[name]
    weight, value = draft.sorted(made.product.input[1], found), draft.value(made.product, shape)
    draft.nodes.append(with_origin(node("MatMul", [made.product.input[0], weight], [value]), [made.product]))
    if made.sum_ is not None:
        rows = [value, draft.sorted(made.bias, found)]
        value = draft.value(made.sum_, shape)
        draft.nodes.append(with_origin(node("Add", rows, [value]), [made.sum_]))
    if len(draft.net.readers[name]) > 1:
        draft.measured[name] = value
    return value


def _of_tokens(draft: _Draft, found: _Found, rows: str) -> tuple[str, list[NodeProto]]:
    """Rows of (batch, tokens, ...): those of an image's places (windows) as the model itself reshapes them."""
    shape = draft.net.shapes[found.apart.output[0]]
    if draft.shapes[rows][:2] == shape[:2]:
        return rows, []
    name = fresh(draft.net, f"{found.apart.output[0]}_of_tokens")
    draft.shapes[name] = shape
    return name, [with_origin(node("Reshape", [rows, found.apart.input[1]], [name]), [found.apart])]


def _with_cuts(draft: _Draft, found: _Found, rows: str) -> list[NodeProto]:
    """The same over so many times more heads, which are split or cut where heads are."""
    turned = found.turned
    assert turned is not None  # one whose parts are gathered has none
    rows, before = _of_tokens(draft, found, rows)
    (batch, tokens), many = draft.shapes[rows][:2], found.heads * found.parts
    apart = draft.value(found.apart, (batch, tokens, many, found.size))
    first = draft.value(turned, (batch, many, tokens, found.size))
    return [
        *before,
        with_origin(node("Reshape", [rows, draft.sizes(found.apart, many, found.size)], [apart]), [found.apart]),
        with_origin(node("Transpose", [apart], [first], perm=_HEADS_FIRST), [turned]),
        *(with_origin(_cut(draft, found, each, first), [each]) for each in found.takers),
    ]


def _cut(draft: _Draft, found: _Found, old: NodeProto, first: str) -> NodeProto:
    """A split or a slice of the last axis as one of the heads' axis."""
    if old.op_type == "Split":
        equal = found.parts if draft.net.opset >= _SPLIT_OF_COUNTS else None
        return node("Split", [first], old.output, axis=1, num_outputs=equal)
    start = (_start(draft.net, old) or 0) // found.size * found.heads
    names = [
        draft.integer(old, word, value) for word, value in (("from", start), ("to", start + found.heads), ("axis", 1))
    ]
    return node("Slice", [first, *names], old.output)


def _with_gathers(draft: _Draft, found: _Found, rows: str) -> list[NodeProto]:
    """The same with heads within parts."""
    sizes = (found.parts, found.heads, found.size)
    rows, before = _of_tokens(draft, found, rows)
    apart = draft.value(found.apart, (*draft.shapes[rows][:2], *sizes))
    reshape = node("Reshape", [rows, draft.sizes(found.apart, *sizes)], [apart])
    gathers = [
        with_origin(node("Gather", [apart, each.input[1]], each.output, axis=_PARTS_AXIS - 1), [each])
        for each in found.takers
    ]
    return [*before, with_origin(reshape, [found.apart]), *gathers]
