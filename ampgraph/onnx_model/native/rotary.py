"""Queries, keys and values of attention with rotary positions: one product, and one kernel that turns and parts them.

Three products of a few thousand rows leave half of a large GPU idle, each.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Net
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.native.step import Slot, Step, constant

_PAIRED = {"interleaved": 1}  # the only way of turning that the kernel knows; all other attributes as they are usual


def rotary_steps(net: Net, attention: NodeProto) -> tuple[Step, ...]:
    """The steps that make what a MultiHeadAttention reads; none where it is something else."""
    if attention.domain != CONTRIB or attention.op_type != "MultiHeadAttention" or len(attention.input) < 3:
        return ()
    turned = [net.makers.get(name) for name in attention.input[:2]]
    q, k = (each if each is not None and _is_rotary(each) else None for each in turned)
    if q is None or k is None or list(q.input[1:4]) != list(k.input[1:4]) or _heads(q) != _heads(k):
        return ()
    products = [net.maker(name, "MatMul") for name in (q.input[0], k.input[0], attention.input[2])]
    found = [each for each in products if each is not None]
    weights = [array for each in found if (array := _weight(net, each)) is not None]
    if len(weights) < 3 or len({each.input[0] for each in found}) > 1 or weights[0].shape != weights[1].shape:
        return ()
    if not all(_read_once(net, name) for name in (*attention.input[:3], q.input[0], k.input[0])):
        return ()
    return _steps(found, (q, k), weights, attention.input[2])


def _is_rotary(node: NodeProto) -> bool:
    given = {name: value for name, value in plain_attributes(node).items() if name not in ("num_heads", "scale")}
    unusual = {name: value for name, value in given.items() if value and name not in _PAIRED}
    is_one = node.domain == CONTRIB and node.op_type == "RotaryEmbedding" and len(node.input) == 4
    whole = plain_attributes(node).get("scale", 1.0) == 1.0
    return is_one and whole and not unusual and given.get("interleaved", 0) == 1


def _heads(node: NodeProto) -> object:
    return plain_attributes(node).get("num_heads", 0)


def _weight(net: Net, product: NodeProto) -> Array | None:
    known = net.constants.get(product.input[1])
    if known is None or known.data_type != TensorProto.FLOAT16 or known.data_location == TensorProto.EXTERNAL:
        return None
    whole = len(known.dims) == 2 and known.dims[1] % VECTOR == 0
    return net.table(product.input[1]) if whole else None


def _read_once(net: Net, name: str) -> bool:
    readers = net.readers.get(name, ())
    return name not in net.fixed and len(readers) == 1 and list(readers[0].input).count(name) == 1


def _steps(
    products: list[NodeProto], turned: tuple[NodeProto, NodeProto], weights: list[Array], value: str
) -> tuple[Step, Step]:
    q, k = turned
    made = f"{q.output[0]}_all"
    both = constant(f"{q.output[0]}_weights", np.concatenate(weights, 1))
    matmul = Step("MatMul", (Slot(products[0].input[0]), both), made, tuple(products), last=False, domain="")
    inputs = (Slot(made), *(Slot(name) for name in q.input[1:4]))
    further, how = (k.output[0], value), {"width": weights[0].shape[1], "num_heads": _heads(q)}
    return matmul, Step("Rotary", inputs, q.output[0], turned, last=False, further=further, attributes=how)
