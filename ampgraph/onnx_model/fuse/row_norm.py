"""Row normalization: a layer or RMS normalization of what is no sum, by the kernel for sums, with zeros to add.

onnxruntime's LayerNormalization is slow at many rows. On one H100, microseconds, float16, as LayerNormalization and as
SkipLayerNormalization of a row of zeros: 100,352 x 96 93 and 62; 25,088 x 192 44 and 17; 6,304 x 768 19 and 7. The bias
of what comes before, a convolution in groups too, is added on the way for nothing. The RMS normalization that a decoder
begins with is seven kernels in float32 otherwise: 45 microseconds for 2,048 x 1,024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.flat import flat_of
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.skip_norm import Found, Norm, as_fusion, layer_norm, root_mean_square, shift_of
from ampgraph.onnx_model.fuse.view import Shape

WIDEST = 2048  # elements of a row that the kernel holds in registers


@dataclass(frozen=True)
class _Unbiased:
    """A value without the row that is added to make it: the nodes that make it so, and those that they replace."""

    name: str
    bias: str
    nodes: tuple[NodeProto, ...] = ()
    removed: tuple[NodeProto, ...] = ()


def fuse_row_norm(net: Net) -> Fusion:
    """Every normalization by constant rows that is left."""
    norms = (layer_norm(net, each) or root_mean_square(net, each) for each in net.graph.node)
    found = [_fused(net, norm) for norm in norms if norm is not None]
    return as_fusion(net, [each for each in found if each is not None])


def _fused(net: Net, norm: Norm) -> Found | None:
    shape, flat = net.shapes.get(norm.value, (0,)), flat_of(net, norm.value, len(norm.nodes))
    shift, none = shift_of(norm, shape[-1])
    rows = all(net.is_vector(name, shape[-1]) for name in (norm.scale, norm.shift) if name)
    if flat is None or not rows or shape[-1] > WIDEST:
        return None
    source = _without_row(net, norm.value, shape) or _without_conv_bias(net, norm.value) or _Unbiased(norm.value, "")
    zeros = _zeros(shape[-1])
    flat_in, flat_out = (fresh(net, f"{norm.output}_{side}_in_rows") for side in ("input", "output"))
    tail = [zeros.name, norm.scale, *shift, *([source.bias] if source.bias else [])]
    removed = (*source.removed, *norm.nodes)
    new = node(norm.kernel, [flat_in, *tail], [flat_out], CONTRIB, epsilon=norm.epsilon)
    nodes = (flat.flattened(source.name, flat_in), with_origin(new, removed), *flat.restored(flat_out, norm.output))
    shapes = {flat_in: flat.shape, flat_out: flat.shape}
    return Found((*source.nodes, *nodes), removed, (*flat.constants, zeros, *none), shapes)


def _zeros(width: int) -> TensorProto:
    return numpy_helper.from_array(np.zeros((1, 1, width), np.float32), f"ampgraph_zeros_{width}")


def _without_row(net: Net, name: str, shape: Shape) -> _Unbiased | None:
    """The value before a constant row was added, where nobody else reads the sum."""
    sum_ = net.maker(name, "Add")
    if sum_ is None or net.sole_reader(name, "LayerNormalization") is None:
        return None
    row = next((each for each in sum_.input if net.is_vector(each, shape[-1])), "")
    value = next((each for each in sum_.input if each != row), "")
    return _Unbiased(value, row, (), (sum_,)) if row and net.shapes.get(value) == shape else None


def _without_conv_bias(net: Net, name: str) -> _Unbiased | None:
    """What a convolution in groups makes, channels last, without its bias, where the normalization alone reads it.

    Others take their bias inside, for nothing.
    """
    turned = net.maker(name, "Transpose")
    made = net.maker(turned.input[0], "Conv") if turned is not None else None
    if turned is None or made is None or len(made.input) < 3 or plain_attributes(made).get("group", 1) == 1:
        return None
    rank = len(net.shapes.get(name, ()))
    last = plain_attributes(turned).get("perm") == (0, *range(2, rank), 1)
    alone = net.sole_reader(made.output[0], "Transpose") and net.sole_reader(name, "LayerNormalization")
    if not last or not alone or not net.is_vector(made.input[2], net.shapes[name][-1]):
        return None
    plain, moved = NodeProto.FromString(made.SerializeToString()), NodeProto.FromString(turned.SerializeToString())
    del plain.input[2:]
    plain.output[0] = moved.input[0] = fresh(net, f"{made.output[0]}_unbiased")
    moved.output[0] = fresh(net, f"{name}_unbiased")
    return _Unbiased(moved.output[0], made.input[2], (plain, moved), (made, turned))
