"""Weights of convolutions, rounded so that what filters make of an image's mean stays.

Much of a convolution's input is its mean: neighbouring pixels are alike, and what follows an activation has one sign.
So the rounding errors of a filter's weights add up where those of pixels cancel, and shift a whole channel. Each weight
becomes one of the two low numbers around it, mostly the nearest; so many become the other that, with an error e for
each weight, the mean m and the spread s of the channel that it meets (expected.py), and the bias off by b,

    sum of s^2 (sum over taps of e^2 + (sum over taps of e)^2) / 2  +  (sum of m e + b)^2

is small: what a result is off by in mean squares where half of an image's spread is from pixel to pixel. Where nothing
is known of the input, its mean counts as large as its spread, tap by tap or, of filters of one tap, over channels.
By simulation, PP-OCRv4's recognition is 1.4 times nearer by it, the mean line, and another three times where what is
small keeps its rest (rests.py; `python -m benchmarks.rounding_draws`). Calibrating tools choose roundings for a layer's
answers likewise (Nagel et al., "Up or Down? Adaptive Rounding", 2020), or correct biases (the same, "Data-Free
Quantization", 2019); this needs no data, and costs nothing at run time.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from ampgraph.onnx_model.tensors import chunks, round_to
from ampgraph.precision import FORMATS, Precision

Floats = npt.NDArray[np.float32]

_MOST = 16  # weights of one sum that are not the nearest: of a thousand half a dozen are


@dataclass(frozen=True, eq=False)
class Filters:
    """What a convolution's W (M, C/group, k1, ..) meets.

    `taps`: weights for one channel. `means`, `spreads`: (groups, C/group). `shift`: (M), what else results are off by.
    """

    taps: int
    means: Floats
    spreads: Floats
    shift: Floats

    @property
    def length(self) -> int:
        """Weights of one filter."""
        return int(self.means.shape[1]) * self.taps

    def text(self) -> str:
        """As a word that `filters_in` reads."""
        arrays = {name: getattr(self, name) for name in ("means", "spreads", "shift")}
        words = {name: b64encode(array.astype("<f4").tobytes()).decode() for name, array in arrays.items()}
        return json.dumps({"taps": self.taps, "groups": len(self.means), **words})


def filters_in(text: str) -> Filters:
    """What `Filters.text` wrote."""
    said = json.loads(text)
    means, spreads, shift = (np.frombuffer(b64decode(said[name]), "<f4") for name in ("means", "spreads", "shift"))
    shape = (said["groups"], -1)
    return Filters(said["taps"], means.reshape(shape), spreads.reshape(shape), shift)


def filters_of(
    dims: Sequence[int],
    group: int = 1,
    means: npt.ArrayLike | None = None,
    spreads: npt.ArrayLike | None = None,
    shift: npt.ArrayLike | None = None,
) -> Filters | None:
    """Of a W of these sizes; `means` and `spreads` of all channels of the input. None where nothing can be chosen.

    Where nothing is known of the input, channels of one tap have a mean as large as their spread, others none: what
    their own share holds already is one.
    """
    if len(dims) < 2 or not prod(dims) or dims[0] % group:
        return None
    taps, shape = prod(dims[2:]), (group, dims[1])
    ones, zeros = np.ones(shape, np.float32), np.zeros(dims[0], np.float32)
    if means is None or spreads is None:
        return Filters(taps, ones * (taps == 1), ones, zeros) if taps > 1 or dims[1] > 1 else None
    met, wide = (np.asarray(each, np.float32).reshape(shape) for each in (means, spreads))
    return Filters(taps, met, wide, zeros if shift is None else np.asarray(shift, np.float32))


def rounded(
    tensor: TensorProto, folder: Path, filters: Filters | None, precision: Precision, *, plain: bool = False
) -> Iterator[bytes]:
    """The data of a float32 tensor as low ones, in order, a chunk at a time; memory stays flat."""
    first = 0
    for part in chunks(tensor, folder, filters.length if filters else 1):
        if filters is None or not part.size:
            yield round_to(part, precision, plain=plain).tobytes()
        else:
            yield round_filters(part, filters, precision, first, plain=plain).tobytes()
            first += part.size // filters.length


def round_filters(
    data: Floats, filters: Filters, precision: Precision, first: int = 0, *, plain: bool = False
) -> npt.NDArray[np.generic]:
    """`round_to` for whole filters, from the `first` on, which keeps what they make of a mean as well.

    What is exact, subnormal or out of range is as `round_to` leaves it.
    """
    low = round_to(data, precision, plain=plain)
    held = low.reshape(-1, filters.taps).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of weights that are not finite
        error = held - data.reshape(held.shape)
        step = _across(held, error, precision) - held
        limits = FORMATS[precision]
        step[(error == 0) | ~(np.abs(held) >= limits.smallest_normal) | ~(np.abs(held) < limits.largest)] = 0
        alone = filters.means.shape[1] == 1
        if filters.taps > 1:
            _keep_channels(held, error, step, _pull(filters, first, len(held)) if alone else None)
        if not alone and filters.means.any():
            _keep_filters(held, error, step, filters, first)
        return np.asarray(held.astype(low.dtype).reshape(low.shape))


def _across(held: Floats, error: Floats, precision: Precision) -> npt.NDArray[Any]:
    """The low numbers on the other side of what was rounded: neighbours, one apart in the last bit that they have."""
    bits = held.view(np.int32)
    bit = np.int32(1 << (FORMATS[Precision.FLOAT32].significant_bits - FORMATS[precision].significant_bits))
    grows = (error < 0) != (bits < 0)  # in magnitude
    return (bits + np.where(grows, bit, -bit)).view(np.float32)


def _pull(filters: Filters, first: int, count: int) -> npt.NDArray[np.float64]:
    """Of filters of one channel, by how much more than the channel's share their sum counts, and what it is off by."""
    met, wide, off = _met(filters, first, count)
    shares = np.maximum(np.square(wide[:, 0].astype(np.float64)), 1e-30) / 2
    return np.stack([1 + np.square(met[:, 0]) / shares, met[:, 0] * off / shares])


def _met(filters: Filters, first: int, count: int) -> tuple[Floats, Floats, Floats]:
    """Means, spreads and shift of `count` filters."""
    group = np.arange(first, first + count) // (len(filters.shift) // len(filters.means))
    return filters.means[group], filters.spreads[group], filters.shift[first : first + count]


def _keep_channels(held: Floats, error: Floats, step: Floats, pull: npt.NDArray[np.float64] | None) -> None:
    """In every row of taps the step that helps most, as long as one does.

    What is to be small is sum of e^2 + (sum of e)^2, with a `pull` sum of e^2 + a (sum of e)^2 + 2 b sum of e.
    """
    rows, total = np.arange(len(held)), error.sum(1, dtype=np.float64)
    weight, off = np.stack([np.ones(len(held)), np.zeros(len(held))]) if pull is None else pull
    alone = step * (step + 2 * error) + weight[:, None].astype(np.float32) * np.square(step)
    for _ in range(min(_MOST, held.shape[1])):
        steps, slope = step[rows], 2 * (weight[rows] * total[rows] + off[rows])
        change = alone[rows] + slope[:, None].astype(np.float32) * steps
        best = change.argmin(1)
        helps = change[np.arange(len(rows)), best] < 0
        rows, best = rows[helps], best[helps]
        if not rows.size:
            return
        moved = step[rows, best]
        held[rows, best] += moved
        error[rows, best] += moved
        total[rows] += moved
        step[rows, best] = -moved  # it may be taken back
        alone[rows, best] = np.inf


def _keep_filters(held: Floats, error: Floats, step: Floats, filters: Filters, first: int) -> None:
    """In every filter the step that helps the whole most, as long as one does, at most one a channel.

    So what it costs the channel's own share is known beforehand.
    """
    depth = filters.means.shape[1]
    met, wide, off = _met(filters, first, len(held) // depth)
    sums = error.sum(1, dtype=np.float64).reshape(met.shape)
    total = off + (sums * met).sum(1)
    costs = step * (step + error + sums.reshape(-1, 1).astype(np.float32)) * np.square(wide).reshape(-1, 1)
    does = step * met.reshape(-1, 1)
    lines = np.arange(len(held))
    taps = _best_taps(costs, does, total) if filters.taps > 1 else np.zeros_like(lines)
    if filters.taps > 1:
        does, costs, step = (each[lines, taps] for each in (does, costs, step))
    does, costs, step = (each.reshape(met.shape) for each in (does, costs, step))
    costs[does == 0] = np.inf
    rows = np.arange(len(met))
    for _ in range(min(_MOST, depth)):
        slope = 2 * total[rows, None].astype(np.float32)
        change = costs[rows] + does[rows] * (slope + does[rows])
        best = change.argmin(1)
        helps = change[np.arange(len(rows)), best] < 0
        rows, best = rows[helps], best[helps]
        if not rows.size:
            return
        line = rows * depth + best
        held[line, taps[line]] += step[rows, best]
        total[rows] += does[rows, best]
        costs[rows, best] = np.inf


def _best_taps(costs: Floats, does: Floats, total: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Of each channel of each filter the step that alone would help most."""
    slope = 2 * np.repeat(total, len(costs) // len(total)).astype(np.float32)
    return np.asarray((costs + does * (slope[:, None] + does)).argmin(1))
