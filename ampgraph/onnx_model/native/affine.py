"""Affine: batch normalizations that no convolution before them can take, with the activation after them.

They stand before convolutions in DenseNet and in pre-activation ResNets: two numbers a channel, one pass over an image.
So is a product and a sum with such numbers that stand apart, as after the last convolution of PP-OCR's backbone.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.conv import VECTOR, activation, by_channel, conv_step, numbers_of
from ampgraph.onnx_model.native.step import Slot, Step, constant, image

_RANK, _CHANNELS = 4, 1


def affine_slots(net: Net, each: NodeProto) -> tuple[Slot, ...]:
    """What our kernel reads for a batch normalization of a float16 image by constants; empty for all else."""
    if each.op_type != "BatchNormalization":
        return ()
    name, shape, numbers = each.input[0], net.shapes.get(each.input[0], ()), numbers_of(net, each)
    if numbers is None or net.source.kinds.get(name) != TensorProto.FLOAT16:
        return ()
    if len(shape) != _RANK or shape[_CHANNELS] % VECTOR:
        return ()
    laid = zip(("scale", "shift"), numbers, strict=True)
    more = (constant(f"{each.output[0]}_{part}", array.astype(np.float32)) for part, array in laid)
    return image(name), *more


def affine_step(net: Net, each: NodeProto) -> Step | None:
    """One with its activation whose result convolutions of ours alone read; None for others."""
    slots = affine_slots(net, each)
    found = activation(net, each.output[0]) if slots else None
    kind, nodes = found if found is not None else ("", ())
    old = (each, *nodes)
    made = old[-1].output[0]
    readers = net.readers.get(made, ())
    if not slots or not readers or made in net.fixed or not all(_is_ours(net, reader, made) for reader in readers):
        return None
    return Step("Affine", slots, made, old, attributes={"activation": kind} if kind else {})


def numbers_step(net: Net, product: NodeProto, image_name: str) -> Step | None:
    """A product with numbers by channel, the sum with others that alone reads it, and its activation; else None."""
    by, add = by_channel(net, image_name, product), net.sole_reader(product.output[0], "Add")
    more = by_channel(net, product.output[0], add) if add is not None else None
    low = net.source.kinds.get(image_name) == TensorProto.FLOAT16
    if by is None or more is None or add is None or not low or by.size % VECTOR:
        return None
    laid = (constant(f"{add.output[0]}_{part}", array) for part, array in (("scale", by), ("shift", more)))
    kind, nodes = activation(net, add.output[0]) or ("", ())
    old = (product, add, *nodes)
    how = {"activation": kind} if kind else {}
    return Step("Affine", (image(image_name), *laid), old[-1].output[0], old, attributes=how)


def _is_ours(net: Net, reader: NodeProto, name: str) -> bool:
    step = conv_step(net, reader) if reader.op_type == "Conv" and not reader.domain else None
    return step is not None and step.inputs[0] == image(name)
