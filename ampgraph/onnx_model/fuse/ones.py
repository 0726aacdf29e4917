"""Ones: products with one, which change nothing and hide patterns: Paddle's swish, whose gate has a factor."""

from __future__ import annotations

from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import Fusion, Net


def fuse_ones(net: Net) -> Fusion:
    """Every product with a constant one that has no more axes than what it multiplies."""
    copies = {each.output[0]: source for each in net.graph.node if (source := _multiplied(net, each))}
    return Fusion((), replaced={name: source for name, source in copies.items() if name not in net.fixed})


def _multiplied(net: Net, each: NodeProto) -> str:
    """What a node multiplies by one; "" where it does not."""
    if each.op_type != "Mul" or each.domain:
        return ""
    for value, factor in (each.input, reversed(each.input)):
        tensor, shape = net.constants.get(factor), net.shapes.get(value)
        if tensor is not None and shape is not None and len(tensor.dims) <= len(shape) and net.scalar(factor) == 1.0:
            return str(value)
    return ""
