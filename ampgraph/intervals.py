"""Intervals of numbers and the arithmetic on them, with what each end is worth: a proof, or evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ampgraph.precision import FORMATS

INF = math.inf

# Largest finite number and smallest normal one, and the range of the integers.
FLOAT_LIMITS = {precision.value: (form.largest, form.smallest_normal) for precision, form in FORMATS.items()}
FLOAT_LIMITS["float64"] = (1.7976931348623157e308, 2.0**-1022)
INTEGER_LIMITS = {f"int{bits}": (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) for bits in (2, 4, 8, 16, 32, 64)}
INTEGER_LIMITS |= {f"uint{bits}": (0.0, 2.0**bits - 1) for bits in (2, 4, 8, 16, 32, 64)}

# Where a sum nearly cancels, rounding of its terms (to float32 or coarser) may turn its sign.
_CANCELLED = 1e-6


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of numbers; an infinite end is a number too.

    `complete`: every element is proven to lie inside [lo, hi]. Otherwise the interval is evidence: the value is known
    to be able to reach its ends, and may go further.
    `integer`: every element is proven to be an integer, whether or not the interval is complete.
    `unbounded`: an infinite end says that no bound is known on that side, not that the value holds an infinity.
    """

    lo: float
    hi: float
    complete: bool = True
    integer: bool = False
    unbounded: bool = False


Known = Interval | None  # None: nothing is known

ANYTHING = Interval(-INF, INF, unbounded=True)
ZERO = Interval(0.0, 0.0, integer=True)
ONE = Interval(1.0, 1.0, integer=True)


def between(lo: float, hi: float, *, complete: bool = True, integer: bool = False) -> Interval:
    """An interval whose infinite ends, if any, are missing bounds."""
    return Interval(lo, hi, complete, integer, math.isinf(lo) or math.isinf(hi))


def proven(args: Sequence[Known]) -> bool:
    """Whether every operand is proven to lie in its interval."""
    return all(arg is not None and arg.complete for arg in args)


def hull(args: Sequence[Known]) -> Known:
    """Any operand's elements; where some are unknown, evidence of those that are known."""
    if len(args) == 1:
        return args[0]
    used = [arg for arg in args if arg is not None]
    if not used:
        return None
    if not proven(args):
        used = [_evidence(arg) for arg in used]
    return _inherit(args, min(arg.lo for arg in used), max(arg.hi for arg in used))


def total(args: Sequence[Known]) -> Known:
    """The sum of the operands; evidence takes the unknown ones to be around 0."""
    if all(arg is None for arg in args):
        return None
    used = [arg for arg in args if arg is not None]
    if not proven(args):
        used = [_evidence(arg) for arg in used]
    lo, hi = sum(arg.lo for arg in used), sum(arg.hi for arg in used)
    if 0 < lo < _CANCELLED * sum(abs(arg.lo) for arg in used):
        lo = 0.0
    if 0 > hi > -_CANCELLED * sum(abs(arg.hi) for arg in used):
        hi = 0.0
    return _inherit(args, lo, hi)


def accumulated(args: Sequence[Known], largest: float) -> Known:
    """The sum of the operands, added one by one: beyond the largest number on the way it is infinite, and stays so."""
    found = total(args)
    if found is None or not found.complete:
        return found
    known = [arg for arg in args if arg is not None]
    down, up = sum(min(arg.lo, 0.0) for arg in known), sum(max(arg.hi, 0.0) for arg in known)
    lo, hi = found.lo if down >= -largest else -INF, found.hi if up <= largest else INF
    return found if (lo, hi) == (found.lo, found.hi) else replace(found, lo=lo, hi=hi, unbounded=True)


def negated(arg: Known) -> Known:
    """-x."""
    return arg and replace(arg, lo=-arg.hi, hi=-arg.lo)


def magnitude(arg: Known) -> Known:
    """|x|; never negative, whatever x is."""
    if arg is None:
        return between(0.0, INF)
    low, high = sorted((abs(arg.lo), abs(arg.hi)))
    return _inherit([arg], 0.0 if arg.complete and arg.lo <= 0 <= arg.hi else low, high)


def product(left: Known, right: Known) -> Known:
    """left * right; unknown where an operand is."""
    args = (left, right)
    if left is None or right is None or (not proven(args) and (left.unbounded or right.unbounded)):
        return None
    ends = [a * b if a and b else 0.0 for a in (left.lo, left.hi) for b in (right.lo, right.hi)]
    return _inherit(args, min(ends), max(ends))


def square(arg: Known) -> Known:
    """x * x."""
    absolute = magnitude(arg)
    return product(absolute, absolute)


def quotient(left: Known, right: Known) -> Known:
    """left / right. Divisors around zero are left alone: even [0, 1] holds -0, whose quotients are -inf."""
    if left is None or right is None or not right.complete or right.lo <= 0 <= right.hi:
        return None
    if not left.complete and right.unbounded:
        return None
    ends = [0.0 if math.isinf(b) else a / b for a in (left.lo, left.hi) for b in (right.lo, right.hi)]
    return replace(_inherit((left, right), min(ends), max(ends)), integer=False)


def scaled(arg: Known, factor: float) -> Known:
    """X * factor, for a positive factor."""
    return arg and Interval(arg.lo * factor, arg.hi * factor, arg.complete, False, arg.unbounded)


def greatest(args: Sequence[Known]) -> Known:
    """The maximum; a proven operand bounds it from below even where another is unknown."""
    if any(arg is not None and not arg.complete for arg in args):
        used = [_evidence(arg) for arg in args if arg is not None]
        return _inherit(args, max(arg.lo for arg in used), max(arg.hi for arg in used))
    if all(arg is None for arg in args):
        return None
    full = [arg or ANYTHING for arg in args]
    return _inherit(full, max(arg.lo for arg in full), max(arg.hi for arg in full))


def least(args: Sequence[Known]) -> Known:
    """The minimum."""
    return negated(greatest([negated(arg) for arg in args]))


def repeated(arg: Known, count: float | None) -> Known:
    """The sum of `count` elements. The count is a modelled one, so the result is evidence; a sign is proof."""
    if arg is None or not arg.complete:
        return None
    if count is not None and not arg.unbounded:
        return Interval(arg.lo * count, arg.hi * count, False, arg.integer)
    if arg.lo < 0 < arg.hi:
        return None
    return between(0.0 if arg.lo >= 0 else -INF, 0.0 if arg.hi <= 0 else INF, integer=arg.integer)


def _evidence(arg: Interval) -> Interval:
    """What an operand contributes where not all operands are proven: a missing bound is no end that is reached."""
    if not arg.unbounded:
        return arg
    lo = arg.lo if arg.lo != -INF else min(0.0, arg.hi)
    return replace(arg, lo=lo, hi=arg.hi if arg.hi != INF else max(0.0, arg.lo), unbounded=False)


def _inherit(args: Sequence[Known], lo: float, hi: float) -> Interval:
    """An interval that takes from its operands what they share."""
    return Interval(
        lo,
        hi,
        proven(args),
        all(arg is not None and arg.integer for arg in args),
        (math.isinf(lo) or math.isinf(hi)) and proven(args) and any(arg is not None and arg.unbounded for arg in args),
    )
