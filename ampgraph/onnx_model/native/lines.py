"""Lines: convolutions along one axis, of sounds and other series, as convolutions of images that are one pixel high.

Values N, C, L become images N, C, 1, L where such a convolution reads or makes them, and where operators between two of
them compute the same on images. A Reshape stands where a stretch of them begins or ends: it moves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model.attributes import constants_in, plain_attributes
from ampgraph.onnx_model.fuse.net import copy_without, node
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.types import bodies

_RANK, _CHANNELS = 3, 1
_TO_IMAGE, _TO_LINE = (0, 0, 1, -1), (0, 0, -1)
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_POOLS = ("AveragePool", "MaxPool")
_OF_ONE = frozenset((
    "Abs", "BatchNormalization", "Cast", "Elu", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Mish", "Neg", "Relu", "Selu", "Sigmoid", "Sin", "Softplus", "Softsign", "Tanh",
))  # fmt: skip
_OF_SEVERAL = frozenset(("Add", "Clip", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"))
_OF_CHANNELS = ("Concat", "Split")
_BESIDE: Mapping[str, int] = {"strides": 1, "dilations": 1, "kernel_shape": 1, "pads": 0, "output_padding": 0}


def has_lines(model: ModelProto) -> bool:
    """Whether there is a convolution along one axis that a kernel of ours computes as one of an image."""
    weights = constants_in(model.graph)
    return any(_is_ours(each, weights) for each in model.graph.node)


def as_images(model: ModelProto, shapes: Mapping[str, Shape]) -> ModelProto:
    """The model with those convolutions over images, and what is between them. `shapes`: of values, as far as known."""
    weights, nodes = constants_in(model.graph), list(model.graph.node)
    lifted, images = _lifted(nodes, weights, shapes)
    stay = [each for place, each in enumerate(nodes) if place not in lifted]
    lifting = _Lifting(weights, shapes, images, _needed(model, stay))
    for place, each in enumerate(nodes):
        if place in lifted:
            lifting.add(each)
        else:
            lifting.nodes.append(each)
    new = copy_without(model, "node")
    new.graph.node.extend(lifting.nodes)
    new.graph.initializer.extend(lifting.constants.values())
    return new


def _is_ours(each: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    weight = weights.get(each.input[1]) if each.op_type in _CONVOLUTIONS and not each.domain else None
    if weight is None or weight.data_type != TensorProto.FLOAT16 or len(weight.dims) != _RANK:
        return False
    how, (first, second) = plain_attributes(each), weight.dims[:2]
    group, external = how.get("group", 1), weight.data_location == TensorProto.EXTERNAL
    if external or how.get("auto_pad", "NOTSET") != "NOTSET" or not isinstance(group, int) or first % VECTOR:
        return False
    if each.op_type == "ConvTranspose":
        return group == 1 and "output_shape" not in how and not second % VECTOR
    if group == 1:
        return not second % VECTOR or bool(second < VECTOR)
    return bool(second > 1) and not group * second % VECTOR


def _lifted(
    nodes: Sequence[NodeProto], weights: Mapping[str, TensorProto], shapes: Mapping[str, Shape]
) -> tuple[set[int], set[str]]:
    """Places of the nodes that become nodes over images, and the values that they make."""
    places: set[int] = set()
    images: set[str] = set()

    def can_be(name: str) -> bool:
        return not name or name in weights or (name in shapes and len(shapes[name]) in (0, _RANK))

    for place, each in enumerate(nodes):
        between = not images.isdisjoint(each.input) and _is_the_same(each, weights)
        known = all(len(shapes.get(name, ())) == _RANK for name in each.output) and all(map(can_be, each.input))
        if _is_ours(each, weights) or (between and known):
            places.add(place)
            images.update(each.output)
    return places, images


def _is_the_same(each: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether an operator computes the same on images one pixel high."""
    how = plain_attributes(each)
    if each.op_type == "Gelu":
        return True  # onnxruntime's, too
    if each.domain not in ("", "ai.onnx"):
        return False
    if each.op_type in _OF_CHANNELS:
        return how.get("axis", 0) == _CHANNELS
    if each.op_type in _POOLS:
        return how.get("auto_pad", "NOTSET") == "NOTSET" and len(each.output) == 1
    if each.op_type == "Pad":
        return _says_pads(each, weights)
    return each.op_type in _OF_ONE or each.op_type in _OF_SEVERAL


def _says_pads(pad: NodeProto, weights: Mapping[str, TensorProto]) -> bool:
    """Whether a Pad is of all axes, by a constant: before opset 11 an attribute, from 18 on perhaps of some."""
    pads = weights.get(pad.input[1]) if 2 <= len(pad.input) <= 3 else None
    return pads is not None and list(pads.dims) == [2 * _RANK]


def _needed(model: ModelProto, stay: Iterable[NodeProto]) -> set[str]:
    """Values that are read as they were."""
    found = {value.name for value in model.graph.output}
    for each in stay:
        found.update(each.input)
        for _, body in bodies(each):
            found |= captured(body)
    return found


@dataclass
class _Lifting:
    """The model over images. Grows."""

    weights: Mapping[str, TensorProto]
    shapes: Mapping[str, Shape]
    images: set[str]  # values that lifted nodes make
    needed: set[str]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)  # images of other values

    def add(self, each: NodeProto) -> None:
        """A node over images, and lines of what it makes where they are needed."""
        new = NodeProto()
        new.CopyFrom(each)
        del new.input[:], new.output[:]
        new.input.extend(self._inputs(each))
        new.output.extend(_image_of(name) for name in each.output)
        if each.op_type in (*_CONVOLUTIONS, *_POOLS):
            del new.attribute[:]
            new.attribute.extend(helper.make_attribute(name, value) for name, value in _attributes(each).items())
        self.nodes.append(new)
        for name in each.output:
            if name in self.needed:
                self.nodes.append(self._reshaped(_image_of(name), name, _TO_LINE))

    def _inputs(self, each: NodeProto) -> list[str]:
        first = each.input[:1]
        if each.op_type in _CONVOLUTIONS:
            weight = self.weights[each.input[1]]
            laid = self._constant(each.input[1], weight, (*weight.dims[:2], 1, weight.dims[2]))
            return [*map(self._image, first), laid, *each.input[2:]]
        if each.op_type == "Pad":
            return [*map(self._image, first), self._pads(each.input[1]), *each.input[2:]]
        if each.op_type in _OF_SEVERAL or each.op_type == "Concat":
            return [self._image(name) for name in each.input]
        return [*map(self._image, first), *each.input[1:]]

    def _image(self, name: str) -> str:
        """The image that a value becomes; single numbers stay what they are."""
        weight = self.weights.get(name)
        if weight is not None:
            dims = tuple(weight.dims)
            return self._constant(name, weight, (*dims[:-1], 1, dims[-1])) if np.prod(dims) > 1 else name
        if not self.shapes.get(name):
            return name
        if name not in self.images and name not in self.made:
            self.made.add(name)
            self.nodes.append(self._reshaped(name, _image_of(name), _TO_IMAGE))
        return _image_of(name)

    def _constant(self, name: str, weight: TensorProto, dims: tuple[int, ...]) -> str:
        """The same numbers in another shape."""
        new = self.constants.setdefault(_image_of(name), TensorProto())
        if not new.name:
            new.CopyFrom(weight)
            new.name = _image_of(name)
            del new.dims[:]
            new.dims.extend(dims)
        return str(new.name)

    def _pads(self, name: str) -> str:
        """Of a Pad: none above and below."""
        before, after = numpy_helper.to_array(self.weights[name]).reshape(2, _RANK)
        pads = np.array([*before[:2], 0, before[2], *after[:2], 0, after[2]], np.int64)
        return self._numbers(_image_of(name), pads)

    def _reshaped(self, name: str, output: str, shape: tuple[int, ...]) -> NodeProto:
        return node("Reshape", [name, self._numbers(f"{output}_shape", np.array(shape, np.int64))], [output])

    def _numbers(self, name: str, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
        self.constants[name] = numpy_helper.from_array(numbers, name)
        return name


def _image_of(name: str) -> str:
    """New names cannot be among those that an exporter makes."""
    return f"{name}_ampgraph_image"


def _attributes(each: NodeProto) -> dict[str, Any]:
    """Of a convolution or a pool, of an axis more."""
    how: dict[str, Any] = dict(plain_attributes(each))
    how |= {name: (beside, *how[name]) for name, beside in _BESIDE.items() if name in how}
    if "pads" in how:
        _, before, after = how["pads"]
        how["pads"] = 0, before, 0, after
    return how
