"""Scale: a constant per channel that a matrix product's result is multiplied with, as part of its weights and bias.

ConvNeXt's and CaiT's layer scale, behind a change of layout; onnxruntime does as much for convolutions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Scaled
from ampgraph.onnx_model.fuse.view import Shape

SMALLEST = 2.0**-10  # root mean square of a scale: weights are some 0.01, and float16 loses digits below 6e-5


@dataclass(frozen=True)
class _Product:
    """A scaled product: the product, the sum with its bias and the change of layout, where there are any."""

    scale: str
    matmul: NodeProto
    sum_: NodeProto | None
    turned: NodeProto | None
    bias: str = ""


def fuse_scale(net: Net) -> Fusion:
    """Every product that is scaled, and read by nobody else before that."""
    nodes: list[NodeProto] = []
    removed: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    recipes: dict[str, Scaled] = {}
    count = 0
    shapes: dict[str, Shape] = {}
    for each in net.graph.node:
        found = _found(net, each) if each.op_type == "Mul" and each.domain == "" else None
        if found is None:
            continue
        weights = []
        for source in filter(None, (found.matmul.input[1], found.bias)):
            weights.append(fresh(net, f"{source}_scaled_for_{each.output[0]}", recipes))
            recipes[weights[-1]] = Scaled(source, found.scale)
            dims = net.constants[source].dims
            constants[weights[-1]] = TensorProto(name=weights[-1], data_type=TensorProto.FLOAT, dims=dims)
        made_nodes = _scaled(net, each, found, weights)
        shapes |= _shapes(net, each, found, made_nodes)
        nodes += made_nodes
        count += 1
        removed += [made for made in (found.matmul, found.sum_, found.turned, each) if made is not None]
    made_of = tuple(constants.values())
    kinds = {"scale in the weights": count} if count else {}
    return Fusion(tuple(nodes), {}, tuple(removed), made_of, recipes, shapes, kinds)


def _found(net: Net, mul: NodeProto) -> _Product | None:
    scale = next((name for name in mul.input if name in net.constants), "")
    value = next((name for name in mul.input if name != scale), "")
    shape = net.shapes.get(mul.output[0])
    if not scale or not shape or not net.is_own_float(scale) or net.shapes.get(value) != shape:
        return None
    if not _is_held(net, scale):
        return None
    dims = net.constants[scale].dims
    aligned = (1,) * (len(shape) - len(dims)) + tuple(dims)
    axis = next((index for index, size in enumerate(aligned) if size != 1), len(shape) - 1)
    if aligned != tuple(size if index == axis else 1 for index, size in enumerate(shape)):
        return None
    turned = net.maker(value, "Transpose") if net.sole_reader(value, "Mul") else None
    if turned is not None:
        order = plain_attributes(turned).get("perm")
        value, axis = turned.input[0], int(order[axis]) if isinstance(order, tuple) else -1
    return _product(net, value, scale, turned) if axis == len(shape) - 1 else None


def _is_held(net: Net, scale: str) -> bool:
    """Whether what counts in scaled weights keeps its digits in float16: ConvNeXt starts its training at 1e-6."""
    values = net.table(scale)
    return values is not None and bool(np.sqrt(np.mean(np.square(values, dtype=np.float64))) >= SMALLEST)


def _product(net: Net, value: str, scale: str, turned: NodeProto | None) -> _Product | None:
    readers, width = ("Transpose",) if turned is not None else ("Mul",), net.width(value)
    sum_, bias = net.maker(value, "Add"), ""
    if net.sole_reader(value, *readers) is None:
        return None
    if sum_ is not None:
        bias = next((name for name in sum_.input if net.is_vector(name, width) and net.is_own_float(name)), "")
        value, readers = next((name for name in sum_.input if name != bias), ""), ("Add",)
        if not bias or net.sole_reader(value, *readers) is None:
            return None
    matmul = net.maker(value, "MatMul")
    if matmul is None or len(getattr(net.constants.get(matmul.input[1]), "dims", ())) != 2:
        return None
    return _Product(scale, matmul, sum_, turned, bias) if net.is_own_float(matmul.input[1]) else None


def _scaled(net: Net, mul: NodeProto, found: _Product, weights: list[str]) -> list[NodeProto]:
    """The nodes again, with other weights; the last makes the scaled value."""
    plan: list[tuple[str, list[str], dict[str, Any]]] = [("MatMul", [found.matmul.input[0], weights[0]], {})]
    if found.sum_ is not None:
        plan.append(("Add", ["", weights[1]], {}))
    if found.turned is not None:
        plan.append(("Transpose", [""], {"perm": plain_attributes(found.turned)["perm"]}))
    nodes, last = [], ""
    for step, (op, inputs, attributes) in enumerate(plan):
        is_last = step == len(plan) - 1
        name = mul.output[0] if is_last else fresh(net, f"{mul.output[0]}_{op.lower()}")
        nodes.append(node(op, [each or last for each in inputs], [name], **attributes))
        last = name
    with_origin(nodes[0], [found.matmul, mul])
    return nodes


def _shapes(net: Net, mul: NodeProto, found: _Product, nodes: list[NodeProto]) -> dict[str, Shape]:
    """What the new nodes make has the shapes of what the old ones made."""
    product = net.shapes[found.matmul.output[0]]
    return {each.output[0]: product for each in nodes[:-1]} | {mul.output[0]: net.shapes[mul.output[0]]}
