"""Weights of convolutions keep what filters make of a mean, each being one of the two low numbers around it."""

from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from ampgraph.onnx_model.rounding.filters import Filters, filters_in, filters_of, round_filters
from ampgraph.onnx_model.tensors import CHUNK, LOW_TYPES, chunks, round_to
from ampgraph.precision import LOW_PRECISIONS, Precision

Weights = npt.NDArray[np.float32]
Low = npt.NDArray[np.float64]
LAWFUL = st.floats(-8, 8, width=32)
DRAWN = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9)), elements=LAWFUL)
FINITE = arrays.arrays(np.float32, (2, 1, 9), elements=st.floats(width=32))


def normal(*shape: int, seed: int = 0) -> Weights:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def met(weights: Weights, seed: int = 0) -> Filters:
    """Something known of the input of filters (M, C, taps)."""
    generator = np.random.default_rng(seed)
    count, depth, _ = weights.shape
    drawn = generator.normal(1, 1, depth), generator.uniform(0.1, 1, depth), generator.normal(0, 1e-4, count)
    found = filters_of(weights.shape, 1, *drawn)
    assert found is not None
    return found


def rounded(weights: Weights, filters: Filters | None = None, precision: Precision = Precision.FLOAT16) -> Low:
    how = filters or filters_of(weights.shape)
    flat = weights.reshape(-1)
    found = round_filters(flat, how, precision) if how is not None else round_to(flat, precision)
    return found.astype(np.float64).reshape(weights.shape)


def nearest(weights: Weights, precision: Precision = Precision.FLOAT16) -> Low:
    return round_to(weights.reshape(-1), precision).astype(np.float64).reshape(weights.shape)


def own_share(weights: Weights, low: Low) -> Low:
    """Of each channel of each filter."""
    error = low - weights
    return np.asarray((error**2).sum(2) + error.sum(2) ** 2) / 2


def objective(weights: Weights, low: Low, how: Filters) -> Low:
    """Of each filter, mean squares of what its results are off by."""
    whole = ((low - weights).sum(2) * how.means).sum(1) + how.shift
    return np.asarray((own_share(weights, low) * how.spreads.astype(np.float64) ** 2).sum(1) + whole**2)


def at_most(found: Low, bound: Low) -> bool:
    return bool(np.all(found <= bound * (1 + 1e-5) + 1e-12))


@pytest.mark.parametrize("precision", LOW_PRECISIONS)
@pytest.mark.parametrize("known", [False, True])
@given(weights=DRAWN)
def test_each_weight_is_one_of_the_two_around_it(weights: Weights, known: bool, precision: Precision) -> None:
    low = rounded(weights, met(weights) if known else None, precision)
    near = nearest(weights, precision)
    least, most = np.minimum(low, near), np.maximum(low, near)
    assert np.all((low == near) | ((least < weights) & (weights < most)))
    between = ((least + most) / 2).astype(np.float32).astype(LOW_TYPES[precision]).astype(np.float64)
    assert np.all((between == least) | (between == most))


@pytest.mark.parametrize("precision", LOW_PRECISIONS)
@given(weights=DRAWN)
def test_no_channel_is_worse_than_to_the_nearest(weights: Weights, precision: Precision) -> None:
    if weights.shape[2] > 1:
        low = rounded(weights, precision=precision)
        assert at_most(own_share(weights, low), own_share(weights, nearest(weights, precision)))


@pytest.mark.parametrize("precision", LOW_PRECISIONS)
@given(weights=DRAWN, seed=st.integers(0, 9))
def test_what_is_known_makes_no_filter_worse(weights: Weights, seed: int, precision: Precision) -> None:
    how = met(weights, seed)
    channels_first = min(weights.shape[1:]) > 1  # else all is looked at at once, from the nearest on
    before = rounded(weights, precision=precision) if channels_first else nearest(weights, precision)
    low = rounded(weights, how, precision)
    assert at_most(objective(weights, low, how), objective(weights, before, how))


@given(weights=FINITE)
def test_what_is_out_of_range_is_as_everywhere(weights: Weights) -> None:
    for how in (None, met(weights)):
        found = rounded(weights, how).reshape(-1)
        expected = round_to(weights.reshape(-1), Precision.FLOAT16)
        extreme = ~(np.abs(weights.reshape(-1)) < 65504) | (np.abs(weights.reshape(-1)) < 2.0**-14)
        np.testing.assert_array_equal(found[extreme], expected[extreme])
        assert np.isfinite(found[np.isfinite(weights.reshape(-1))]).all()


@pytest.mark.parametrize(("depth", "taps", "share"), [(1, 9, 0.25), (1, 25, 0.1), (512, 1, 0.01)])
def test_sums_stay(depth: int, taps: int, share: float) -> None:
    weights = normal(200, depth, taps)
    error, before = rounded(weights) - weights, nearest(weights) - weights
    assert np.abs(error.sum((1, 2))).mean() < share * np.abs(before.sum((1, 2))).mean()
    assert np.square(error).sum() < 1.2 * np.square(before).sum()


@pytest.mark.parametrize(("depth", "taps", "share"), [(64, 9, 0.1), (256, 1, 0.1), (1, 25, 0.3)])
def test_a_filter_keeps_what_it_makes_of_the_mean_and_makes_up_for_its_bias(
    depth: int, taps: int, share: float
) -> None:
    weights = normal(200, depth, taps)
    how = met(weights)
    moved = [
        ((low - weights).sum(2) * how.means).sum(1) + how.shift for low in (rounded(weights, how), nearest(weights))
    ]
    assert np.abs(moved[0]).mean() < share * np.abs(moved[1]).mean()


def test_groups_meet_their_own_channels() -> None:
    weights, means = normal(8, 4, 9), np.random.default_rng(0).normal(0, 1, 8)
    whole = filters_of(weights.shape, 2, means, np.ones(8), np.zeros(8))
    parts = [filters_of((4, 4, 9), 1, means[at : at + 4], np.ones(4), np.zeros(4)) for at in (0, 4)]
    np.testing.assert_array_equal(
        rounded(weights, whole), np.concatenate([rounded(weights[:4], parts[0]), rounded(weights[4:], parts[1])])
    )


def test_what_nothing_can_be_chosen_of_is_to_the_nearest() -> None:
    for shape in ((64, 1, 1), (64, 0, 3), (0, 3, 3), (64,), ()):
        assert filters_of(shape) is None
    assert filters_of((6, 4, 3, 3), 4) is None  # no whole number of filters a group


def test_exact_weights_stay() -> None:
    weights = normal(8, 4, 9).astype(np.float16).astype(np.float32)
    still = filters_of(weights.shape, 1, np.ones(4), np.ones(4), np.zeros(8))
    np.testing.assert_array_equal(rounded(weights, still), weights)
    coarse = weights.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(rounded(coarse, precision=Precision.BFLOAT16), coarse)


def test_no_filter_is_cut_in_two() -> None:
    weights = normal(CHUNK // 30, 4, 9)
    how, tensor = met(weights), numpy_helper.from_array(weights, "w")
    parts = list(chunks(tensor, Path(), how.length))
    assert len(parts) > 1
    assert all(part.size % how.length == 0 and part.size <= CHUNK for part in parts)
    firsts = np.cumsum([0, *(part.size // how.length for part in parts)])
    joined = [round_filters(part, how, Precision.FLOAT16, first) for part, first in zip(parts, firsts, strict=False)]
    whole = numpy_helper.to_array(tensor).reshape(-1)
    np.testing.assert_array_equal(np.concatenate(joined), round_filters(whole, how, Precision.FLOAT16))
    (one,) = chunks(numpy_helper.from_array(normal(1, CHUNK + 1), "w"), Path(), CHUNK + 1)
    assert one.size == CHUNK + 1


def test_what_is_met_is_read_as_it_was_written() -> None:
    how = met(normal(6, 4, 9))
    read = filters_in(how.text())
    assert read.taps == how.taps
    for name in ("means", "spreads", "shift"):
        np.testing.assert_array_equal(getattr(read, name), getattr(how, name))
