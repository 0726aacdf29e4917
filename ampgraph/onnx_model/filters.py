"""Weights of convolutions, rounded so that the sums of filters stay.

Neighbouring pixels are alike, and what follows an activation has one sign: much of a convolution's input is its mean.
So the rounding errors of a filter's weights add up where those of pixels cancel, and shift a whole channel by the sum
of the errors times that mean. Each weight becomes one of the two low numbers around it, mostly the nearest; so many
become the other that

    sum of error^2 + (sum of error)^2

is small over the weights that meet one mean: the taps of a filter for one channel, or the channels of a filter of one
tap. It is what mean squares come to where an input's mean is as large as its spread. On PP-OCRv4's recognition the mean
line is a sixth nearer (`python -m benchmarks.rounding_draws`). Calibrating tools choose roundings for a layer's answers
likewise (Nagel et al., "Up or Down? Adaptive Rounding", 2020); this needs no data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from ampgraph.onnx_model.tensors import chunks, round_to
from ampgraph.precision import FORMATS, Precision

_MOST = 16  # weights of one sum that are not the nearest: of a thousand half a dozen are


def terms_of(dims: Sequence[int]) -> int:
    """How many weights in a row of a Conv's W (M, C/group, k1, ..) meet one mean; 1: nothing can be chosen."""
    taps = prod(dims[2:])
    return max(1, dims[1] if taps == 1 and len(dims) > 1 else taps)


def rounded(
    tensor: TensorProto, folder: Path, terms: int, precision: Precision, *, plain: bool = False
) -> Iterator[bytes]:
    """The data of a float32 tensor as low ones, in order, a chunk at a time; memory stays flat."""
    parts = chunks(tensor, folder, terms)
    return (round_filters(part, terms, precision, plain=plain).tobytes() for part in parts)


def round_filters(
    data: npt.NDArray[np.float32], terms: int, precision: Precision, *, plain: bool = False
) -> npt.NDArray[np.generic]:
    """`round_to` for whole sums of so many weights, which keeps the sums as well.

    What is exact, subnormal or out of range is as `round_to` leaves it. The same on every machine: what is summed up is
    exact in float64.
    """
    low = round_to(data, precision, plain=plain)
    if terms < 2 or not low.size:
        return low
    held = low.reshape(-1, terms).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # of weights that are not finite
        error = held - data.reshape(held.shape)
        step = _across(held, error, precision) - held
        limits = FORMATS[precision]
        step[(error == 0) | ~(np.abs(held) >= limits.smallest_normal) | ~(np.abs(held) < limits.largest)] = 0
        _take_steps(held, step, 2 * step * (step + error), error.sum(1, dtype=np.float64))
        return np.asarray(held.astype(low.dtype).reshape(low.shape))


def _across(held: npt.NDArray[np.float32], error: npt.NDArray[np.float32], precision: Precision) -> npt.NDArray[Any]:
    """The low numbers on the other side of what was rounded: neighbours, one apart in the last bit that they have."""
    bits = held.view(np.int32)
    bit = np.int32(1 << (FORMATS[Precision.FLOAT32].significant_bits - FORMATS[precision].significant_bits))
    grows = (error < 0) != (bits < 0)  # in magnitude
    return (bits + np.where(grows, bit, -bit)).view(np.float32)


def _take_steps(
    held: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    alone: npt.NDArray[np.float32],
    total: npt.NDArray[np.float64],
) -> None:
    """In every row the step that helps most, as long as one does. `alone`: what a step adds, the sum aside."""
    rows = np.arange(len(held))
    for _ in range(min(_MOST, held.shape[1])):
        steps = step[rows]
        change = alone[rows] + 2 * total[rows, None].astype(np.float32) * steps
        best = change.argmin(1)
        helps = change[np.arange(len(rows)), best] < 0
        rows, best = rows[helps], best[helps]
        if not rows.size:
            return
        held[rows, best] += step[rows, best]
        total[rows] += step[rows, best]
        step[rows, best] = alone[rows, best] = 0
