"""The operators that shape arithmetic is written in, computed on small arrays as ONNX defines them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]

LARGEST = 4096  # elements of a shape, a list of axes, positions or the like

Compute = Callable[[list[Any], Attributes], Any]


def _axes(operands: list[Any], attributes: Attributes, slot: int = 1) -> tuple[int, ...] | None:
    """Axes as an input, or before opset 13 an attribute."""
    given = operands[slot] if len(operands) > slot and operands[slot] is not None else attributes.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _cast(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    return operands[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))


def _divide(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    first, second = operands
    if first.dtype.kind == "f":
        return first / second
    return np.trunc(first / second).astype(first.dtype) if np.all(second) else None  # ONNX truncates


def _power(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    """Of floats, as scales of attention are: numpy has no whole numbers to negative powers."""
    base, exponent = operands
    is_float = base.dtype.kind == "f" and _is_small(np.broadcast_shapes(base.shape, exponent.shape))
    return np.power(base, exponent).astype(base.dtype) if is_float else None


def _slice(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    data = operands[0]
    given = [*operands[1:], *[None] * (5 - len(operands))]
    starts = attributes["starts"] if given[0] is None else given[0]
    ends = attributes["ends"] if given[1] is None else given[1]
    axes = _axes([given[2]], attributes, 0) or tuple(range(len(starts)))
    steps = [1] * len(starts) if given[3] is None else given[3]
    selected = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        stop = None if step < 0 and end < -data.shape[axis] else int(end)
        selected[axis] = slice(int(start), stop, int(step))
    return data[tuple(selected)]


def _reshape(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    data, wanted = operands
    if not attributes.get("allowzero"):
        wanted = [data.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    return data.reshape(tuple(int(size) for size in wanted))


def _unsqueeze(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    return np.expand_dims(operands[0], _axes(operands, attributes) or ())


def _over_axes(function: Callable[..., Any]) -> Compute:
    def compute(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
        axes = _axes(operands, attributes)
        if not axes and attributes.get("noop_with_empty_axes"):
            return operands[0]
        kept = function(operands[0], axis=axes or None, keepdims=bool(attributes.get("keepdims", 1)))
        return np.asarray(kept).astype(operands[0].dtype)

    return compute


def _elementwise(function: Callable[..., Any]) -> Compute:
    def compute(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
        return function(*operands) if _is_small(np.broadcast_shapes(*(part.shape for part in operands))) else None

    return compute


def _is_small(shape: Sequence[int]) -> bool:
    return math.prod(int(size) for size in shape) <= LARGEST


def _fill(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    value = numpy_helper.to_array(attributes["value"])[0] if "value" in attributes else np.float32(0)
    return np.full(tuple(operands[0]), value) if _is_small(operands[0]) else None


def _expand(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    data, wanted = operands
    shape = np.broadcast_shapes(data.shape, tuple(int(size) for size in wanted))
    return np.broadcast_to(data, shape) if _is_small(shape) else None


def _gather(operands: list[Any], attributes: Attributes) -> Any:  # noqa: ANN401
    data, indices = operands
    return np.take(data, indices, attributes.get("axis", 0)) if data.size * indices.size <= LARGEST**2 else None


def _range(operands: list[Any], _: Attributes) -> Any:  # noqa: ANN401
    start, limit, delta = (part.item() for part in operands)
    return (
        np.arange(start, limit, delta, dtype=operands[0].dtype) if abs(limit - start) <= LARGEST * abs(delta) else None
    )


def _chained(function: Callable[..., Any]) -> Compute:
    return lambda operands, _: reduce(function, operands) if len(operands) < LARGEST else None


OPERATORS: Mapping[str, Compute] = {
    "Abs": _elementwise(np.abs),
    "Add": _elementwise(np.add),
    "And": _elementwise(np.logical_and),
    "Cast": _cast,
    "CastLike": lambda operands, _: operands[0].astype(operands[1].dtype),
    "Ceil": _elementwise(np.ceil),
    "Concat": lambda operands, attributes: np.concatenate(operands, attributes["axis"]),
    "ConstantOfShape": _fill,
    "Div": _divide,
    "Equal": _elementwise(np.equal),
    "Expand": _expand,
    "Floor": _elementwise(np.floor),
    "Gather": _gather,
    "Greater": _elementwise(np.greater),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Identity": lambda operands, _: operands[0],
    "Less": _elementwise(np.less),
    "LessOrEqual": _elementwise(np.less_equal),
    "Max": _chained(np.maximum),
    "Min": _chained(np.minimum),
    "Mod": lambda operands, attributes: (np.fmod if attributes.get("fmod") else np.mod)(*operands),
    "Mul": _elementwise(np.multiply),
    "Neg": _elementwise(np.negative),
    "Not": _elementwise(np.logical_not),
    "Or": _elementwise(np.logical_or),
    "Pow": _power,
    "Range": _range,
    "ReduceMax": _over_axes(np.max),
    "ReduceMin": _over_axes(np.min),
    "ReduceProd": _over_axes(np.prod),
    "ReduceSum": _over_axes(np.sum),
    "Reshape": _reshape,
    "Round": _elementwise(np.round),
    "Slice": _slice,
    "Sqrt": _elementwise(np.sqrt),
    "Squeeze": lambda operands, attributes: np.squeeze(operands[0], _axes(operands, attributes)),
    "Sub": _elementwise(np.subtract),
    "Transpose": lambda operands, attributes: np.transpose(operands[0], attributes.get("perm")),
    "Unsqueeze": _unsqueeze,
    "Where": _elementwise(np.where),
}  # fmt: skip
