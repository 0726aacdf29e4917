"""Gated activations: act(x a) * (x b) in one kernel, of one product with both weights side by side.

On its own the activation is a kernel and the product with it another: both read and write all hidden units. For
onnxruntime's BiasSplitGelu, which is one, ours is a faster one.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Net
from ampgraph.onnx_model.native.conv import VECTOR, activation, alike
from ampgraph.onnx_model.native.step import NOTHING, Slot, Step, constant

ACTIVATIONS = ("Silu", "Relu")


def gated_steps(net: Net, product: NodeProto) -> tuple[Step, ...]:
    """The steps that stand for a Mul of an activated value and another; none where it is something else."""
    for value, gate in (product.input, reversed(product.input)):
        found = _before(net, gate)
        if found is None or not _same_rows(net, found[0], value):
            continue
        source, kind, nodes = found
        if net.sole_reader(gate, "Mul") is product:
            return _of(net, (source, value), kind, (*nodes, product))
    return ()


def split_gelu_step(net: Net, each: NodeProto) -> Step | None:
    """onnxruntime's BiasSplitGelu: (a + bias) * gelu(b + bias) of a row's halves, in float16."""
    bias = net.table(each.input[1]) if each.op_type == "BiasSplitGelu" and each.domain == CONTRIB else None
    if bias is None or bias.dtype != np.float16 or bias.size % (2 * VECTOR):
        return None
    inputs = (Slot(each.input[0]), NOTHING, constant(each.input[1], bias.reshape(-1)))
    how = {"activation": "Gelu", "second": 1}
    return Step("Gated", inputs, each.output[0], (each,), last=False, attributes=how)


def _before(net: Net, gate: str) -> tuple[str, str, tuple[NodeProto, ...]] | None:
    """What a value is the activation of, which one, and its nodes."""
    last = net.maker(gate, "Mul", "Relu")
    for source in last.input if last is not None else ():
        found = activation(net, source)
        if found is not None and found[0] in ACTIVATIONS and found[1][-1] is last:
            return source, *found
    return None


def _same_rows(net: Net, one: str, other: str) -> bool:
    """Whether two products have rows of whole vectors, as wide and as many: of the same rows, or known to be alike."""
    widths = [weight.dims[-1] for name in (one, other) if (weight := _weight(net, name)) is not None]
    if len(widths) != 2 or widths[0] != widths[1] or widths[0] % VECTOR:
        return False
    return net.makers[one].input[0] == net.makers[other].input[0] or alike(net, one, other)


def _weight(net: Net, name: str) -> TensorProto | None:
    """The weights of the float16 product that makes a value."""
    maker = net.maker(name, "MatMul")
    weight = net.constants.get(maker.input[1]) if maker is not None else None
    is_ours = weight is not None and weight.data_type == TensorProto.FLOAT16 and len(weight.dims) == 2
    return weight if is_ours else None


def _of(net: Net, values: tuple[str, str], kind: str, old: tuple[NodeProto, ...]) -> tuple[Step, ...]:
    made, how = old[-1].output[0], {"activation": kind}
    products = tuple(net.makers[name] for name in values)
    weights = [side for name in values if (side := _side(net, name, old)) is not None]
    if len(weights) < 2 or products[0].input[0] != products[1].input[0]:
        return (Step("Gated", tuple(map(Slot, values)), made, old, last=False, attributes=how),)
    both = constant(f"{made}_weights", np.concatenate(weights, 1))
    inputs = (Slot(products[0].input[0]), both)
    matmul = Step("MatMul", inputs, f"{made}_both", products, last=False, domain="")
    return matmul, Step("Gated", (Slot(matmul.output),), made, old, last=False, attributes=how)


def _side(net: Net, name: str, old: tuple[NodeProto, ...]) -> Array | None:
    """The weights of a product that nobody else reads, and that are here."""
    known = _weight(net, name)
    alone = name not in net.fixed and all(any(each is one for one in old) for each in net.readers[name])
    maker = net.makers[name]
    return net.table(maker.input[1]) if known is not None and alone and not _apart(known) else None


def _apart(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL
