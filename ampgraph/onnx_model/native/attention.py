"""Packed attention as three products and an attention of what they make.

onnxruntime's Attention makes queries, keys and values in one product, adds the bias and takes them apart in a kernel of
its own, which reads and writes them all once more. For few rows two launches more are the worse: on one H200, as CUDA
graphs, ViT-B/16 at batch 32 takes 2.87 ms with packed attention and 2.72 in three products, at batch 1 0.49 and 0.58.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Net
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.native.step import Slot, Step, constant

_KEPT = ("num_heads", "scale")
ENOUGH = 1 << 19  # elements of the rows: what the kernel left out takes as long as two launches


def attention_steps(net: Net, each: NodeProto) -> tuple[Step, ...]:
    """The steps that stand for an Attention of rows alone; none for what has a mask, a past or other parts."""
    if (each.op_type, each.domain) != ("Attention", CONTRIB) or len(each.input) < 3:
        return ()
    if any(each.input[3:]) or any(each.output[1:]):
        return ()
    how: dict[str, Any] = dict(plain_attributes(each))
    weight, bias = net.table(each.input[1]), net.table(each.input[2])
    plain = all(name in _KEPT or not value for name, value in how.items())
    if not plain or weight is None or bias is None or weight.dtype != np.float16 or weight.shape[1] % (3 * VECTOR):
        return ()
    if prod(net.shapes.get(each.input[0], ())) < ENOUGH:
        return ()
    made = each.output[0]
    names = tuple(f"{made}_{part}" for part in ("queries", "keys", "values"))
    parts = zip(names, np.split(weight, 3, 1), np.split(bias.reshape(-1), 3), strict=True)
    products = tuple(_product(each, name, *part) for name, *part in parts)
    attributes: dict[str, Any] = {name: how[name] for name in _KEPT if name in how}
    slots = tuple(map(Slot, names))
    whole = Step("MultiHeadAttention", slots, made, (each,), last=False, domain=CONTRIB, attributes=attributes)
    return (*products, whole)


def _product(each: NodeProto, made: str, weight: Array, bias: Array) -> Step:
    """One of the three; without a bias onnxruntime's own is as fast."""
    x, name = Slot(each.input[0]), f"{made}_weight"
    if not bias.any():
        return Step("MatMul", (x, constant(name, np.ascontiguousarray(weight))), made, (each,), last=False, domain="")
    inputs = (x, constant(name, np.ascontiguousarray(weight.T)), constant(f"{made}_bias", bias))
    return Step("Linear", inputs, made, (each,), last=False)
