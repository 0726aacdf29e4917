"""A rest makes a low number the one that it was; a runtime that knows nothing of it reads the low number."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, numpy_helper

from ampgraph.onnx_model.rounding.rests import keep_rest, with_rest
from ampgraph.onnx_model.tensors import round_to
from ampgraph.precision import Precision

Numbers = npt.NDArray[np.float32]
DRAWN = arrays.arrays(np.float32, st.integers(1, 9), elements=st.floats(-6e4, 6e4, width=32))


def exact(tensor: TensorProto) -> Numbers:
    return with_rest(tensor, numpy_helper.to_array(tensor))


def kept(numbers: Numbers, low: npt.NDArray[Any] | None = None) -> TensorProto:
    small = np.asarray(round_to(numbers, Precision.FLOAT16) if low is None else low, np.float16)
    tensor = numpy_helper.from_array(small, "t")
    keep_rest(tensor, numbers, small)
    return tensor


def distance(low: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.spacing(np.abs(low.astype(np.float16))).astype(np.float64)


@given(numbers=DRAWN)
def test_numbers_are_two_hundred_times_as_exact(numbers: Numbers) -> None:
    tensor = kept(numbers)
    low = numpy_helper.to_array(tensor)
    off = np.abs(exact(tensor).astype(np.float64) - numbers)
    assert np.all(off <= distance(low) / 250 + np.abs(numbers) * 1e-7)


def test_the_low_numbers_stay_and_so_does_what_is_exact() -> None:
    numbers = np.array([1, 0.5, -3, 0, -0.0], np.float32)
    tensor = kept(numbers)
    assert not tensor.metadata_props
    np.testing.assert_array_equal(exact(tensor), numbers)
    other = kept(np.array([1.0001, 1], np.float32))
    np.testing.assert_array_equal(numpy_helper.to_array(other), [1, 1])
    assert exact(other)[0] == pytest.approx(1.0001, abs=5e-6)


def test_the_neighbour_on_the_other_side_has_its_rest_too() -> None:
    numbers = np.array([1.0003, -1.0003, 2], np.float32)
    low = np.nextafter(numbers.astype(np.float16), np.float16([2, -2, 2]))
    np.testing.assert_allclose(exact(kept(numbers, low)), numbers, rtol=1e-5)


def test_what_is_clamped_or_not_finite_stays_as_it_is() -> None:
    numbers = np.array([1e9, -1e9, np.inf, -np.inf, np.nan, 1e-30], np.float32)
    tensor = kept(numbers)
    found = exact(tensor)
    np.testing.assert_array_equal(found[:5], numpy_helper.to_array(tensor)[:5].astype(np.float32))
    assert 0 <= found[5] < 1e-7


@pytest.mark.parametrize("text", ["", "????", "AAA", "AAAAAAAAAAAAAAAA"])
def test_a_rest_that_does_not_fit_is_none(text: str) -> None:
    tensor = kept(np.array([1.0001, 2, 3], np.float32))
    tensor.metadata_props[0].value = text
    np.testing.assert_array_equal(exact(tensor), [1, 2, 3])
