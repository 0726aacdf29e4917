"""Constant data: read in chunks, measured, and rounded to a low precision; no sign is lost, no infinity invented."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from ampgraph.errors import ModelError
from ampgraph.graph import Constant, Conversion
from ampgraph.onnx_model import external
from ampgraph.precision import FORMATS, Precision

CHUNK = 1 << 18  # elements: 1 MiB of float32, which stays in the cache from one pass over it to the next
SMALL = 1 << 14  # bytes: constants up to this size are measured together
LOW_TYPES: dict[Precision, npt.DTypeLike] = {Precision.FLOAT16: np.float16, Precision.BFLOAT16: ml_dtypes.bfloat16}
_INFINITY = {Precision.FLOAT16: 0x7C00, Precision.BFLOAT16: 0x7F80}  # bits of infinity, sign aside
_NUMERIC = frozenset("fiub")


def element_count(tensor: TensorProto) -> int:
    """Number of elements by the dims."""
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def chunks(tensor: TensorProto, folder: Path, terms: int = 1) -> Iterator[npt.NDArray[np.float32]]:
    """The elements of a float32 tensor, in order, flat, at most CHUNK at a time; memory stays flat.

    `terms`: how many stay together, in a larger chunk where they must.
    """
    size = max(1, CHUNK // terms) * terms
    if external.is_external(tensor):
        yield from (np.frombuffer(block, "<f4") for block in external.blocks(tensor, folder, 4 * size))
        return
    if tensor.raw_data:
        _require_whole(tensor)
        data = np.frombuffer(tensor.raw_data, "<f4")
    else:
        data = np.asarray(numpy_helper.to_array(tensor), np.float32).reshape(-1)
    for start in range(0, max(data.size, 1), size):
        yield data[start : start + size]


def elements(tensor: TensorProto, folder: Path) -> npt.NDArray[np.float32]:
    """All elements of a small float32 tensor, flat."""
    return np.concatenate(list(chunks(tensor, folder)))


def _require_whole(tensor: TensorProto) -> None:
    """Raise ModelError for float32 data whose length is not that of the shape."""
    if len(tensor.raw_data) != 4 * element_count(tensor):
        raise ModelError(f"tensor {tensor.name!r}", "has more or less data than its shape", "export or copy it again")


def round_to(data: npt.NDArray[np.float32], precision: Precision, *, plain: bool = False) -> npt.NDArray[np.generic]:
    """Round float32 to a low precision, to nearest even, with two exceptions.

    A finite value beyond the largest finite one becomes that one (a mask constant must not become infinite), and a
    non-zero value that would round to zero becomes the smallest subnormal of its sign (a sign is never lost). `plain`:
    the caller knows that neither occurs.
    """
    if plain:
        return data.astype(LOW_TYPES[precision])
    limits = FORMATS[precision]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        low = np.atleast_1d(data.astype(LOW_TYPES[precision]))
    magnitude = low.view(np.uint16) & 0x7FFF
    replacements = {_INFINITY[precision]: limits.largest, 0: limits.smallest_subnormal}
    for bits, limit in replacements.items():
        suspect = magnitude == bits
        if suspect.any():
            wrong = suspect & (np.isfinite(data) & (data != 0))
            low[wrong] = np.copysign(np.float32(limit), data[wrong]).astype(low.dtype)
    return np.asarray(low)


def measure(tensor: TensorProto, folder: Path, precision: Precision | None) -> Constant:
    """Facts about a constant's data, but its size alone of text and the like; conversions only for float32."""
    if tensor.data_type == TensorProto.FLOAT:
        return _measure_floats(chunks(tensor, folder), element_count(tensor), precision)
    if external.is_external(tensor) or element_count(tensor) > CHUNK:
        return unmeasured(tensor)
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError):
        return unmeasured(tensor)
    if array.dtype.kind not in _NUMERIC and tensor.data_type != TensorProto.BFLOAT16:  # of no kind that numpy knows
        return unmeasured(tensor)
    return _measure_floats(iter([array.astype(np.float32).reshape(-1)]), array.size, None)


def measure_all(tensors: Sequence[TensorProto], folder: Path, precision: Precision) -> list[Constant]:
    """`measure` for many tensors; small float32 ones in one pass over their joined data."""
    small = [i for i, t in enumerate(tensors) if t.data_type == TensorProto.FLOAT and 0 < len(t.raw_data) <= SMALL]
    for index in small:
        _require_whole(tensors[index])
    joined = _measure_joined([tensors[index].raw_data for index in small], precision)
    found: dict[int, Constant] = dict(zip(small, joined, strict=True))
    rest = [index for index in range(len(tensors)) if index not in found]
    with ThreadPoolExecutor() as pool:  # starts no thread before it is given work; numpy casts outside the lock
        pending = {}
        for index in rest:
            if element_count(tensors[index]) > CHUNK:
                pending[index] = pool.submit(measure, tensors[index], folder, precision)
            else:
                found[index] = measure(tensors[index], folder, precision)
        for index, future in pending.items():
            found[index] = future.result()
    return [found[index] for index in range(len(tensors))]


def _measure_joined(raw: Sequence[bytes], precision: Precision) -> list[Constant]:
    """Facts about each piece of raw float32 data, none of them empty, by segmented reductions."""
    if not raw:
        return []
    limits = FORMATS[precision]
    sizes = np.array([len(piece) // 4 for piece in raw])
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    data = np.frombuffer(b"".join(raw), "<f4").astype(np.float64)
    finite = np.isfinite(data)
    nan = np.logical_or.reduceat(np.isnan(data), starts)
    infinite = np.logical_or.reduceat(np.isinf(data), starts)
    magnitude = np.where(finite, np.abs(data), 0.0)
    with np.errstate(over="ignore"):
        rounded = data.astype(np.float32).astype(LOW_TYPES[precision]).astype(np.float64)
    over = finite & np.isinf(rounded)
    nonzero = magnitude > 0
    lost = np.where(finite & ~over, rounded - np.where(finite, data, 0.0), 0.0)
    columns = (
        np.minimum.reduceat(np.where(finite, data, np.inf), starts),
        np.maximum.reduceat(np.where(finite, data, -np.inf), starts),
        np.minimum.reduceat(np.where(nonzero, magnitude, np.inf), starts),
        np.add.reduceat(over, starts, dtype=np.int64),
        np.add.reduceat(nonzero & (rounded == 0), starts, dtype=np.int64),
        np.add.reduceat(nonzero & (magnitude < limits.smallest_normal), starts, dtype=np.int64),
        np.sqrt(np.add.reduceat(lost * lost, starts)),
        np.sqrt(np.add.reduceat(magnitude * magnitude, starts)),
    )
    rows = zip(sizes.tolist(), infinite.tolist(), nan.tolist(), *(column.tolist() for column in columns), strict=True)
    return [_joined_constant(precision, *row) for row in rows]


def _joined_constant(
    precision: Precision,
    elements: int,
    infinite: bool,
    nan: bool,
    lowest: float,
    highest: float,
    smallest: float,
    over: int,
    flushed: int,
    subnormal: int,
    error: float,
    norm: float,
) -> Constant:
    if highest < lowest:
        lowest = highest = 0.0
    losses = Conversion(over, flushed, subnormal, error / norm if norm > 0 else 0.0)
    smallest = 0.0 if smallest == math.inf else smallest
    return Constant(elements, lowest, highest, smallest, infinite, nan, {precision: losses})


def unmeasured(tensor: TensorProto) -> Constant:
    """A constant of which nothing but the size is known."""
    return Constant(element_count(tensor), -np.inf, np.inf, 0.0, has_nan=True)


@dataclass
class _Tally:
    """Losses summed over the chunks of one tensor."""

    overflowed: int = 0
    flushed: int = 0
    subnormal: int = 0
    error: float = 0.0
    norm: float = 0.0


def _measure_floats(parts: Iterator[npt.NDArray[np.float32]], elements: int, precision: Precision | None) -> Constant:
    lowest, highest, smallest = math.inf, -math.inf, math.inf
    infinite = nan = False
    tally = _Tally()
    for part in parts:
        finite, magnitude = part, np.abs(part)
        if not math.isfinite(float(magnitude.max(initial=0.0))):
            nan = nan or bool(np.isnan(part).any())
            infinite = infinite or bool(np.isinf(part).any())
            finite = part[np.isfinite(part)]
            magnitude = np.abs(finite)
        if finite.size == 0:
            continue
        low, high = float(finite.min()), float(finite.max())
        lowest, highest = min(lowest, low), max(highest, high)
        least = float(magnitude.min()) or _smallest(magnitude)
        smallest = min(smallest, least)
        if precision is not None:
            _add_losses(tally, finite, magnitude, precision, max(abs(low), abs(high)), least)
    if highest < lowest:
        lowest = highest = 0.0
    error = math.sqrt(tally.error / tally.norm) if tally.norm > 0 else 0.0
    losses = Conversion(tally.overflowed, tally.flushed, tally.subnormal, error)
    conversions = {} if precision is None else {precision: losses}
    return Constant(elements, lowest, highest, 0.0 if smallest == math.inf else smallest, infinite, nan, conversions)


def _smallest(magnitude: npt.NDArray[np.float32]) -> float:
    nonzero = magnitude[magnitude > 0]
    return float(nonzero.min()) if nonzero.size else math.inf


def _add_losses(
    tally: _Tally,
    part: npt.NDArray[np.float32],
    magnitude: npt.NDArray[np.float32],
    precision: Precision,
    largest: float,
    least: float,
) -> None:
    limits = FORMATS[precision]
    if largest > limits.largest:
        with np.errstate(over="ignore"):
            error = part.astype(LOW_TYPES[precision]).astype(np.float32)
        beyond = np.isinf(error)
        tally.overflowed += int(beyond.sum())
        error[beyond] = part[beyond]
    else:
        error = part.astype(LOW_TYPES[precision]).astype(np.float32)
    if least < limits.smallest_normal:
        tally.flushed += int(((error == 0) & (magnitude > 0)).sum())
        tally.subnormal += int(((magnitude < limits.smallest_normal) & (magnitude > 0)).sum())
    error -= part
    if not 1e-12 < largest < 1e12:  # keep squares of tiny and of huge weights inside float32
        scale = largest or 1.0
        tally.error += float(np.square(error.astype(np.float64)).sum())
        tally.norm += float(np.square(part.astype(np.float64) / scale).sum()) * scale * scale
        return
    tally.error += float(np.dot(error, error))
    tally.norm += float(np.dot(part, part))
