"""Thirds: queries, keys and values that one projection makes head by head, as thirds of its rows.

GPT-NeoX's projection makes query, key and value of the first head, then those of the second. Kernels take the queries
of all heads side by side; they are after the projection's columns change places. That costs nothing, and nothing is
lost where no attention is found: there are as many nodes as before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Recipe, Sorted
from ampgraph.onnx_model.fuse.view import Shape

_HEADS_FIRST = (0, 2, 1, 3)
_SPLIT_OF_COUNTS = 18  # the opset from which Split takes how many parts there are


@dataclass(frozen=True)
class _Found:
    """A projection and what takes it apart, and how many parts a head has."""

    product: NodeProto
    sum_: NodeProto | None
    apart: NodeProto
    turned: NodeProto
    split: NodeProto
    heads: int
    size: int

    @property
    def parts(self) -> int:
        """How many a head has."""
        return len(self.split.output)


@dataclass
class _Draft:
    """What has been found so far. Grows."""

    net: Net
    nodes: list[NodeProto] = field(default_factory=list)
    removed: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)


def fuse_thirds(net: Net) -> Fusion:
    """Every split of turned heads into equal parts, as a split of as many more heads."""
    draft = _Draft(net)
    for each in net.graph.node:
        found = _found(net, each) if each.op_type == "Split" and not each.domain else None
        if found is not None:
            _sorted(draft, found)
    made = tuple(draft.constants.values())
    return Fusion(tuple(draft.nodes), {}, tuple(draft.removed), made, draft.recipes, draft.shapes)


def _found(net: Net, split: NodeProto) -> _Found | None:
    turned = net.maker(split.input[0], "Transpose") if net.sole_reader(split.input[0], "Split") else None
    apart = net.maker(turned.input[0], "Reshape") if turned is not None else None
    if turned is None or apart is None or net.sole_reader(apart.output[0], "Transpose") is None:
        return None
    if plain_attributes(turned).get("perm") != _HEADS_FIRST or net.sole_reader(apart.input[0], "Reshape") is None:
        return None
    whole, rows = net.sizes(apart.output[0]), net.shapes.get(apart.input[0], ())
    sizes = {shape[-1] if (shape := net.shapes.get(name)) else 0 for name in split.output}
    if whole is None or len(whole) != 4 or len(rows) != 3 or len(sizes) != 1:
        return None
    heads, width, size = whole[2], whole[3], sizes.pop()
    if heads is None or width != len(split.output) * size or net.shapes[apart.output[0]][:2] != rows[:2]:
        return None
    projection = _projection(net, apart.input[0], rows[2])
    return None if projection is None else _Found(*projection, apart, turned, split, heads, size)


def _projection(net: Net, name: str, width: int) -> tuple[NodeProto, NodeProto | None] | None:
    """The product with constant weights that makes a value, and the sum with its bias; read for nothing else."""
    sum_ = net.maker(name, "Add")
    if sum_ is not None:
        bias = _bias(net, sum_, width)
        name = next((each for each in sum_.input if each != bias), "") if bias else ""
    product = net.maker(name, "MatMul")
    if product is None or (sum_ is not None and net.sole_reader(name, "Add") is None):
        return None
    light = net.is_own_float(product.input[1]) and len(net.constants[product.input[1]].dims) == 2
    return (product, sum_) if light else None


def _bias(net: Net, sum_: NodeProto, width: int) -> str:
    return next((name for name in sum_.input if net.is_vector(name, width) and net.is_own_float(name)), "")


def _sorted(draft: _Draft, found: _Found) -> None:
    """The same nodes over the parts of heads sorted, which are split where heads are."""
    net, rows = draft.net, _rows(draft.net, found)
    value = fresh(net, f"{found.product.output[0]}_sorted")
    weight = _constant(draft, found.product.input[1], found)
    draft.nodes.append(with_origin(node("MatMul", [found.product.input[0], weight], [value]), [found.product]))
    draft.shapes[value] = (*rows, found.heads * found.parts * found.size)
    if found.sum_ is not None:
        bias = _constant(draft, _bias(net, found.sum_, draft.shapes[value][-1]), found)
        sum_ = fresh(net, f"{found.sum_.output[0]}_sorted")
        draft.nodes.append(with_origin(node("Add", [value, bias], [sum_]), [found.sum_]))
        draft.shapes[sum_], value = draft.shapes[value], sum_
    many = found.heads * found.parts
    sizes = fresh(net, f"{found.apart.output[0]}_sorted_shape")
    draft.constants[sizes] = numpy_helper.from_array(np.array([0, 0, many, found.size], np.int64), sizes)
    apart, turned = (fresh(net, f"{each.output[0]}_sorted") for each in (found.apart, found.turned))
    draft.shapes[apart], draft.shapes[turned] = (*rows, many, found.size), (rows[0], many, rows[1], found.size)
    equal = found.parts if net.opset >= _SPLIT_OF_COUNTS else None
    draft.nodes += [
        with_origin(node("Reshape", [value, sizes], [apart]), [found.apart]),
        with_origin(node("Transpose", [apart], [turned], perm=_HEADS_FIRST), [found.turned]),
        with_origin(node("Split", [turned], found.split.output, axis=1, num_outputs=equal), [found.split]),
    ]
    draft.removed += [found.split]


def _rows(net: Net, found: _Found) -> Shape:
    """Batch and tokens."""
    return net.shapes[found.apart.output[0]][:2]


def _constant(draft: _Draft, name: str, found: _Found) -> str:
    """A constant with the parts of heads sorted; made once for one way."""
    made = fresh(draft.net, f"{name}_sorted_{found.heads}_{found.parts}")
    draft.constants[made] = TensorProto(name=made, data_type=TensorProto.FLOAT, dims=draft.net.constants[name].dims)
    draft.recipes[made] = Sorted(name, found.heads, found.parts)
    return made
