"""Roundings: how constants that a plan lowers become low, beyond to the nearest.

Weights of convolutions keep what their filters make of an image's mean (filters.py). Small constants of which every
element moves a whole channel keep their rests (rests.py): numbers by channel, depthwise convolutions, and convolutions
of images of one pixel, with their biases. Our kernels read the rests of both or of neither of a convolution's weights
and bias: weights are rounded so that they make up for what a bias loses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from ampgraph.graph import Op, PrecisionGraph
from ampgraph.neighbours import is_by_channel, only_reader, other_operand
from ampgraph.onnx_model.rounding.expected import Expected, expected_inputs
from ampgraph.onnx_model.rounding.filters import Filters, filters_of
from ampgraph.onnx_model.rounding.tables import Tables, tables
from ampgraph.onnx_model.tensors import round_to
from ampgraph.plan import Plan
from ampgraph.precision import Precision

_LARGEST_REST = 1 << 20  # elements
_IMAGE_RANK = 3


@dataclass(frozen=True)
class Roundings:
    """By a constant's value id. `rests`: of those that keep one."""

    filters: Mapping[str, Filters] = field(default_factory=dict)
    rests: frozenset[str] = frozenset()


def roundings(model: ModelProto, graph: PrecisionGraph, plan: Plan, folder: Path, *, rests: bool = True) -> Roundings:
    """What the plan's low constants want. Reads the weights of all convolutions where one is lowered."""
    convs = [op for op in graph.ops.values() if op.type == "Conv"]
    lowered = {_weight(op) for op in convs if _is_lowered(graph, plan, _weight(op))}
    alone = {id for id in lowered if all(_reads_weight(graph, use.op, use.slot) for use in graph.uses_of[id])}
    if not lowered:
        return Roundings()
    data = tables(model, folder)
    expected = expected_inputs(graph, data)
    filters = {}
    for op in convs:
        if _weight(op) in alone:
            how = _filters(op, graph, plan, data, expected.get(op.id))
            if how is not None:
                filters[_weight(op)] = how
    kept = _with_rests(graph, plan, convs) if rests and plan.precision is Precision.FLOAT16 else ()
    return Roundings(filters, frozenset(kept))


def _weight(conv: Op) -> str:
    return conv.inputs[1].value


def _reads_weight(graph: PrecisionGraph, op: str, slot: int) -> bool:
    return op in graph.ops and (graph.ops[op].type, slot) == ("Conv", 1)


def _is_lowered(graph: PrecisionGraph, plan: Plan, id: str) -> bool:
    value = graph.values.get(id)
    is_constant = value is not None and value.constant is not None and value.dtype == Precision.FLOAT32
    return is_constant and plan.precision in plan.parameters.get(id, ())


def _filters(op: Op, graph: PrecisionGraph, plan: Plan, data: Tables, expected: Expected | None) -> Filters | None:
    """Of a convolution's weights; of those that several read, or in bodies, as if nothing were known."""
    shape = graph.values[_weight(op)].shape or ()
    readers = len(graph.uses_of[_weight(op)])
    group = int(op.attributes.get("group", 1))  # type: ignore[arg-type]
    if expected is None or readers > 1 or not data.sizes(_weight(op)) or expected.mean.size != group * shape[1]:
        return filters_of(shape)  # the last: channels that are free, modelled as many as they cannot be, or padded
    return filters_of(shape, group, expected.mean, expected.spread, _shift(op, graph, plan, data, shape[0]))


def _shift(op: Op, graph: PrecisionGraph, plan: Plan, data: Tables, count: int) -> npt.NDArray[np.float64]:
    """What rounding the bias adds to each result."""
    bias = _bias(op, graph)
    exact = data.table(bias) if _is_lowered(graph, plan, bias) else None
    if exact is None or exact.size not in (1, count):
        return np.zeros(count)
    wide = exact.reshape(-1).astype(np.float32)
    return np.broadcast_to(round_to(wide, plan.precision).astype(np.float64) - wide, count)


def _bias(op: Op, graph: PrecisionGraph) -> str:
    """The constant that is added to a convolution's results, inside or by a sum after it; "" where there is none."""
    if len(op.inputs) > 2 and op.inputs[2].value:
        return op.inputs[2].value
    made = op.outputs[0].value
    after = only_reader(made, graph, "Add")
    other = other_operand(after, made) if after is not None else ""
    return other if is_by_channel(other, made, graph) else ""


def _with_rests(graph: PrecisionGraph, plan: Plan, convs: list[Op]) -> Iterator[str]:
    """Constants that keep a rest, among those that are lowered; no bias that weights make up for in our kernels."""
    exact = [op for op in convs if _moves_channels(op, graph)]
    wanted = {id for op in exact for id in (_weight(op), _bias(op, graph))}
    dense = {_bias(op, graph) for op in convs} - wanted
    wanted |= {id for op in graph.ops.values() if op.type in ("Add", "Mul") for id in _numbers(op, graph)}
    for id in wanted - dense:
        if _is_lowered(graph, plan, id) and (graph.values[id].elements or 0) <= _LARGEST_REST:
            yield id


def _numbers(op: Op, graph: PrecisionGraph) -> Iterator[str]:
    """The constants that an elementwise operator takes beside an image, by channel."""
    one, other = (slot.value for slot in op.inputs)
    for constant, image in ((one, other), (other, one)):
        shape = graph.values[image].shape
        if shape is not None and len(shape) >= _IMAGE_RANK and is_by_channel(constant, image, graph):
            yield constant


def _moves_channels(op: Op, graph: PrecisionGraph) -> bool:
    """Whether a convolution is depthwise, or of images of one pixel."""
    weight, image = graph.values[_weight(op)].shape, graph.values[op.inputs[0].value].shape
    if weight is None or len(weight) < _IMAGE_RANK:
        return False
    depthwise = weight[1] == 1 and prod(weight[2:]) > 1 and op.attributes.get("group", 1) != 1
    return depthwise or (image is not None and prod(image[2:]) == 1 and prod(weight[2:]) == 1)
