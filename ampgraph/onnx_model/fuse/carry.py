"""Carry: a constant row added before a matrix product as part of the one added after it.

Where attention is fused, values do without their bias until then: weights add up to one.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Carried


def fuse_carry(net: Net) -> Fusion:
    """Every sum with a row that goes into a product with constant weights and a bias, and nowhere else."""
    nodes: list[NodeProto] = []
    removed: list[NodeProto] = []
    recipes: dict[str, Carried] = {}
    constants: list[TensorProto] = []
    for each in net.graph.node:
        found = _found(net, each) if each.op_type == "MatMul" and each.domain == "" else None
        if found is None:
            continue
        before, row, after, bias = found
        value = next(operand for operand in before.input if operand != row)
        taken = any(old is before or old is after for old in removed)  # with the product before
        if taken or net.shapes.get(value) != net.shapes.get(before.output[0]):
            continue
        name = fresh(net, f"{bias}_with_{row}", recipes)
        recipes[name] = Carried(row, each.input[1], bias)
        constants.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=net.constants[bias].dims))
        product = node("MatMul", [value, each.input[1]], each.output)
        nodes += [with_origin(product, (before, each)), node("Add", [each.output[0], name], after.output)]
        removed += [before, each, after]
    return Fusion(tuple(nodes), removed=tuple(removed), constants=tuple(constants), merged=recipes)


def _found(net: Net, product: NodeProto) -> tuple[NodeProto, str, NodeProto, str] | None:
    """The sum before a product with its row, the sum after it with its bias."""
    before = net.maker(product.input[0], "Add") if net.sole_reader(product.input[0], "MatMul") is product else None
    after = net.sole_reader(product.output[0], "Add")
    weight = net.constants.get(product.input[1])
    if before is None or after is None or weight is None or len(weight.dims) != 2:
        return None
    rows, biases = ([name for name in sum_.input if name in net.constants] for sum_ in (before, after))
    depth, width = weight.dims
    if len(rows) != 1 or not net.is_vector(rows[0], depth) or len(biases) != 1 or not net.is_vector(biases[0], width):
        return None
    light = all(net.is_own_float(name) for name in (rows[0], product.input[1], biases[0]))
    return (before, rows[0], after, biases[0]) if light else None
