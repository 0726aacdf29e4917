"""Expected: what the channels of images hold, by mean and spread, from a model's numbers alone.

One pass in topological order. An input is taken for normal, of mean 0 and spread 1, as images are given to networks. A
channel is what functions of one element make of a normal variable, held at points from one end to the other, so that x
times a gate of x is as it is; where two variables meet they are taken for independent, and so are the channels that
a convolution adds up, of whose spread half is from pixel to pixel. What no rule knows is unknown, up to the next
normalization. In a trained network it is biases that make means: on PP-OCRv4's recognition those so found and those of
lines of text have a correlation of 0.75 to 0.93 in half of the convolutions (`python -m benchmarks.rounding_draws`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import numpy.typing as npt

from ampgraph.graph import Op, PrecisionGraph
from ampgraph.neighbours import is_by_channel
from ampgraph.onnx_model.rounding.elementwise import FUNCTIONS, PAIRS
from ampgraph.onnx_model.rounding.tables import Tables

Array = npt.NDArray[np.float64]

_POINTS = np.arange(-27, 28) / 6  # close by, for functions that bend at a point
_WEIGHTS = np.exp(-_POINTS * _POINTS / 2) / np.exp(-_POINTS * _POINTS / 2).sum()
_PIXELS = 0.5  # of an image's variance, the part that differs from pixel to pixel
_POOLED = 0.3  # of a spread, what differs from image to image
_BITS = 10  # of what is handed on, so that no machine's last digit decides
_NOTHING = 1e-6  # of a spread: a mean that is 0 but for rounding
_IMAGE_RANK = 3  # axes of an image, at least
_MOST_CHANNELS = 1 << 14  # more are no channels: time, or a vocabulary
_FLOATS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, eq=False)
class Expected:
    """Mean and spread of each channel of an image."""

    mean: Array
    spread: Array


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image: each channel at the points of a normal variable (C, points). `base` names the variable."""

    base: str
    at: Array

    @property
    def mean(self) -> Array:
        return np.asarray(self.at @ _WEIGHTS)

    @property
    def variance(self) -> Array:
        return np.asarray(np.square(self.at - self.mean[:, None]) @ _WEIGHTS)


@dataclass(frozen=True)
class _At:
    """An operator, what is seen of its inputs, and where to look for more."""

    op: Op
    args: Sequence[_Seen | None]
    graph: PrecisionGraph
    tables: Tables

    def id(self, slot: int) -> str:
        """The value in a slot; "" where there is none."""
        return self.op.inputs[slot].value if slot < len(self.op.inputs) else ""

    def rank(self, slot: int) -> int:
        """Axes of an operand, 0 where they are not known."""
        value = self.graph.values.get(self.id(slot))
        return len(value.shape) if value is not None and value.shape is not None else 0

    def normal(self, mean: Array, variance: Array) -> list[_Seen]:
        """A variable of its own."""
        return [_normal(self.op.id, mean, variance)]

    def by_channel(self, slot: int, image: int) -> Array | None:
        """The constant in a slot as numbers by channel (C or 1, 1) of the image in another; None where it is none."""
        table = self.tables.table(self.id(slot)) if is_by_channel(self.id(slot), self.id(image), self.graph) else None
        return None if table is None else table.reshape(-1, 1)

    def row(self, slot: int) -> Array | None:
        """The constant vector in a slot."""
        table = self.tables.table(self.id(slot))
        return table if table is not None and table.ndim == 1 else None


def _normal(base: str, mean: Array, variance: Array) -> _Seen:
    spread = np.sqrt(np.maximum(variance, 0))
    return _Seen(base, mean[:, None] + spread[:, None] * _POINTS)


def expected_inputs(graph: PrecisionGraph, tables: Tables) -> Mapping[str, Expected]:
    """By a Conv's op id, what the image that it reads is expected to hold; nothing where that is unknown.

    Reads the weights of all convolutions among `tables`, a part at a time.
    """
    seen = _inputs(graph)
    found: dict[str, Expected] = {}
    with np.errstate(all="ignore"):  # of numbers that are not finite: what they make is left out
        for op in graph.ops.values():
            args = [seen.get(slot.value) for slot in op.inputs]
            rule = _RULES.get(op.type)
            if rule is None or not any(args):
                continue
            if op.type == "Conv" and args[0] is not None:
                found[op.id] = _expected(args[0])
            for slot, each in zip(op.outputs, rule(_At(op, args, graph, tables)), strict=False):
                if each is not None and len(each.at) <= _MOST_CHANNELS and np.isfinite(each.at).all():
                    seen[slot.value] = each
    return found


def _inputs(graph: PrecisionGraph) -> dict[str, _Seen]:
    found = {}
    for value in graph.values.values():
        given = not (value.op or value.scope) and value.constant is None and value.dtype in _FLOATS
        is_image = given and value.shape is not None and len(value.shape) >= _IMAGE_RANK
        channels = value.shape[1] if is_image and value.shape is not None else 0
        if 0 < channels <= _MOST_CHANNELS:
            found[value.id] = _normal(value.id, np.zeros(channels), np.ones(channels))
    return found


def _expected(seen: _Seen) -> Expected:
    mean, spread = seen.mean, np.sqrt(seen.variance)
    return Expected(_coarse(np.where(np.abs(mean) < _NOTHING * spread, 0, mean)), _coarse(spread))


def _coarse(values: Array) -> Array:
    fraction, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(np.ldexp(fraction, _BITS)), exponent - _BITS))


_Found = Sequence[_Seen | None]
_Rule = Callable[[_At], _Found]


def _function(at: _At) -> _Found:
    (seen, *_) = at.args
    return [_Seen(seen.base, FUNCTIONS[at.op.type](seen.at, at.op.attributes))] if seen else []


def _clip(at: _At) -> _Found:
    seen, bounds = at.args[0], [_bound(at, 1, "min", -np.inf), _bound(at, 2, "max", np.inf)]
    if seen is None or None in bounds:
        return []
    least, most = (np.float64(bound) for bound in bounds if bound is not None)
    return [_Seen(seen.base, np.clip(seen.at, least, most))]


def _bound(at: _At, slot: int, name: str, usual: float) -> float | None:
    """What cuts off: an input, or an attribute before opset 11; None where it is no constant."""
    if not at.id(slot):
        return float(at.op.attributes.get(name, usual))  # type: ignore[arg-type]
    constant = at.graph.values[at.id(slot)].constant
    return constant.scalar if constant is not None else None


def _prelu(at: _At) -> _Found:
    seen = at.args[0]
    slope = at.by_channel(1, 0)
    return [_Seen(seen.base, np.where(seen.at < 0, slope * seen.at, seen.at))] if seen and slope is not None else []


def _pair(at: _At) -> _Found:
    """With a constant by channel, of one variable, or of two that are taken for independent."""
    (one, other), compute = at.args, PAIRS[at.op.type]
    if one is not None and other is not None:
        return _both(at, one, other) if len(one.at) == len(other.at) else []
    place = int(one is None)
    seen, given = at.args[place], at.by_channel(1 - place, place)
    if seen is None or given is None:
        return []
    return [_Seen(seen.base, compute(given, seen.at) if place else compute(seen.at, given))]


def _both(at: _At, one: _Seen, other: _Seen) -> _Found:
    compute = PAIRS[at.op.type]
    if one.base == other.base:
        return [_Seen(one.base, compute(one.at, other.at))]
    if at.op.type == "Div":
        return []
    a, b, of_a, of_b = one.mean, other.mean, one.variance, other.variance
    variance = of_a * of_b + of_a * b * b + of_b * a * a if at.op.type == "Mul" else of_a + of_b
    return at.normal(compute(a, b), variance)


def _same(at: _At) -> _Found:
    """Elements are moved about within channels, or left."""
    return at.args[:1]


def _largest(at: _At) -> _Found:
    """Of each window, of whose elements the square root of their number are taken for independent."""
    seen, kernel = at.args[0], at.op.attributes.get("kernel_shape", (1,))
    if seen is None:
        return []
    order = seen.at.argsort(1)
    values = np.take_along_axis(seen.at, order, 1)
    below = np.cumsum(_WEIGHTS[order], 1) ** np.sqrt(prod(kernel))  # type: ignore[arg-type]
    share = np.diff(below, axis=1, prepend=0)
    mean = (values * share).sum(1)
    return at.normal(mean, (np.square(values - mean[:, None]) * share).sum(1))


def _mean_of_image(at: _At) -> _Found:
    seen, rank = at.args[0], at.rank(0)
    if at.op.type == "ReduceMean":
        axes = at.tables.table(at.id(1)) if at.id(1) else at.op.attributes.get("axes")
        given = () if axes is None else np.asarray(axes).reshape(-1)
        whole = sorted(int(axis) % max(rank, 1) for axis in given) == [*range(2, rank)]
        if not whole or not at.op.attributes.get("keepdims", 1):
            return []
    return at.normal(seen.mean, _POOLED**2 * seen.variance) if seen else []


def _normalized(at: _At) -> _Found:
    """Batch and instance normalization: scale and shift were learnt for what is normal then."""
    scale, shift = at.row(1), at.row(2)
    return [] if scale is None or shift is None else at.normal(shift, np.square(scale))


def _joined(at: _At) -> _Found:
    known = [part for part in at.args if part is not None]
    if at.op.attributes.get("axis") != 1 or len(known) < len(at.args):
        return []
    if len({part.base for part in known}) == 1:
        return [_Seen(known[0].base, np.concatenate([part.at for part in known]))]
    return at.normal(*(np.concatenate([getattr(part, name) for part in known]) for name in ("mean", "variance")))


def _split(at: _At) -> _Found:
    seen, count = at.args[0], len(at.op.outputs)
    if seen is None or at.op.attributes.get("axis", 0) != 1:
        return []
    given = at.tables.table(at.id(1)) if at.id(1) else at.op.attributes.get("split")
    sizes = [-(-len(seen.at) // count)] * count if given is None else [int(size) for size in np.asarray(given)]
    ends = np.cumsum([0, *sizes])
    return [_Seen(seen.base, seen.at[a:b]) for a, b in pairwise(ends)]


def _convolved(at: _At) -> _Found:
    """What filters make of independent channels; of a transposed one, each result has its share of the taps."""
    seen, dims, transposed = at.args[0], at.tables.sizes(at.id(1)), at.op.type == "ConvTranspose"
    group = int(at.op.attributes.get("group", 1))  # type: ignore[arg-type]
    if seen is None or not prod(dims) or len(dims) < _IMAGE_RANK or dims[0] % group:
        return []
    if len(seen.at) != (dims[0] if transposed else dims[1] * group):
        return []
    moments = seen.mean.reshape(group, -1), seen.variance.reshape(group, -1)
    mean, variance = (_sums_transposed if transposed else _sums)(at, dims, *moments)
    bias = at.row(2) if at.id(2) else np.zeros(len(mean))
    if bias is None:
        return []
    strides: tuple[int, ...] = at.op.attributes.get("strides", (1,))  # type: ignore[assignment]
    share = prod(strides) if transposed else 1
    return at.normal(mean / share + bias, variance / share)


def _wide(sums: Array, squares: Array) -> Array:
    """What a channel's variance is multiplied by."""
    return np.asarray((1 - _PIXELS) * np.square(sums) + _PIXELS * squares)


def _sums(at: _At, dims: Sequence[int], means: Array, variances: Array) -> tuple[Array, Array]:
    """Mean and variance of each filter's results, W being (M, C/group, k1, ..), without bias."""
    count, depth, taps = dims[0], dims[1], prod(dims[2:])
    found, first = [], 0
    for part in at.tables.parts(at.id(1), depth * taps):
        filters = part.reshape(-1, depth, taps)
        group = np.arange(first, first + len(filters)) // (count // len(means))
        first += len(filters)
        sums, squares = filters.sum(2, dtype=np.float64), np.square(filters).sum(2, dtype=np.float64)
        found.append(np.stack([(sums * means[group]).sum(1), (_wide(sums, squares) * variances[group]).sum(1)]))
    mean, variance = np.concatenate(found, 1)
    return mean, variance


def _sums_transposed(at: _At, dims: Sequence[int], means: Array, variances: Array) -> tuple[Array, Array]:
    """Likewise, W being (C, M/group, k1, ..)."""
    width, taps = dims[1], prod(dims[2:])
    found, first = np.zeros((2, len(means), width)), 0
    flat_means, flat_variances = means.reshape(-1), variances.reshape(-1)
    for part in at.tables.parts(at.id(1), width * taps):
        filters = part.reshape(-1, width, taps)
        here = np.arange(first, first + len(filters))
        first += len(filters)
        sums, squares = filters.sum(2, dtype=np.float64), np.square(filters).sum(2, dtype=np.float64)
        group = here // means.shape[1]
        np.add.at(found[0], group, sums * flat_means[here, None])
        np.add.at(found[1], group, _wide(sums, squares) * flat_variances[here, None])
    return found[0].reshape(-1), found[1].reshape(-1)


_RULES: Mapping[str, _Rule] = {
    **dict.fromkeys(FUNCTIONS, _function),
    **dict.fromkeys(PAIRS, _pair),
    **dict.fromkeys(("AveragePool", "Cast", "Dropout", "Identity", "Pad", "Resize", "Upsample"), _same),
    "BatchNormalization": _normalized,
    "Clip": _clip,
    "Concat": _joined,
    "Conv": _convolved,
    "ConvTranspose": _convolved,
    "GlobalAveragePool": _mean_of_image,
    "InstanceNormalization": _normalized,
    "MaxPool": _largest,
    "PRelu": _prelu,
    "ReduceMean": _mean_of_image,
    "Split": _split,
}
