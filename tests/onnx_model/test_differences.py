"""Differences of two tensors: what a plain computation over all elements says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from ampgraph.onnx_model import differences
from ampgraph.onnx_model.differences import measure
from ampgraph.precision import Precision

ANY = npst.arrays(np.float32, 12, elements=st.floats(width=32))


@given(ANY, ANY, st.integers(1, 13))
def test_blocks_change_nothing(one: np.ndarray, other: np.ndarray, size: int) -> None:
    whole = measure(one, other, Precision.FLOAT16, low_found=True)
    before = differences.BLOCK
    differences.BLOCK = size
    try:
        cut = measure(one, other, Precision.FLOAT16, low_found=True)
    finally:
        differences.BLOCK = before
    assert cut.relative == pytest.approx(whole.relative, rel=1e-9)
    assert (cut.largest, cut.at, cut.overflowed, cut.recovered, cut.flushed, cut.clamped, cut.flushed_at) == (
        whole.largest, whole.at, whole.overflowed, whole.recovered, whole.flushed, whole.clamped, whole.flushed_at,
    )  # fmt: skip


@given(ANY)
def test_a_tensor_agrees_with_itself(array: np.ndarray) -> None:
    found = measure(array, array, Precision.FLOAT16, low_found=True)
    assert found.within(0.0)
    assert (found.relative, found.largest, found.overflowed, found.recovered, found.flushed) == (0, 0, 0, 0, 0)


@given(npst.arrays(np.float32, 12, elements=st.floats(-1e3, 1e3, width=32)), st.integers(0, 11))
def test_one_element_that_leaves_the_range_is_found(array: np.ndarray, place: int) -> None:
    array[place] = 70000.0
    with np.errstate(over="ignore"):
        low = array.astype(np.float16)
    found = measure(array, low, Precision.FLOAT16, low_found=True)
    assert (found.overflowed, found.at, found.reference, found.found) == (1, place, 70000.0, np.inf)
    assert not found.within(1.0)
    back = measure(low, array, Precision.FLOAT16, low_found=False)
    assert (back.overflowed, back.recovered, back.at) == (0, 1, place)
    assert not back.within(1.0)


def test_the_error_is_that_of_norms() -> None:
    found = measure(np.array([3.0, 4.0], np.float32), np.array([3.0, 4.5], np.float16), Precision.FLOAT16, True)
    assert found.relative == pytest.approx(0.1)
    assert (found.largest, found.at, found.magnitude) == (0.5, 1, 4.0)


def test_a_flush_is_of_a_low_type_that_has_no_room_below() -> None:
    reference, zeros = np.array([1.0, 1e-9, 1e-3], np.float32), np.array([1.0, 0.0, 0.0], np.float32)
    found = measure(reference, zeros, Precision.FLOAT16, low_found=True)
    assert (found.flushed, found.flushed_at) == (1, 1)  # 1e-3 has room in float16: it is an error, no flush
    assert measure(reference, zeros, None, low_found=False).flushed == 0


def test_a_clamped_mask_is_no_error_and_another_sign_is() -> None:
    mask = np.array([0.5, -3.4e38], np.float32)
    clamped = measure(mask, np.array([0.5, -65504], np.float16), Precision.FLOAT16, low_found=True)
    assert (clamped.clamped, clamped.relative) == (1, 0.0)
    turned = measure(mask, np.array([0.5, 65504], np.float16), Precision.FLOAT16, low_found=True)
    assert (turned.clamped, turned.within(0.5)) == (0, False)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8, np.float64])
def test_any_number_is_compared(dtype: type) -> None:
    one, other = np.array([0, 1, 1], dtype), np.array([0, 1, 0], dtype)
    assert measure(one, other, None, low_found=False).relative == pytest.approx(np.sqrt(0.5))


def test_the_largest_numbers_of_float64_do_not_overflow() -> None:
    huge = np.array([1e300, 1e308])
    assert measure(huge, huge * 0.5, None, low_found=False).relative == pytest.approx(0.5)


def test_empty_tensors_and_zeros_agree() -> None:
    empty = np.empty((0, 3), np.float32)
    assert measure(empty, empty, None, low_found=False).within(0.0)
    zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    assert measure(zero, zero, None, low_found=False).relative == 0
    assert measure(zero, one, None, low_found=False).relative == np.inf
