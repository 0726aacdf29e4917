"""Affine: batch normalizations that no convolution before them can take, with the activation after them.

They stand before convolutions in DenseNet and in pre-activation ResNets: two numbers a channel, one pass over an image.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.conv import VECTOR, activation, conv_step
from ampgraph.onnx_model.native.step import Slot, Step, constant, image

_RANK, _CHANNELS = 4, 1
_NUMBERS = 4  # scale, bias, mean and variance
_EPSILON = 1e-5  # where none is said


def affine_slots(net: Net, each: NodeProto) -> tuple[Slot, ...]:
    """What our kernel reads for a batch normalization of a float16 image by constants; empty for all else."""
    if each.op_type != "BatchNormalization" or each.domain or len(each.output) != 1:
        return ()
    how, name, shape = plain_attributes(each), each.input[0], net.shapes.get(each.input[0], ())
    numbers = [array.astype(np.float64) for other in each.input[1:] if (array := net.table(other)) is not None]
    if net.source.kinds.get(name) != TensorProto.FLOAT16 or how.get("training_mode") or len(numbers) != _NUMBERS:
        return ()
    if len(shape) != _RANK or shape[_CHANNELS] % VECTOR:
        return ()
    scale, bias, mean, variance = numbers
    by = scale / np.sqrt(variance + float(how.get("epsilon", _EPSILON)))  # type: ignore[arg-type]
    laid = {"scale": by, "shift": bias - mean * by}
    more = (constant(f"{each.output[0]}_{part}", array.astype(np.float32)) for part, array in laid.items())
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


def _is_ours(net: Net, reader: NodeProto, name: str) -> bool:
    step = conv_step(net, reader) if reader.op_type == "Conv" and not reader.domain else None
    return step is not None and step.inputs[0] == image(name)
