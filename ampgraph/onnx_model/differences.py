"""How far one tensor is from another: error, overflow, flush to zero; by blocks, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ampgraph.onnx_model.run import Array
from ampgraph.precision import FORMATS, Precision

BLOCK = 1 << 18  # elements looked at together


@dataclass(frozen=True, slots=True)
class Numbers:
    """What two tensors of one shape differ by.

    Norms over the elements that are finite in both and not clamped. `overflowed`: infinite or NaN in the second alone;
    `recovered`: in the first alone. `flushed`: under the low type's smallest subnormal in the first, zero in the
    second. `clamped`: beyond the low type's range in the one, near its end in the other, as mask constants are.
    `at`: flat index of the first element that is finite in one alone, else of the largest difference. `flushed_at`: of
    the first flushed element, -1 for none.
    """

    elements: int
    relative: float
    largest: float
    at: int
    reference: float
    found: float
    magnitude: float
    overflowed: int = 0
    recovered: int = 0
    flushed: int = 0
    clamped: int = 0
    flushed_at: int = -1

    def within(self, bar: float) -> bool:
        """Whether the same elements are finite and the error is at most `bar`."""
        return not self.overflowed and not self.recovered and self.relative <= bar


def measure(reference: Array, found: Array, low: Precision | None, low_found: bool) -> Numbers:
    """Compare two arrays of numbers with as many elements each, of any dtypes.

    `low`: the low type that either is of; `low_found`: whether the second is, so that it can flush to zero.
    """
    first, second = reference.reshape(-1), found.reshape(-1)
    blocks = [_look(*pair, low, low_found) for pair in _pairs(first, second)]
    scale = max((block.magnitude for block in blocks), default=0.0)
    norms = [_squares(*pair, scale or 1.0, low) for pair in _pairs(first, second)]
    error, norm = sum(norm[0] for norm in norms), sum(norm[1] for norm in norms)
    largest = max((block.largest for block in blocks), default=0.0)
    at = _worst(blocks, largest)
    return Numbers(
        elements=first.size,
        relative=_ratio(error, norm),
        largest=largest,
        at=at,
        reference=float(first[at]) if first.size else 0.0,
        found=float(second[at]) if second.size else 0.0,
        magnitude=scale,
        overflowed=sum(block.overflowed for block in blocks),
        recovered=sum(block.recovered for block in blocks),
        flushed=sum(block.flushed for block in blocks),
        clamped=sum(block.clamped for block in blocks),
        flushed_at=next((block.start + block.flush for block in blocks if block.flush >= 0), -1),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    start: int
    magnitude: float
    largest: float
    at: int  # within the block, of the largest difference
    alone: int  # within the block, of the first element that is finite in one alone; -1 for none
    flush: int  # within the block, of the first flushed element; -1 for none
    overflowed: int
    recovered: int
    flushed: int
    clamped: int


def _pairs(first: Array, second: Array) -> Iterator[tuple[int, Array, Array]]:
    for start in range(0, first.size, BLOCK):
        yield (
            start,
            first[start : start + BLOCK].astype(np.float64),
            second[start : start + BLOCK].astype(np.float64),
        )


def _look(start: int, expected: Array, found: Array, low: Precision | None, low_found: bool) -> _Block:
    clamped = _clamped(expected, found, low)
    counted = np.isfinite(expected) & np.isfinite(found) & ~clamped
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(counted, np.abs(expected - found), 0.0)
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    overflow = ~np.isfinite(found) & ~same
    recovered = ~np.isfinite(expected) & np.isfinite(found)
    least = FORMATS[low].smallest_subnormal if low and low_found else 0.0
    flushed = (found == 0) & (expected != 0) & (np.abs(expected) < least)
    return _Block(
        start,
        float(np.abs(expected[counted]).max(initial=0.0)),
        float(difference.max()),
        int(difference.argmax()),
        _first(overflow | recovered),
        _first(flushed),
        int(overflow.sum()),
        int(recovered.sum()),
        int(flushed.sum()),
        int(clamped.sum()),
    )


def _first(flags: Array) -> int:
    return int(flags.argmax()) if flags.any() else -1


def _clamped(expected: Array, found: Array, low: Precision | None) -> Array:
    """Elements that the low type has no room for, and that stand at its end instead; a sign is kept."""
    if low is None:
        return np.zeros(expected.shape, bool)
    largest = FORMATS[low].largest
    wide, narrow = np.maximum(np.abs(expected), np.abs(found)), np.minimum(np.abs(expected), np.abs(found))
    beyond = np.isfinite(wide) & (wide > largest) & (narrow >= largest / 2) & (narrow <= largest)
    return np.asarray(beyond & (np.sign(expected) == np.sign(found)))


def _squares(start: int, expected: Array, found: Array, scale: float, low: Precision | None) -> tuple[float, float]:
    """Sums of squares of difference and reference over `scale`, which keeps them in range."""
    counted = np.isfinite(expected) & np.isfinite(found) & ~_clamped(expected, found, low)
    with np.errstate(over="ignore"):
        difference, magnitude = (expected[counted] - found[counted]) / scale, expected[counted] / scale
        return float(difference @ difference), float(magnitude @ magnitude)


def _worst(blocks: list[_Block], largest: float) -> int:
    for block in blocks:
        if block.alone >= 0:
            return block.start + block.alone
    return next((block.start + block.at for block in blocks if block.largest == largest), 0)


def _ratio(error: float, norm: float) -> float:
    """Ratio of norms from their squares; 0 over 0 is 0."""
    if error == 0.0:
        return 0.0
    return float(np.sqrt(error / norm)) if norm else np.inf
