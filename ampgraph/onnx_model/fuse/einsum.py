"""Einsum: one that multiplies matrices, batch by batch, as a matrix product between transposes, where patterns see it.

A constant number that an operand alone is multiplied by goes behind the product.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.view import Shape

_TWO = re.compile(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)")


@dataclass(frozen=True)
class _Product:
    """How the operands are transposed for a product, and how its result is."""

    left: Shape
    right: Shape
    result: Shape


def fuse_einsum(net: Net) -> Fusion:
    """Every Einsum of two operands of known shapes that is a product of matrices."""
    writing = _Writing(net)
    for each in net.graph.node:
        product = _product(each) if each.op_type == "Einsum" and not each.domain else None
        known = product is not None and all(name in net.shapes for name in (*each.input, *each.output))
        if product is not None and known and _fits(net, each, product):
            writing.add(each, product)
    return Fusion(tuple(writing.nodes), removed=tuple(writing.removed), shapes=writing.shapes)


def _product(each: NodeProto) -> _Product | None:
    equation = str(plain_attributes(each).get("equation", "")).replace(" ", "")
    found = _TWO.fullmatch(equation)
    if found is None:
        return None
    left, right, result = found.groups()
    if any(len(set(labels)) < len(labels) for labels in (left, right, result)):
        return None
    batch = [label for label in result if label in left and label in right]
    row, column = ([label for label in result if label not in other] for other in (right, left))
    inner = [label for label in left if label in right and label not in result]
    if not len(row) == len(column) == len(inner) == 1 or {*batch, *row, *column} != set(result):
        return None
    if {*left} != {*batch, *row, *inner} or {*right} != {*batch, *inner, *column}:
        return None
    made = [*batch, *row, *column]
    return _Product(
        tuple(map(left.index, [*batch, *row, *inner])),
        tuple(map(right.index, [*batch, *inner, *column])),
        tuple(map(made.index, result)),
    )


def _fits(net: Net, each: NodeProto, product: _Product) -> bool:
    """Whether the rows of one are as long as the columns of the other: onnxruntime's Einsum broadcasts a 1 there."""
    left, right = (net.shapes[name] for name in each.input)
    return left[product.left[-1]] == right[product.right[-2]]


@dataclass(frozen=True)
class _Writing:
    """The new nodes, what they stand for, and the shapes of new values. Grows."""

    net: Net
    nodes: list[NodeProto] = field(default_factory=list)
    removed: list[NodeProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def add(self, each: NodeProto, product: _Product) -> None:
        """The nodes that compute one."""
        old, operands, factors = [each], list[str](), list[str]()
        for name, order, side in zip(each.input, (product.left, product.right), ("left", "right"), strict=True):
            times, value, factor = _without_factor(self.net, name)
            old += times
            factors += [factor] if factor else []
            operands.append(self._transposed(value, order, f"{each.output[0]}_{side}"))
        name, shape = each.output[0], self.net.shapes[each.output[0]]
        turned = product.result != tuple(range(len(shape)))
        order = tuple(product.result.index(axis) for axis in range(len(shape)))
        made = [self._named(f"{name}_{place}", _permuted(shape, order)) for place in range(len(factors) + turned)]
        made.append(name)
        self.nodes.append(with_origin(node("MatMul", operands, made[:1]), old))
        for place, factor in enumerate(factors):
            self.nodes.append(node("Mul", [made[place], factor], [made[place + 1]]))
        if turned:
            self.nodes.append(node("Transpose", made[-2:-1], made[-1:], perm=product.result))
        self.removed.extend(old)

    def _transposed(self, name: str, order: Shape, wanted: str) -> str:
        if order == tuple(range(len(order))):
            return name
        made = self._named(wanted, _permuted(self.net.shapes[name], order))
        self.nodes.append(node("Transpose", [name], [made], perm=order))
        return made

    def _named(self, wanted: str, shape: Shape) -> str:
        name = fresh(self.net, wanted, self.shapes)
        self.shapes[name] = shape
        return name


def _permuted(shape: Shape, order: Shape) -> Shape:
    return tuple(shape[axis] for axis in order)


def _without_factor(net: Net, name: str) -> tuple[list[NodeProto], str, str]:
    """The product with a constant number that makes an operand for this alone, what it multiplies and that number."""
    times = net.maker(name, "Mul")
    if times is None or net.sole_reader(name, "Einsum") is None:
        return [], name, ""
    for value, factor in (times.input, reversed(times.input)):
        single = factor in net.constants and net.scalar(factor) is not None and not net.constants[factor].dims
        if single and net.shapes.get(value) == net.shapes[name]:
            return [times], value, factor
    return [], name, ""
