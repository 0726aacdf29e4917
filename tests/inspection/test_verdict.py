"""What is named first, what is worst, and what decides."""

import math

from ampgraph.inspection.verdict import WORST, Moments, judge
from tests.inspection.comparisons import difference


def moments_of(*values: str) -> dict[str, Moments]:
    """In the order of the names."""
    return {value: Moments((position,), (position,)) for position, value in enumerate(values)}


def test_the_first_is_the_first_by_time() -> None:
    late = difference("late", order=0, overflowed=1, within=False)
    early = difference("early", order=1, overflowed=1, within=False)
    flushed = difference("flushed", order=2, flushed=1)
    found = judge((), (late, early, flushed), (), moments_of("early", "late", "flushed"))
    assert (found.first_beyond, found.first_overflow, found.first_flush) == ("early", "early", "flushed")
    assert [value.value for value in found.values] == ["late", "early", "flushed"]


def test_nothing_is_named_where_nothing_is_off() -> None:
    found = judge((difference("y"),), (difference("v", relative=0.0),), (), moments_of("v"))
    assert (found.first_beyond, found.first_overflow, found.first_flush, found.worst) == ("", "", "", ())
    assert found.within


def test_outputs_alone_decide() -> None:
    inner = difference("v", within=False)
    assert judge((difference("y"),), (inner,), (), moments_of("v")).within
    assert not judge((difference("y"), difference("z", within=False)), (), (), {}).within


def test_the_worst_are_ten_and_no_casts() -> None:
    values = [difference(f"v{index}", relative=index / 100, order=index) for index in range(20)]
    cast = difference("cast", relative=0.9, order=20)
    infinite = difference("inf", relative=0.001, overflowed=1, within=False, order=21)
    shape = difference("shape", relative=math.inf, mismatch="shape 1 instead of 2", within=False, order=22)
    everything = [*values, cast, infinite, shape]
    found = judge((), everything, {"cast"}, moments_of(*(value.value for value in everything)))
    assert found.worst == ("shape", "inf", *(f"v{index}" for index in range(19, 11, -1)))
    assert len(found.worst) == WORST
