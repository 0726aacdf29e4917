import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampgraph.intervals import Interval, greatest, hull, least, magnitude, negated, product, quotient, square, total

ENDS = st.floats(-1e6, 1e6, width=32)


@st.composite
def intervals_with_member(draw):
    lo, inside, hi = sorted(draw(st.tuples(ENDS, ENDS, ENDS)))
    return Interval(lo, hi), inside


PAIR = st.tuples(intervals_with_member(), intervals_with_member())


@pytest.mark.parametrize(
    ("of_intervals", "of_numbers"),
    [
        (lambda a, b: total([a, b]), lambda x, y: x + y),
        (product, lambda x, y: x * y),
        (quotient, lambda x, y: x / y if y else None),
        (lambda a, b: greatest([a, b]), max),
        (lambda a, b: least([a, b]), min),
        (lambda a, b: hull([a, b]), lambda x, y: y),
        (lambda a, b: negated(a), lambda x, y: -x),
        (lambda a, b: magnitude(a), lambda x, y: abs(x)),
        (lambda a, b: square(a), lambda x, y: x * x),
    ],
    ids=["total", "product", "quotient", "greatest", "least", "hull", "negated", "magnitude", "square"],
)
def test_the_result_holds_every_result_of_members(of_intervals, of_numbers):
    @given(PAIR)
    def law(pair):
        (left, x), (right, y) = pair
        found = of_intervals(left, right)
        if found is not None:
            slack = 1e-9 * max(abs(found.lo), abs(found.hi))
            assert found.lo - slack <= of_numbers(x, y) <= found.hi + slack

    law()


def test_an_infinity_times_zero_is_no_end():
    assert product(Interval(0, 1), Interval(1, math.inf)) == Interval(0, math.inf)


def test_a_divisor_that_may_be_zero_says_nothing():
    assert quotient(Interval(1, 1), Interval(0, 1)) is None


def test_unknown_operands_leave_evidence_of_the_known():
    known = Interval(-70000, 3)
    assert total([known, None]) == Interval(-70000, 3, complete=False)
    assert hull([known, None]) == Interval(-70000, 3, complete=False)
    assert product(known, None) is None
    assert greatest([known, None]) == Interval(-70000, math.inf, unbounded=True)


def test_a_sum_that_cancels_proves_no_sign():
    assert total([Interval(1, 1), Interval(-1 + 2**-24, 1)]).lo == 0.0
