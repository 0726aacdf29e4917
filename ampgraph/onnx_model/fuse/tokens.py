"""Tokens: how many a projection has, asked of the earliest value that has as many.

A shape that is asked of the projection itself keeps it in the graph beside a kernel that multiplies on its own; the
earliest value is one for all layers, as is then what is made of its size.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.rows import Draft

_ROW_BY_ROW = frozenset(("LayerNormalization", "Erf", "Gelu", "Relu", "Sigmoid", "Tanh", "Identity", "Cast"))
_OF_TWO = frozenset(("Add", "Div", "Mul", "Pow", "Sub"))


def tokens_of(draft: Draft, base: str) -> tuple[str, int]:
    """The earliest value with the tokens of a base (batch, tokens, width), and its axis of them."""
    order = {name: place for place, each in enumerate(draft.net.graph.node) for name in each.output}
    found, waiting, seen = (base, 1), [(base, 1)], {base}
    while waiting:
        name, axis = waiting.pop()
        if name not in draft.made and (found[0] in draft.made or order.get(name, -1) < order.get(found[0], -1)):
            found = (name, axis)
        before = [(each, 1 - axis if draft.swapped_of(name) else axis) for each in _before(draft, name)]
        waiting += [each for each in before if each[0] not in seen]
        seen.update(each for each, _ in before)
    return found


def _before(draft: Draft, name: str) -> Iterator[str]:
    """What a value is made of that has its first two axes."""
    made, net = draft.maker(name), draft.net
    if made is None or (made.domain not in ("", "ai.onnx") and name not in draft.made):
        return
    if draft.swapped_of(name) or made.op_type in _ROW_BY_ROW or _is_linear(draft, name, made):
        yield made.input[0]
    elif made.op_type in _OF_TWO:
        yield from (each for each in made.input if _is_alike(draft, each, name, made))
    elif made.op_type == "Gather" and not plain_attributes(made).get("axis", 0):
        yield from (each for each in made.input[1:] if len(net.shapes.get(each, ())) == 2)


def _is_linear(draft: Draft, name: str, made: NodeProto) -> bool:
    """Whether rows of three axes are multiplied by a constant."""
    weight = draft.net.constants.get(made.input[1]) if made.op_type in ("MatMul", "FusedMatMul") else None
    shape = draft.shapes.get(name) or draft.net.shapes.get(name, ())
    return weight is not None and len(weight.dims) == 2 and len(shape) == 3


def _is_alike(draft: Draft, operand: str, result: str, made: NodeProto) -> bool:
    """Whether an operand of two has the result's first axes: beside a row it must, beside others where it is seen."""
    net = draft.net
    other = next((each for each in made.input if each != operand), operand)
    if operand in net.constants:
        return False
    if other in net.constants and len(net.constants[other].dims) < 2:
        return True
    return net.are_alike(operand, result)
