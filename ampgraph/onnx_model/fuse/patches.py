"""Patches: a convolution whose windows do not overlap as a matrix product of patches, where the image has few channels.

Vision transformers and ConvNeXt begin with one. With three channels cuDNN's tensor core kernels have nothing to work
on: on one H100, float16, 32 x 3 x 224 x 224 in patches of 16: 361 us with its changes of layout, the product alone 14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Turned
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.work import FEW_CHANNELS


@dataclass(frozen=True)
class _Patches:
    """Channels, rows and columns of patches, and the size of one; `made`: channels of the result."""

    channels: int
    grid: tuple[int, int]
    size: tuple[int, int]
    made: int

    @property
    def depth(self) -> int:
        """Elements of a patch."""
        return self.channels * self.size[0] * self.size[1]


@dataclass(frozen=True)
class _Product:
    """The nodes of a product of patches, the shapes of what they make, and the operands of its reshapes."""

    nodes: list[NodeProto]
    shapes: Mapping[str, Shape]
    operands: list[TensorProto]


def fuse_patches(net: Net) -> Fusion:
    """Every convolution of an image's patches."""
    found: list[_Product] = []
    removed: list[NodeProto] = []
    recipes: dict[str, Turned] = {}
    weights: list[TensorProto] = []
    for each in net.graph.node:
        patches = _patches(net, each) if each.op_type == "Conv" and each.domain == "" else None
        if patches is not None:
            weight = fresh(net, f"{each.input[1]}_as_matrix", recipes)
            recipes[weight] = Turned(each.input[1], (1, 2, 3, 0), 3)
            dims = [patches.depth, patches.made]
            weights.append(TensorProto(name=weight, data_type=TensorProto.FLOAT, dims=dims))
            found.append(_product(net, each, patches, weight))
            removed.append(each)
    return Fusion(
        tuple(new for each in found for new in each.nodes),
        removed=tuple(removed),
        constants=(*weights, *(operand for each in found for operand in each.operands)),
        merged=recipes,
        shapes={name: shape for each in found for name, shape in each.shapes.items()},
        kinds={"patches as a product": len(found)} if found else {},
    )


def _patches(net: Net, conv: NodeProto) -> _Patches | None:
    said, sizes = plain_attributes(conv), net.sizes(conv.input[0])
    pads, dilations = (said.get(name, ()) for name in ("pads", "dilations"))
    weight = net.constants.get(conv.input[1])
    if weight is None or not net.is_float(conv.input[1]) or len(weight.dims) != 4 or sizes is None:
        return None
    if weight.data_location == TensorProto.EXTERNAL or None in sizes[1:] or net.maker(conv.input[0], "Transpose"):
        return None
    made, channels, *size = weight.dims
    height, width = (each or 0 for each in sizes[2:])
    plain = said.get("group", 1) == 1 and pads in ((), (0, 0, 0, 0)) and dilations in ((), (1, 1))
    whole = size != [1, 1] and said.get("strides") == tuple(size) and height % size[0] == width % size[1] == 0
    if not plain or not whole or said.get("auto_pad", "NOTSET") != "NOTSET" or channels >= FEW_CHANNELS:
        return None
    return _Patches(channels, (height // size[0], width // size[1]), (size[0], size[1]), made)


def _product(net: Net, conv: NodeProto, found: _Patches, weight: str) -> _Product:
    """Cut, turn, multiply, add the bias, and turn back; in one row of patches where that is how they are read."""
    (high, wide), (height, width), channels = found.grid, found.size, found.channels
    batch, name = net.shapes[conv.input[0]][0], conv.output[0]
    in_one = net.sole_reader(name, "Reshape", "Flatten") is not None
    places = (high * wide,) if in_one else (high, wide)
    steps: list[tuple[str, str, Shape, dict[str, Any]]] = [
        ("Reshape", "cut", (batch, channels, high, height, wide, width), {}),
        ("Transpose", "turned", (batch, high, wide, channels, height, width), {"perm": [0, 2, 4, 1, 3, 5]}),
        ("Reshape", "rows", (batch, *places, found.depth), {}),
        ("MatMul", weight, (batch, *places, found.made), {}),
        *([("Add", conv.input[2], (batch, *places, found.made), {})] if len(conv.input) > 2 and conv.input[2] else []),
    ]
    if in_one:
        steps.append(("Transpose", "channels", (batch, found.made, *places), {"perm": [0, 2, 1]}))
        steps.append(("Reshape", "image", (batch, found.made, high, wide), {}))
    else:
        steps.append(("Transpose", "image", (batch, found.made, high, wide), {"perm": [0, 3, 1, 2]}))
    nodes, shapes, operands, last = [], {}, [], conv.input[0]
    for index, (op, said, shape, attributes) in enumerate(steps):
        made = name if index == len(steps) - 1 else fresh(net, f"{name}_{op.lower()}_{index}")
        if op == "Reshape":
            operands.append(_shape(fresh(net, f"{name}_{said}"), [-1, *shape[1:]]))
        inputs = [last, *([operands[-1].name] if op == "Reshape" else [] if op == "Transpose" else [said])]
        nodes.append(node(op, inputs, [made], **attributes))
        shapes[made], last = shape, made
    with_origin(nodes[3], [conv])
    return _Product(nodes, shapes, operands)


def _shape(name: str, sizes: list[int]) -> TensorProto:
    return numpy_helper.from_array(np.array(sizes, np.int64), name)
