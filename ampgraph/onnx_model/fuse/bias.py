"""Bias: the bias of a convolution as a sum of its own, where cuDNN is slow at both together.

onnxruntime lets cuDNN add a bias inside convolutions with channels last (`fuse_conv_bias`). Its kernels for that are
slow at convolutions in groups and at images of few channels; without them the bias takes a kernel that is slower than a
plain sum. On one H100, microseconds, float16, batch 32: 96 channels of 112 x 112 in groups, bias 149, as a sum 67;
ResNet's first convolution with its bias inside 426, its like without 60. An ampgraph session keeps them apart;
elsewhere onnxruntime joins them again, and nothing is lost.
"""

from __future__ import annotations

import math

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Channels
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.work import FEW_CHANNELS


def fuse_bias(net: Net) -> Fusion:
    """Every bias of a convolution in groups or of an image of few channels."""
    nodes: list[NodeProto] = []
    removed: list[NodeProto] = []
    shapes: dict[str, Shape] = {}
    recipes: dict[str, Channels] = {}
    for each in net.graph.node:
        if not _is_slow(net, each):
            continue
        row, plain = fresh(net, f"{each.input[2]}_per_channel", recipes), fresh(net, f"{each.output[0]}_unbiased")
        shape = net.shapes[each.output[0]]
        recipes[row] = Channels(each.input[2], len(shape) - 2)
        conv = NodeProto.FromString(each.SerializeToString())
        del conv.input[2:]
        conv.output[0] = plain
        nodes += [conv, with_origin(node("Add", [plain, row], each.output), [each])]
        removed.append(each)
        shapes[plain] = shape
    rows = [
        TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[*net.constants[made.name].dims, *[1] * made.axes])
        for name, made in recipes.items()
    ]
    kinds = {"bias apart": len(removed)} if removed else {}
    return Fusion(tuple(nodes), {}, tuple(removed), tuple(rows), recipes, shapes, kinds)


def _is_slow(net: Net, each: NodeProto) -> bool:
    if each.op_type != "Conv" or each.domain or len(each.input) < 3 or not each.input[2]:
        return False
    weight, bias = (net.constants.get(name) for name in each.input[1:3])
    if weight is None or bias is None or each.output[0] not in net.shapes or not net.is_float(each.input[2]):
        return False
    if math.prod(net.shapes[each.output[0]][2:]) == 1:
        return False  # of one pixel: squeeze and excite
    grouped = plain_attributes(each).get("group", 1) != 1
    return (grouped or weight.dims[1] < FEW_CHANNELS) and bias.data_location != TensorProto.EXTERNAL
