"""Products of rows and weights, alone or with what follows them: a bias, and an activation or a residual.

A residual is rows, or an image.

onnxruntime's BiasGelu reads and writes all hidden units once more, and so does every sum after a product. On one H200,
Swin-T at batch 32, the biases of queries take 0.11 of 3.0 ms. A product alone is cuBLAS's in any case, but onnxruntime
takes its first proposal, and weights as they lie in the file: 1,500 x 3,072 by 768 takes 15.9 us so and 13.0 by the
second, 2,048 x 1,024 by 5,632 40.2 and 35.5 with each column's weights side by side.

Where rows are known to be few, only those with a bias gain, by a launch less. On one H200, microseconds a layer,
onnxruntime's and ours (benchmarks/native_ops.py): alone, 3,072 x 768 by 2,304 22.6 and 20.6, 384 x 768 by 2,304 6.6 and
6.4, but 384 x 768 by 768 both 4.5, 49 x 3,072 by 768 8.0 and 8.5; with GELU 1,500 x 768 by 3,072 21.8 and 20.2; with a
bias 3,072 x 768 by 768 13.7 and 9.6, 784 x 192 by 576 5.6 and 3.7, 49 x 768 by 2,304 7.1 and 5.3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Net
from ampgraph.onnx_model.native.attention import ENOUGH
from ampgraph.onnx_model.native.conv import VECTOR, activation, alike
from ampgraph.onnx_model.native.step import DOMAIN, NOTHING, Slot, Step, constant, image

FIRST = (0, 3, 1, 2)
_TILE = 64  # rows, and a quarter of the columns


def linear_step(net: Net, product: NodeProto, taken: Collection[int] = ()) -> Step | None:
    """A product with float16 weights that a kernel of ours computes with what follows it; None for others.

    `taken`: ids of nodes that go with others.
    """
    weight = _weight(net, product)
    if weight is None:
        return None
    always = (_with_rows, _with_residual, _with_activation, _with_sums, _with_bias)
    for way in always if _is_of_few(net, product) else (_with_gelu, *always):
        step = way(net, product, weight)
        if step is not None and not any(id(each) in taken for each in step.old):
            return step
    return None


def products_alone(net: Net, steps: Mapping[str, Step]) -> dict[str, Step]:
    """The products that no step stands for, and those that steps made, by what they make."""
    taken = {id(old) for step in steps.values() for old in step.old}
    found = {
        name: _turned(step) for name, step in steps.items() if step.op == "MatMul" and step.inputs[1].array is not None
    }
    for each in net.graph.node:
        left = each.op_type != "MatMul" or id(each) in taken or _is_of_few(net, each)
        weight = None if left else _weight(net, each)
        if weight is not None:
            inputs = (Slot(each.input[0]), constant(each.input[1], weight))
            found[each.output[0]] = _turned(Step("MatMul", inputs, each.output[0], (each,), last=False))
    return found


def _is_of_few(net: Net, product: NodeProto) -> bool:
    """Whether a product is known to be of few rows."""
    shape = net.shapes.get(product.output[0])
    return shape is not None and prod(shape) < ENOUGH


def _turned(product: Step) -> Step:
    """As our operator, whose weights lie the other way."""
    x, weight = product.inputs
    assert weight.array is not None
    return replace(product, op="Linear", inputs=(x, constant(weight.name, turned(weight.array))), domain=DOMAIN)


def turned(weight: Array) -> Array:
    """The transpose, laid out anew; in tiles, six times as fast as numpy's own where a matrix is large."""
    made = np.empty(weight.shape[::-1], weight.dtype)
    for row in range(0, weight.shape[0], _TILE):
        for column in range(0, weight.shape[1], 4 * _TILE):
            tile = weight[row : row + _TILE, column : column + 4 * _TILE]
            made[column : column + 4 * _TILE, row : row + _TILE] = tile.T
    return made


def _weight(net: Net, product: NodeProto) -> Array | None:
    known = net.constants.get(product.input[1])
    if known is None or known.data_type != TensorProto.FLOAT16 or known.data_location == TensorProto.EXTERNAL:
        return None
    whole = len(known.dims) == 2 and not any(size % VECTOR for size in known.dims)
    return net.table(product.input[1]) if whole else None


def _step(net: Net, nodes: tuple[NodeProto, ...], weight: Array, bias: str, how: dict[str, str]) -> Step | None:
    row = net.table(bias) if bias in net.constants else None
    if row is None or row.size != weight.shape[1] or row.dtype != np.float16:
        return None
    product = nodes[0]
    laid = constant(product.input[1], turned(weight))
    inputs = (Slot(product.input[0]), laid, constant(bias, row.reshape(-1)))
    return Step("Linear", inputs, nodes[-1].output[0], nodes, last=False, attributes=how)


def _with_gelu(net: Net, product: NodeProto, weight: Array) -> Step | None:
    gelu = _contrib_reader(net, product.output[0], "BiasGelu")
    return _step(net, (product, gelu), weight, gelu.input[1], {"activation": "Gelu"}) if gelu is not None else None


def _with_rows(net: Net, product: NodeProto, weight: Array) -> Step | None:
    """With a bias and rows alike, in onnxruntime's BiasAdd."""
    add = _contrib_reader(net, product.output[0], "BiasAdd")
    step = _step(net, (product, add), weight, add.input[1], {}) if add is not None else None
    if add is None or step is None or not alike(net, product.output[0], add.input[2]):
        return None
    return replace(step, inputs=(*step.inputs, Slot(add.input[2])))


def _contrib_reader(net: Net, name: str, kind: str) -> NodeProto | None:
    """The only node that reads a value nobody else needs, if it is this operator of onnxruntime's, value first."""
    readers = net.readers.get(name, ())
    if name in net.fixed or len(readers) != 1 or list(readers[0].input).count(name) != 1:
        return None
    return readers[0] if (readers[0].domain, readers[0].op_type, readers[0].input[0]) == (CONTRIB, kind, name) else None


def _with_residual(net: Net, product: NodeProto, weight: Array) -> Step | None:
    """Of an image with channels last: its bias, a change of layout, and a sum with an image alike."""
    add = net.sole_reader(product.output[0], "Add")
    change = net.sole_reader(add.output[0], "Transpose") if add is not None else None
    if add is None or change is None or tuple(plain_attributes(change).get("perm", ())) != FIRST:  # type: ignore[arg-type]
        return None
    total = net.sole_reader(change.output[0], "Add")
    if total is None:
        return None
    bias = add.input[1] if add.input[0] == product.output[0] else add.input[0]
    other = total.input[1] if total.input[0] == change.output[0] else total.input[0]
    step = _step(net, (product, add, change, total), weight, bias, {})
    if step is None or other in net.constants or not alike(net, change.output[0], other):
        return None
    return Step("Linear", (*step.inputs, image(other) if other else NOTHING), step.output, step.old)


def _with_activation(net: Net, product: NodeProto, weight: Array) -> Step | None:
    """With a bias, and the activation that alone reads it."""
    plain = _with_bias(net, product, weight)
    found = activation(net, plain.output) if plain is not None else None
    if plain is None or found is None:
        return None
    kind, nodes = found
    return replace(plain, output=nodes[-1].output[0], old=(*plain.old, *nodes), attributes={"activation": kind})


def _with_sums(net: Net, product: NodeProto, weight: Array) -> Step | None:
    """With a bias, and rows alike."""
    plain = _with_bias(net, product, weight)
    total = net.sole_reader(plain.output, "Add") if plain is not None else None
    if plain is None or total is None:
        return None
    other = total.input[1] if total.input[0] == plain.output else total.input[0]
    if other in net.constants or not alike(net, plain.output, other):
        return None
    return replace(plain, inputs=(*plain.inputs, Slot(other)), output=total.output[0], old=(*plain.old, total))


def _with_bias(net: Net, product: NodeProto, weight: Array) -> Step | None:
    """With a bias alone."""
    add = net.sole_reader(product.output[0], "Add")
    if add is None:
        return None
    bias = add.input[1] if add.input[0] == product.output[0] else add.input[0]
    return _step(net, (product, add), weight, bias, {}) if net.is_vector(bias, weight.shape[1]) else None
