"""Between: standard operators that compute the same with channels last, so that images between ours are not turned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.affine import affine_slots
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.native.excite import mean_at
from ampgraph.onnx_model.native.pool import flat_or_not, window_attributes
from ampgraph.onnx_model.native.step import DOMAIN, NOTHING, Slot, Step, constant, image

LAST = (0, 2, 3, 1)
_RANK, _CHANNELS = 4, 1
_OF_ONE = frozenset((
    "Abs", "Cast", "Ceil", "Celu", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Softplus", "Softsign",
    "Sqrt", "Tanh",
))  # fmt: skip
_OF_SEVERAL = frozenset(("Add", "Clip", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"))
_BY_AXIS = frozenset(("Concat", "Split"))


@dataclass(frozen=True)
class Between:
    """A node that reads images with channels last. `last`: what it makes has them last, too."""

    op: str
    inputs: tuple[Slot, ...]
    domain: str = ""
    last: bool = True
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def images(self) -> tuple[str, ...]:
        """The images that it reads."""
        return tuple(slot.name for slot in self.inputs if slot.image)


def between(net: Net, each: NodeProto) -> Between | None:
    """The node with channels last; None where it is not the same operator then, or reads no image."""
    if each.domain not in ("", "ai.onnx") or not each.input or not _is_image(net, each.input[0]):
        return _of_numbers_first(net, each)
    if each.op_type in _OF_ONE or each.op_type in _OF_SEVERAL:
        return _by_element(net, each)
    if each.op_type in _BY_AXIS:
        return _by_channel(net, each)
    further = _BY_SIZES.get(each.op_type, _pooled)
    return further(net, each)


def _of_numbers_first(net: Net, each: NodeProto) -> Between | None:
    """An operator on a constant and an image, in that order."""
    standard = each.domain in ("", "ai.onnx") and each.op_type in _OF_SEVERAL
    return _by_element(net, each) if standard and len(each.input) > 1 else None


def _is_image(net: Net, name: str) -> bool:
    return name not in net.constants and len(net.shapes.get(name, ())) == _RANK


def _by_element(net: Net, each: NodeProto) -> Between | None:
    if not _is_image(net, each.output[0]) or len(each.output) != 1:
        return None
    slots = [_operand(net, name) for name in each.input]
    found = tuple(slot for slot in slots if slot is not None)
    if len(found) < len(slots) or not any(slot.image for slot in found):
        return None
    return Between(each.op_type, found, attributes=plain_attributes(each))


def _operand(net: Net, name: str) -> Slot | None:
    """An image, or a constant laid as one; None for values of another rank."""
    if not name:
        return NOTHING
    known = net.constants.get(name)
    if known is None:
        return image(name) if _is_image(net, name) else Slot(name) if net.shapes.get(name) == () else None
    if np.prod(known.dims) == 1 and len(known.dims) <= _RANK:
        return Slot(name)
    array = net.table(name)
    if array is None or array.ndim > _RANK:
        return None
    aligned = array.reshape([1] * (_RANK - array.ndim) + list(array.shape))
    return constant(name, np.ascontiguousarray(aligned.transpose(LAST)))


def _by_channel(net: Net, each: NodeProto) -> Between | None:
    """What lies side by side in the channels, put together or taken apart."""
    how = dict(plain_attributes(each))
    if how.get("axis", 0) not in (_CHANNELS, _CHANNELS - _RANK):
        return None
    sizes = each.input[1:] if each.op_type == "Split" else ()
    images = each.input[:1] if each.op_type == "Split" else each.input
    if not all(_is_image(net, name) for name in (*images, *each.output)):
        return None
    slots = (*map(image, images), *(Slot(name) for name in sizes))
    return Between(each.op_type, slots, attributes={**how, "axis": _RANK - 1})


def _resized(net: Net, each: NodeProto) -> Between | None:
    """Nearest pixels: onnxruntime's other kernels want channels first."""
    how = plain_attributes(each)
    names = [*each.input, "", "", ""][:4]
    given = [net.values(name) if name else None for name in names[1:]]
    region, scales, sizes = (None if array is None or not array.size else array for array in given)
    wanted = scales if scales is not None else sizes
    known = all(array is not None for name, array in zip(names[1:], given, strict=True) if name)
    if how.get("mode", "nearest") != "nearest" or "axes" in how or not known or region is not None or wanted is None:
        return None
    if wanted.size != _RANK or not _is_image(net, each.output[0]):
        return None
    place = 2 if scales is not None else 3
    laid = constant(names[place], wanted.reshape(-1)[list(LAST)])
    slots = [image(names[0]), Slot(names[1]), *([laid] if place == 2 else [Slot(names[2]), laid])]
    return Between("Resize", tuple(slots), attributes=how)


def _sliced(net: Net, each: NodeProto) -> Between | None:
    """Parts of an image; where they begin and end may be computed, along which axes not."""
    axes = net.values(each.input[3]) if len(each.input) > 3 and each.input[3] else None
    if axes is None or not _is_image(net, each.output[0]):
        return None
    laid = constant(each.input[3], np.array([LAST.index(int(axis) % _RANK) for axis in axes.reshape(-1)], np.int64))
    ends, steps = [Slot(name) for name in each.input[1:3]], [Slot(name) for name in each.input[4:]]
    return Between("Slice", (image(each.input[0]), *ends, laid, *steps))


def _padded(net: Net, each: NodeProto) -> Between | None:
    pads = net.values(each.input[1]) if len(each.input) > 1 else None
    if pads is None or pads.size != 2 * _RANK or len(each.input) > 3 or not _is_image(net, each.output[0]):
        return None
    laid = constant(each.input[1], pads.reshape(2, _RANK)[:, list(LAST)].reshape(-1))
    value = [Slot(name) for name in each.input[2:]]
    return Between("Pad", (image(each.input[0]), laid, *value), attributes=plain_attributes(each))


def _normalized(net: Net, each: NodeProto) -> Between | None:
    slots = affine_slots(net, each)
    return Between("Affine", slots, DOMAIN) if slots else None


def _pooled(net: Net, each: NodeProto) -> Between | None:
    """By kernels of ours, which read eight channels at a time."""
    name = each.input[0]
    if net.source.kinds.get(name) != TensorProto.FLOAT16 or net.shapes[name][_CHANNELS] % VECTOR:
        return None
    if mean_at(net, each) == (each,):
        return Between("Mean", (image(name),), DOMAIN, last=False, attributes=flat_or_not(net, (each,)))
    how = window_attributes(net, each)
    return None if how is None else Between(each.op_type, (image(name),), DOMAIN, attributes=how)


_BY_SIZES: Mapping[str, Callable[[Net, NodeProto], Between | None]] = {
    "BatchNormalization": _normalized,
    "Pad": _padded,
    "Resize": _resized,
    "Slice": _sliced,
}


def wanted_with_channels_last(net: Net, steps: Collection[Step]) -> frozenset[str]:
    """Images that ours read, means among them, and those between that they are made of."""
    found = {slot.name for step in steps for slot in step.inputs if slot.image}
    gone = {id(old) for step in steps for old in step.old}
    for each in reversed(net.graph.node):
        passed = between(net, each) if id(each) not in gone else None
        if passed is not None and not (passed.last and found.isdisjoint(each.output)):
            found.update(passed.images)
    return frozenset(found)
