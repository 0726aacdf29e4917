"""Affine: what a convolution's result is multiplied by and added to, as part of its weights and bias; and its input.

Numbers, one for each channel or one for all: batch normalizations, and what a block learnt to scale and shift its
images by, as PP-OCRv4's does before and after every activation. Each is a pass over the whole image, which ends up in
weights that are there anyway. onnxruntime does as much where a convolution alone is followed by one such operator.

What is added before a convolution can be part of its bias only where its window has no border, since zeros around the
image are added after it; what it is multiplied by always can. Divided by that, the number stays before the border.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import AffineBias, AffineWeight, Divided, Recipe, Step
from ampgraph.onnx_model.fuse.scale import SMALLEST
from ampgraph.onnx_model.fuse.view import Shape

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_NUMBERS = 4  # of a normalization: scale, bias, mean and variance
NAME = "affine in the weights"


@dataclass
class _Making:
    """What the passes put in and take out. Grows."""

    net: Net
    nodes: list[NodeProto] = field(default_factory=list)
    removed: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    count: int = 0

    def constant(self, name: str, recipe: Recipe, dims: Sequence[int]) -> str:
        """A new constant's name."""
        name = fresh(self.net, name, self.recipes)
        self.recipes[name] = recipe
        self.constants.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims))
        return name

    def fusion(self) -> Fusion:
        """All of it."""
        kinds = {NAME: self.count} if self.count else {}
        nodes, removed, constants = tuple(self.nodes), tuple(self.removed), tuple(self.constants)
        return Fusion(nodes, {}, removed, constants, self.recipes, self.shapes, kinds)


def fuse_affine_after(net: Net) -> Fusion:
    """Every convolution with what follows it, each read by the next alone."""
    making = _Making(net)
    for conv in net.graph.node:
        width = _width(net, conv)
        steps = list(_steps_after(net, conv, width)) if width else []
        if any(step.kind != "Add" for step, _ in steps):
            _put_after(making, conv, width, tuple(step for step, _ in steps), [old for _, old in steps])
    return making.fusion()


def _width(net: Net, conv: NodeProto) -> int:
    """The channels that a convolution makes whose weights can be others; 0 for all else."""
    if conv.op_type not in _CONVOLUTIONS or conv.domain or conv.output[0] not in net.shapes:
        return 0
    names = [name for name in conv.input[1:3] if name]
    transposed = conv.op_type == "ConvTranspose"
    if not all(net.is_own_float(name) for name in names):
        return 0
    if transposed and _groups(conv) != 1:
        return 0
    return int(net.constants[conv.input[1]].dims[int(transposed)])


def _steps_after(net: Net, conv: NodeProto, width: int) -> Iterator[tuple[Step, NodeProto]]:
    value, shape = conv.output[0], net.shapes[conv.output[0]]
    while (reader := net.sole_reader(value, "Add", "Mul", "BatchNormalization")) is not None:
        step = _step(net, reader, value, width, len(shape))
        if step is None or net.shapes.get(reader.output[0]) != shape:
            return
        yield step, reader
        value = reader.output[0]


def _step(net: Net, reader: NodeProto, value: str, width: int, rank: int) -> Step | None:
    """What an operator does to each channel of a value; None where it is something else."""
    if reader.op_type == "BatchNormalization":
        return _normalization(net, reader, value, width)
    other = next((name for name in reader.input if name != value), "")
    if not _is_by_channel(net, other, width, rank) or (reader.op_type == "Mul" and not _is_held(net, other)):
        return None
    return Step(reader.op_type, (other,))


def _normalization(net: Net, norm: NodeProto, value: str, width: int) -> Step | None:
    how = plain_attributes(norm)
    named = list(norm.input[1:])
    alone = len([name for name in norm.output if name]) == 1 and not how.get("training_mode", 0)
    known = all(net.is_own_float(name) and list(net.constants[name].dims) == [width] for name in named)
    if norm.input[0] != value or not alone or len(named) != _NUMBERS or not known or how.get("spatial", 1) != 1:
        return None
    return Step(norm.op_type, tuple(named), float(how.get("epsilon", 1e-5)))  # type: ignore[arg-type]


def _is_by_channel(net: Net, name: str, width: int, rank: int) -> bool:
    """Whether a constant is one number, or one for each channel."""
    if not name or not net.is_own_float(name):
        return False
    dims = list(net.constants[name].dims)
    aligned = [1] * (rank - len(dims)) + dims
    return len(aligned) == rank and aligned[1] in (1, width) and aligned[:1] + aligned[2:] == [1] * (rank - 1)


def _is_held(net: Net, name: str) -> bool:
    """Whether weights times these numbers keep their digits in float16 (scale.py)."""
    values = net.table(name)
    return values is not None and bool(np.sqrt(np.mean(np.square(values, dtype=np.float64))) >= SMALLEST)


def _put_after(making: _Making, conv: NodeProto, width: int, steps: tuple[Step, ...], old: Sequence[NodeProto]) -> None:
    weight, bias = conv.input[1], conv.input[2] if len(conv.input) > 2 else ""
    axis, end = int(conv.op_type == "ConvTranspose"), old[-1].output[0]
    dims = making.net.constants[weight].dims
    names = (
        making.constant(f"{weight}_for_{end}", AffineWeight(weight, axis, steps), dims),
        making.constant(f"{bias or weight}_bias_for_{end}", AffineBias(bias, width, steps), [width]),
    )
    making.nodes.append(_like(conv, [conv.input[0], *names], end, (conv, *old)))
    making.removed += [conv, *old]
    making.count += len(old)


def _like(conv: NodeProto, inputs: Sequence[str], output: str, old: Sequence[NodeProto]) -> NodeProto:
    """The convolution again, under its name, with other operands."""
    new = node(conv.op_type, inputs, [output])
    new.name = conv.name
    new.attribute.extend(conv.attribute)
    return with_origin(new, old)


@dataclass(frozen=True)
class _Before:
    """What is done to a value that convolutions alone read: its factor and what is added, "" for none."""

    value: str
    factor: str
    added: str
    old: tuple[NodeProto, ...]


def fuse_affine_before(net: Net) -> Fusion:
    """Every sum, product or both that convolutions alone read."""
    making = _Making(net)
    for each in net.graph.node:
        found = _before(net, each)
        convs = net.readers.get(each.output[0], ()) if found is not None else ()
        if found is not None and convs:
            _put_before(making, found, each, convs)
    return making.fusion()


def _before(net: Net, last: NodeProto) -> _Before | None:
    """What ends with this node, where convolutions alone read it and can have it in their weights."""
    output = last.output[0] if last.output else ""
    readers = net.readers.get(output, ())
    if last.op_type not in ("Add", "Mul") or last.domain or output in net.fixed or not readers:
        return None
    if any(not _takes(net, each, output) for each in readers):
        return None
    shape = net.shapes.get(output)
    if shape is None or len(shape) < 3:
        return None
    added, value = _parts(net, last, "Add", shape)
    product = net.maker(value, "Mul") if added and net.sole_reader(value, "Add") is last else None
    factor, source = _parts(net, product if added else last, "Mul", shape)
    if factor:
        nodes = tuple(made for made in (product, last) if made is not None)
        return _Before(source, factor, added, nodes)
    return _Before(value, "", added, (last,)) if added and not any(map(_has_border, readers)) else None


def _takes(net: Net, conv: NodeProto, value: str) -> bool:
    known = _width(net, conv) > 0 and conv.op_type == "Conv" and list(conv.input).count(value) == 1
    return known and conv.input[0] == value


def _parts(net: Net, made: NodeProto | None, kind: str, shape: Shape) -> tuple[str, str]:
    """The constant and the other operand of a sum or product by channel; "" for what it is not."""
    if made is None or made.op_type != kind or made.domain:
        return "", ""
    given = next((name for name in made.input if _is_by_channel(net, name, shape[1], len(shape))), "")
    value = next((name for name in made.input if name != given), "")
    fits = bool(given) and net.shapes.get(value) == shape
    if not fits or (kind == "Mul" and not _is_divisor(net, given)):
        return "", ""
    return given, value


def _is_divisor(net: Net, name: str) -> bool:
    """Whether each of these numbers is far enough from 0 to divide by, and weights times it keep their digits."""
    values = net.table(name)
    return values is not None and bool(np.min(np.abs(values)) >= SMALLEST)


def _has_border(conv: NodeProto) -> bool:
    how = plain_attributes(conv)
    pads = how.get("pads", (0,))
    return how.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(pads)  # type: ignore[arg-type]


def _put_before(making: _Making, found: _Before, last: NodeProto, convs: Sequence[NodeProto]) -> None:
    """The convolutions again, each with weights of its own; what they cannot take in is added before them."""
    net, source = making.net, found.value
    stays = bool(found.added) and any(map(_has_border, convs))
    if stays:
        dims = np.broadcast_shapes(*(tuple(net.constants[name].dims) for name in (found.added, found.factor)))
        share = making.constant(f"{found.added}_share", Divided(found.added, found.factor), dims)
        source = fresh(net, f"{last.output[0]}_share")
        making.nodes.append(with_origin(node("Add", [found.value, share], [source]), found.old))
        making.shapes[source] = net.shapes[last.output[0]]
    for conv in convs:
        _put_around(making, conv, found, source, () if stays or not found.added else (Step("Add", (found.added,)),))
    making.removed += found.old
    making.count += len(found.old) - int(stays)


def _groups(conv: NodeProto) -> int:
    return next((int(entry.i) for entry in conv.attribute if entry.name == "group"), 1)


def _put_around(making: _Making, conv: NodeProto, found: _Before, source: str, added: tuple[Step, ...]) -> None:
    net, weight, bias = making.net, conv.input[1], conv.input[2] if len(conv.input) > 2 else ""
    dims, groups = net.constants[weight].dims, _groups(conv)
    steps = (*((Step("Mul", (found.factor,)),) if found.factor else ()), *added)
    inputs = [source, weight]
    if found.factor:
        inputs[1] = making.constant(f"{weight}_for_{source}", AffineWeight(weight, 1, steps, groups), dims)
    if added:
        recipe = AffineBias(bias, int(dims[0]), steps, weight, groups)
        inputs.append(making.constant(f"{bias or weight}_bias_for_{source}", recipe, [dims[0]]))
    elif bias:
        inputs.append(bias)
    making.nodes.append(_like(conv, inputs, conv.output[0], (conv,)))
    making.removed.append(conv)
