"""GELU: x * (1 + erf(x / sqrt 2)) / 2 as one operator, and with the bias before it as onnxruntime's BiasGelu."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, node, with_origin

_CLOSE = 1e-4
_HALF = ""  # as a factor; no value bears that name


def fuse_gelu(net: Net) -> Fusion:
    """Every erf that is part of a GELU."""
    found = [
        pair for each in net.graph.node if each.op_type == "Erf" and not each.domain for pair in _from_erf(net, each)
    ]
    return Fusion(tuple(new for new, _ in found), removed=tuple(old for _, removed in found for old in removed))


def fuse_bias_gelu(net: Net) -> Fusion:
    """Every exact GELU of a sum with a constant row."""
    found = []
    for each in net.graph.node:
        exact = each.op_type == "Gelu" and plain_attributes(each).get("approximate", "none") in ("none", b"none")
        sum_ = net.maker(each.input[0], "Add") if exact else None
        if sum_ is None or (net.sole_reader(sum_.output[0], each.op_type) is None and each.domain != CONTRIB):
            continue
        bias = next((name for name in sum_.input if net.is_vector(name, net.width(each.output[0]))), "")
        value = next((name for name in sum_.input if name != bias), "")
        if bias and net.shapes.get(value) == net.shapes.get(each.output[0]) and _alone(net, sum_):
            new = node("BiasGelu", [value, bias], each.output, CONTRIB)
            found.append((with_origin(new, [sum_, each]), (sum_, each)))
    return Fusion(tuple(new for new, _ in found), removed=tuple(old for _, removed in found for old in removed))


def _alone(net: Net, each: NodeProto) -> bool:
    return each.output[0] not in net.fixed and len(net.readers.get(each.output[0], ())) == 1


def _from_erf(net: Net, erf: NodeProto) -> Iterator[tuple[NodeProto, tuple[NodeProto, ...]]]:
    value = _under_root_two(net, erf.input[0])
    plus = net.sole_reader(erf.output[0], "Add")
    if not value or plus is None or not any(net.scalar(name) == 1.0 for name in plus.input):
        return
    removed, last, factors = [erf, plus], plus, {value: 1, _HALF: 1}
    for _ in range(2):
        times = net.sole_reader(last.output[0], "Mul")
        if times is None:
            return
        other = next((name for name in times.input if name != last.output[0]), "")
        for factor in _factors(net, other, value):
            factors[factor] = factors.get(factor, 0) - 1
        removed.append(times)
        last = times
        if not any(factors.values()) and net.shapes.get(value) == net.shapes.get(last.output[0]):
            new = node("Gelu", [value], last.output, CONTRIB)
            yield with_origin(new, removed), tuple(removed)
            return


def _factors(net: Net, name: str, value: str) -> list[str]:
    """What a factor stands for: the value, one half, or both."""
    if name == value:
        return [value]
    if net.scalar(name) == 0.5:
        return [_HALF]
    made = net.maker(name, "Mul")
    if made is not None and value in made.input and any(net.scalar(each) == 0.5 for each in made.input):
        return [value, _HALF]
    return [name]


def _under_root_two(net: Net, name: str) -> str:
    """The value that `name` is divided by the square root of two, "" where it is no such thing."""
    made = net.maker(name, "Div", "Mul")
    if made is None:
        return ""
    readings = (tuple(made.input), tuple(reversed(made.input)))
    for value, number in readings[:1] if made.op_type == "Div" else readings:
        found = net.scalar(number)
        wanted = math.sqrt(2) if made.op_type == "Div" else math.sqrt(0.5)
        if found is not None and abs(found - wanted) < _CLOSE:
            return str(value)
    return ""
