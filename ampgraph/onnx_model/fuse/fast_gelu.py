"""Fast GELU: x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2 as one operator, however it is spelt.

What is around a tanh is not compared with spellings but computed, on numbers, as a function of one value (Hendrycks and
Gimpel, Gaussian Error Linear Units, 2016). Left alone, its third power would be in float32, between two casts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Fusion, Net, node, with_origin

_POINTS = np.linspace(-6, 6, 97)
_CLOSE = 1e-5  # of what numbers around 1 are in float32, a few roundings
_FURTHEST = 8  # operators between the value and its tanh
_AFTER = 3  # operators from the tanh on: plus one, times the half, times the value
_COMPUTED: Mapping[str, Callable[..., Array]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Pow": np.power,
    "Neg": np.negative,
    "Tanh": np.tanh,
}


def fuse_fast_gelu(net: Net) -> Fusion:
    """Every tanh that is part of a GELU."""
    found = [pair for each in net.graph.node if each.op_type == "Tanh" and not each.domain for pair in _gelu(net, each)]
    return Fusion(tuple(new for new, _ in found), removed=tuple(old for _, removed in found for old in removed))


def _gelu(net: Net, tanh: NodeProto) -> Iterator[tuple[NodeProto, tuple[NodeProto, ...]]]:
    """The operator for the first result that is the function of a value before the tanh, and what it stands for."""
    values = _before(net, tanh)
    for last in _after(net, tanh):
        for value in values:
            nodes: dict[int, NodeProto] = {}
            made = _as_function(net, last.output[0], value, nodes)
            shape = net.shapes.get(value)  # the kernel takes no number without an axis
            if shape and shape == net.shapes.get(last.output[0]) and made is not None and _is_gelu(made):
                parts = tuple(nodes.values())
                yield with_origin(node("FastGelu", [value], last.output, CONTRIB), parts), parts
                return


def _is_gelu(made: Array) -> bool:
    inner = np.sqrt(2 / np.pi) * (_POINTS + 0.044715 * _POINTS**3)
    return bool(np.allclose(made, _POINTS * (1 + np.tanh(inner)) / 2, rtol=_CLOSE, atol=_CLOSE))


def _after(net: Net, tanh: NodeProto) -> Iterator[NodeProto]:
    """The operators that follow, as far as nobody else reads what is between."""
    last: NodeProto | None = tanh
    for _ in range(_AFTER):
        last = net.sole_reader(last.output[0], *_COMPUTED) if last is not None else None
        if last is not None:
            yield last


def _before(net: Net, tanh: NodeProto) -> list[str]:
    """Values that a tanh may be a function of, nearest first."""
    found, waiting = dict[str, None](), [tanh.input[0]]
    for _ in range(_FURTHEST):
        for name in waiting:
            found.setdefault(name)
        makers = [net.maker(name, *_COMPUTED) for name in waiting]
        names = [name for made in makers if made is not None for name in made.input]
        waiting = [name for name in names if net.scalar(name) is None and name not in net.constants]
    return list(found)


def _as_function(net: Net, name: str, value: str, nodes: dict[int, NodeProto]) -> Array | None:
    """A result at the points, as a function of a value and of constant numbers alone; enters the nodes that make it."""
    if name == value:
        return _POINTS
    number = net.scalar(name)
    if number is not None:
        return np.array(number)
    made = net.maker(name, *_COMPUTED)
    if made is None or len(nodes) > _FURTHEST + _AFTER:
        return None
    nodes[id(made)] = made
    parts = [part for each in made.input if (part := _as_function(net, each, value, nodes)) is not None]
    with np.errstate(all="ignore"):
        return _COMPUTED[made.op_type](*parts) if len(parts) == len(made.input) else None
