"""Value ranges: what constants and operators say about the numbers a value can hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of numbers. Infinite ends are numbers too: -inf as `lo` means that the value may hold -inf.

    `complete`: every element is proven to lie inside [lo, hi], and none is NaN. Otherwise the interval is evidence: the
    value is known to be able to reach its ends, and may go further.
    `integer`: every element is an integer (proven only where complete).
    """

    lo: float
    hi: float
    complete: bool = True
    integer: bool = False
