"""Rows in another order beside a layer normalization, as around attention in windows: it reads or leaves them there.

A copy of rows reads and writes all of them once more. Between the copy and a sum stands a product, row by row: it can
be made of the rows as they lie, and the sum reads those that the copy would have chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import Array, Net, fresh
from ampgraph.onnx_model.native.conv import alike
from ampgraph.onnx_model.native.rows import sizes_of
from ampgraph.onnx_model.native.step import NOTHING, Slot, Step

_PLACES, _BESIDE = 5, 6  # inputs of our operator
_MORE = 1.25  # so many times the rows may be computed: windows of 7 x 7 that are filled up to 56 have 1.14


@dataclass(frozen=True)
class _Joined:
    """A normalization that needs this copy of rows no more, and the product that it reads now."""

    norm: Step
    copy: Step
    product: Step | None = None


def with_norms(net: Net, steps: Mapping[str, Step]) -> dict[str, Step]:
    """The steps, with copies of rows as part of the normalizations before and after them where that is less work."""
    found = dict(steps)
    for norm in steps.values():
        if norm.op == "LayerNorm":
            _join(found, norm.output, _before(net, norm, found))
            _join(found, norm.output, _after(net, found[norm.output], found))
    return found


def _join(found: dict[str, Step], name: str, joined: _Joined | None) -> None:
    if joined is None:
        return
    del found[joined.copy.output], found[name]
    for step in filter(None, (joined.product, joined.norm)):
        found[step.output] = step


def _after(net: Net, norm: Step, steps: Mapping[str, Step]) -> _Joined | None:
    """A normalization that leaves its rows where the only reader copies them to."""
    nodes: list[NodeProto] = []
    name = norm.output
    while (reshape := net.sole_reader(name, "Reshape")) is not None:
        nodes.append(reshape)
        name = reshape.output[0]
    gather = net.sole_reader(name, "Gather")
    copy = steps.get(gather.output[0]) if gather is not None else None
    if copy is None or copy.op != "Rows" or copy.inputs[0].name != name:
        return None
    places, (length, width) = _places(copy), _rows(net, name)
    is_whole = np.unique(places).size == length or not norm.further  # the sum is made of what is read
    if width != _width(net, norm) or not is_whole or places.size > _MORE * length:
        return None
    inputs, attributes = _with_input(norm, _PLACES, copy.inputs[1]), {**norm.attributes, "length": length}
    old = (*norm.old, *nodes, *copy.old)
    return _Joined(replace(norm, inputs=inputs, output=copy.output, old=old, attributes=attributes), copy)


def _before(net: Net, norm: Step, steps: Mapping[str, Step]) -> _Joined | None:
    """A normalization of a sum that reads one of both where a copy, perhaps with a product after it, read it."""
    x, skip = norm.inputs[0], norm.inputs[3]
    if not alike(net, x.name, skip.name):
        return None
    for one, other in ((x, skip), (skip, x)):
        read = _read_before(net, other.name, _width(net, norm), steps)
        if read is not None:
            inputs = (one, *norm.inputs[1:3], Slot(read.name), *norm.inputs[4:])
            placed = replace(norm, inputs=inputs, old=(*read.after, *norm.old))
            placed = replace(placed, inputs=_with_input(placed, _BESIDE, read.copy.inputs[1]))
            return _Joined(placed, read.copy, read.product)
    return None


@dataclass(frozen=True)
class _Read:
    """Rows as they lie before a copy, or a product of them; `after`: nodes that go with who reads."""

    name: str
    copy: Step
    product: Step | None
    after: tuple[NodeProto, ...]


def _read_before(net: Net, name: str, width: int, steps: Mapping[str, Step]) -> _Read | None:
    source, after = _through_reshapes(net, name, steps)
    product = _product(net, source, width, steps)
    before: tuple[NodeProto, ...] = ()
    if product is not None:
        width = net.constants[product.input[1]].dims[0]
        source, before = _through_reshapes(net, product.input[0], steps)
    copy = steps.get(source)
    if copy is None or copy.op != "Rows" or not _has_one_reader(net, source):
        return None
    length, wide = _rows(net, copy.inputs[0].name)
    if wide != width or length > _MORE * _places(copy).size:
        return None
    if product is None:
        return _Read(copy.inputs[0].name, copy, None, (*copy.old, *before, *after))
    made = fresh(net, f"{product.output[0]}_before_{source}")
    inputs = (copy.inputs[0], Slot(product.input[1]))
    step = Step("MatMul", inputs, made, (*copy.old, *before, product), last=False, domain="")
    return _Read(made, copy, step, after)


def _through_reshapes(net: Net, name: str, steps: Mapping[str, Step]) -> tuple[str, tuple[NodeProto, ...]]:
    """What a value is a reshaped form of, as far as nobody else reads it, and the nodes from there on."""
    nodes: list[NodeProto] = []
    while (reshape := _sole_maker(net, name, "Reshape", steps)) is not None:
        nodes.insert(0, reshape)
        name = reshape.input[0]
    return name, tuple(nodes)


def _sole_maker(net: Net, name: str, kind: str, steps: Mapping[str, Step]) -> NodeProto | None:
    """The node that makes a value for one reader alone, if it is this standard operator and in no step."""
    return net.maker(name, kind) if _has_one_reader(net, name) and name not in steps else None


def _has_one_reader(net: Net, name: str) -> bool:
    readers = net.readers.get(name, ())
    return name not in net.fixed and len(readers) == 1 and list(readers[0].input).count(name) == 1


def _product(net: Net, name: str, width: int, steps: Mapping[str, Step]) -> NodeProto | None:
    """The product with a constant matrix that makes rows this wide."""
    product = _sole_maker(net, name, "MatMul", steps)
    weight = net.constants.get(product.input[1]) if product is not None else None
    return product if weight is not None and len(weight.dims) == 2 and weight.dims[1] == width else None


def _places(copy: Step) -> Array:
    places = copy.inputs[1].array
    assert places is not None
    return places


def _rows(net: Net, name: str) -> tuple[int, int]:
    """How many rows an image has that are copied, and how wide they are."""
    _, length, width = sizes_of(net, name) or (None, None, None)
    assert length is not None and width is not None  # noqa: PT018
    return length, width


def _width(net: Net, norm: Step) -> int:
    return int(net.constants[norm.inputs[1].name].dims[0])


def _with_input(norm: Step, place: int, slot: Slot) -> tuple[Slot, ...]:
    inputs = [*norm.inputs, *[NOTHING] * (place + 1 - len(norm.inputs))]
    inputs[place] = slot
    return tuple(inputs)
