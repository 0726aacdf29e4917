"""Squeeze and excite: means of an image, two products with them, and gates that the image is multiplied by.

The image may be added to what it is then (PP-OCR's detection).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Array, Net
from ampgraph.onnx_model.native.conv import activation, slope_of
from ampgraph.onnx_model.native.step import Slot, Step, constant, image

_GATES = ("Sigmoid", "HardSigmoid")
_HIDDEN = ("", "Relu", "Silu")  # what the kernel knows between the products
_LARGEST = 4000  # channels and hidden units: they lie in shared memory as float32
_RANK = 4
_WITH_BIAS = 3  # inputs of a convolution


@dataclass(frozen=True)
class Excite:
    """The gates of `source`, as a step that reads its means, and the product with them.

    `conv`: the convolution that alone reads the product, where one does. `total`: its sum with the source, likewise.
    """

    step: Step
    source: str
    product: NodeProto
    conv: NodeProto | None
    total: NodeProto | None

    @property
    def means(self) -> str:
        """The means of parts of the image, which a depthwise convolution gives beside it."""
        return self.step.inputs[0].name

    @property
    def nodes(self) -> tuple[NodeProto, ...]:
        """All nodes that go."""
        return (*self.step.old, self.product, *([self.total] if self.total is not None else []))

    @property
    def scaled(self) -> Step:
        """The product, and the sum after it, as a step of its own."""
        last, old = self.nodes[-1], self.nodes[len(self.step.old) :]
        how = {"added": 1} if self.total is not None else {}
        return Step("Scaled", (image(self.source), Slot(self.step.output)), last.output[0], old, attributes=how)


def mean_at(net: Net, first: NodeProto) -> tuple[NodeProto, ...]:
    """The nodes of the mean of an image over its pixels that begins with this one, in float32 or not; else none."""
    nodes = [first]
    if first.op_type == "Cast":
        pool = net.sole_reader(first.output[0], "GlobalAveragePool", "ReduceMean")
        back = net.sole_reader(pool.output[0], "Cast") if pool is not None else None
        if pool is None or back is None or back.attribute[0].i != TensorProto.FLOAT16:
            return ()
        nodes += [pool, back]
    pool = nodes[len(nodes) // 2]
    return tuple(nodes) if pool.op_type == "GlobalAveragePool" or _is_of_pixels(net, pool) else ()


def _is_of_pixels(net: Net, reduction: NodeProto) -> bool:
    if reduction.op_type != "ReduceMean":
        return False
    how = plain_attributes(reduction)
    axes = net.values(reduction.input[1]) if len(reduction.input) > 1 else how.get("axes", ())
    given = [] if axes is None else [int(axis) % _RANK for axis in np.asarray(axes).reshape(-1)]
    return sorted(given) == [2, 3] and len(net.shapes.get(reduction.input[0], ())) == _RANK


def excite_at(net: Net, first: NodeProto) -> Excite | None:
    """The squeeze and excite that begins with this node, of a mean; None where it is something else."""
    source, pool = first.input[0], mean_at(net, first)
    readers = net.readers.get(source, ())
    products = [each for each in readers if each.op_type == "Mul" and not each.domain]
    if not pool or source in net.fixed or len(products) != 1:
        return None
    total = net.sole_reader(products[0].output[0], "Add")
    total = total if total is not None and {*total.input} == {source, products[0].output[0]} else None
    if len(readers) != (2 if total is None else 3):
        return None
    hidden, nodes = _gate(net, pool[-1], products[0])
    arrays = _weights(net, nodes) if nodes else None
    if arrays is None:
        return None
    step = _step(source, products[0].output[0], (*pool, *nodes), hidden, arrays)
    return Excite(step, source, products[0], net.sole_reader(products[0].output[0], "Conv"), total)


def _step(source: str, product: str, nodes: tuple[NodeProto, ...], hidden: str, arrays: tuple[Array, ...]) -> Step:
    gate = nodes[-1]
    how = {"gate": slope_of(gate) if gate.op_type == "HardSigmoid" else gate.op_type}
    how |= {"activation": hidden} if hidden else {}
    names = [f"{product}_{part}" for part in ("squeeze", "squeeze_bias", "excite", "excite_bias")]
    laid = [constant(name, each) for name, each in zip(names, arrays, strict=True)]
    return Step("Excite", (Slot(f"{source}_means"), *laid), f"{product}_gates", nodes, last=False, attributes=how)


def _gate(net: Net, pool: NodeProto, product: NodeProto) -> tuple[str, tuple[NodeProto, ...]]:
    """The activation between the small convolutions, and all up to the gates; empty where there are none."""
    first = net.sole_reader(pool.output[0], "Conv")
    if first is None:
        return "", ()
    nodes = [first, *_bias_after(net, first)]
    hidden, inner = activation(net, nodes[-1].output[0]) or ("", ())
    nodes += inner
    second = net.sole_reader(nodes[-1].output[0], "Conv")
    nodes += [second, *_bias_after(net, second)] if second is not None else []
    gate = net.sole_reader(nodes[-1].output[0], *_GATES) if second is not None else None
    if gate is None or hidden not in _HIDDEN or net.sole_reader(gate.output[0], "Mul") is not product:
        return "", ()
    if gate.op_type == "HardSigmoid" and not slope_of(gate):
        return "", ()
    return hidden, (*nodes, gate)


def _bias_after(net: Net, conv: NodeProto) -> tuple[NodeProto, ...]:
    """The sum with a bias that alone reads a convolution without one."""
    add = net.sole_reader(conv.output[0], "Add") if len(conv.input) < _WITH_BIAS else None
    return (add,) if add is not None and _bias_of(net, conv, (add,)) is not None else ()


def _bias_of(net: Net, conv: NodeProto, nodes: Collection[NodeProto]) -> Array | None:
    """What is added to a convolution's result, a number a channel: inside, or by a sum among `nodes`."""
    if len(conv.input) >= _WITH_BIAS:
        return net.exact(conv.input[2])
    add = next((each for each in nodes if each.op_type == "Add" and conv.output[0] in each.input), None)
    if add is None:
        return None
    name = next((each for each in add.input if each != conv.output[0]), "")
    shaped = net.maker(name, "Reshape")
    table = net.exact(shaped.input[0] if shaped is not None else name)
    wanted = (net.constants[conv.input[1]].dims[0], 1, 1) if conv.input[1] in net.constants else ()
    return table.reshape(-1) if table is not None and net.shapes.get(name, table.shape)[-3:] == wanted else None


def _weights(net: Net, nodes: tuple[NodeProto, ...]) -> tuple[Array, ...] | None:
    """Of both products, the second's transposed, and biases, all float32; None where a weight is no float16."""
    found: list[Array] = []
    for place, conv in enumerate(each for each in nodes if each.op_type == "Conv"):
        known = net.constants.get(conv.input[1])
        weight = net.exact(conv.input[1]) if known is not None and known.data_type == TensorProto.FLOAT16 else None
        if weight is None or weight.ndim != _RANK or weight.shape[2:] != (1, 1):
            return None
        bias = _bias_of(net, conv, nodes)
        flat = weight[:, :, 0, 0]
        found += [np.ascontiguousarray(flat.T if place else flat)]
        found += [np.zeros(weight.shape[0], np.float32) if bias is None else bias.astype(np.float32)]
    fits = found[0].shape == found[2].shape and sum(found[0].shape) <= _LARGEST and found[0].shape[1] % 8 == 0
    return tuple(found) if fits else None
