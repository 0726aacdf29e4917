"""Packed attention as three products and an attention of what they make.

onnxruntime's Attention makes queries, keys and values in one product, adds the bias and takes them apart in a kernel of
its own, which reads and writes them all once more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Net
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.native.step import Slot, Step, constant

_KEPT = ("num_heads", "scale")


def attention_steps(net: Net, each: NodeProto) -> tuple[Step, ...]:
    """The steps that stand for an Attention of rows alone; none for what has a mask, a past or other parts."""
    if each.op_type != "Attention" or any(each.input[3:]) or any(each.output[1:]):
        return ()
    how: dict[str, Any] = dict(plain_attributes(each))
    weight, bias = net.table(each.input[1]), net.table(each.input[2])
    plain = all(name in _KEPT or not value for name, value in how.items())
    if not plain or weight is None or bias is None or weight.dtype != np.float16 or weight.shape[1] % (3 * VECTOR):
        return ()
    made = each.output[0]
    names = tuple(f"{made}_{part}" for part in ("queries", "keys", "values"))
    parts = zip(names, np.split(weight, 3, 1), np.split(bias.reshape(-1), 3), strict=True)
    products = tuple(
        Step(
            "Linear",
            (Slot(each.input[0]), constant(f"{name}_weight", np.ascontiguousarray(w.T)), constant(f"{name}_bias", b)),
            name,
            (each,),
            last=False,
        )
        for name, w, b in parts
    )
    attributes: dict[str, Any] = {name: how[name] for name in _KEPT if name in how}
    slots = tuple(map(Slot, names))
    whole = Step("MultiHeadAttention", slots, made, (each,), last=False, domain=CONTRIB, attributes=attributes)
    return (*products, whole)
