"""Constants: what is measured of them, the same in one piece, in chunks and together; and how they are rounded."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from ampgraph.errors import ModelError
from ampgraph.graph import Constant
from ampgraph.onnx_model.tensors import CHUNK, chunks, measure, measure_all, round_to, unmeasured
from ampgraph.precision import Precision

FLOAT16, BFLOAT16 = Precision.FLOAT16, Precision.BFLOAT16
HERE = Path()
LOWEST = np.finfo(np.float32).min


def tensor(values: object, kind: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind), "w")


def facts(proto: TensorProto, precision: Precision | None = FLOAT16) -> Constant:
    return measure(proto, HERE, precision)


@pytest.mark.parametrize(
    ("values", "lowest", "highest", "smallest", "infinite", "nan"),
    [
        ([1.0, -3.0, 0.5], -3, 1, 0.5, False, False),
        ([0.0, 0.0], 0, 0, 0, False, False),
        ([-np.inf, 2.0, 0.0], 0, 2, 2, True, False),
        ([np.nan, np.nan], 0, 0, 0, False, True),
        ([], 0, 0, 0, False, False),
    ],
)
def test_extremes_are_over_finite_elements(
    values: list[float], lowest: float, highest: float, smallest: float, infinite: bool, nan: bool
) -> None:
    expected = (len(values), lowest, highest, smallest, infinite, nan)
    for found in (facts(tensor(values)), measure_all([tensor(values)], HERE, FLOAT16)[0]):
        assert (
            found.elements,
            found.lowest,
            found.highest,
            found.smallest,
            found.has_infinity,
            found.has_nan,
        ) == expected


@pytest.mark.parametrize(
    ("values", "precision", "losses"),
    [
        ([65504.0, 65519.0, 65520.0, -1e6], FLOAT16, (2, 0, 0)),
        ([1e-9, -1e-8, 6e-8, 6e-5, 0.0], FLOAT16, (0, 2, 4)),
        ([65520.0, 1e-9, 1e-40], BFLOAT16, (0, 0, 1)),
        ([LOWEST, -np.inf], BFLOAT16, (1, 0, 0)),
        ([-np.inf, np.nan], FLOAT16, (0, 0, 0)),
    ],
)
def test_losses_are_counted(values: list[float], precision: Precision, losses: tuple[int, int, int]) -> None:
    for found in (facts(tensor(values), precision), measure_all([tensor(values)], HERE, precision)[0]):
        (kept,) = found.conversions.items()
        assert (kept[0], (kept[1].overflowed, kept[1].flushed, kept[1].subnormal)) == (precision, losses)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e3, 1e20])
def test_the_error_is_relative(scale: float) -> None:
    data = (np.random.default_rng(0).standard_normal(1000) * scale).astype(np.float32)
    low = data.astype(ml_dtypes.bfloat16).astype(np.float64)
    expected = np.linalg.norm(low - data.astype(np.float64)) / np.linalg.norm(data.astype(np.float64))
    for found in (facts(tensor(data), BFLOAT16), measure_all([tensor(data)], HERE, BFLOAT16)[0]):
        assert found.conversions[BFLOAT16].error == pytest.approx(expected, rel=1e-3)


def test_what_overflows_is_no_part_of_the_error() -> None:
    proto = tensor([70000.0, 1.0001])
    lost = abs(float(np.float16(1.0001)) - float(np.float32(1.0001)))
    for found in (facts(proto), measure_all([proto], HERE, FLOAT16)[0]):
        assert found.conversions[FLOAT16].error == pytest.approx(lost / 70000, rel=1e-3)


FLOATS = st.floats(width=32) | st.sampled_from([65504.0, 65520.0, 1e-8, -1e-8, 6e-8, 0.0, -0.0])
ARRAYS = st.lists(arrays(np.float32, st.integers(1, 5), elements=FLOATS), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(ARRAYS, st.sampled_from([FLOAT16, BFLOAT16]))
def test_measuring_together_is_measuring_one_by_one(data: list[np.ndarray], precision: Precision) -> None:
    protos = [tensor(each) for each in data]
    for joined, proto in zip(measure_all(protos, HERE, precision), protos, strict=True):
        alone = facts(proto, precision)
        kept, other = joined.conversions[precision], alone.conversions[precision]
        assert (kept.overflowed, kept.flushed, kept.subnormal) == (other.overflowed, other.flushed, other.subnormal)
        assert (joined.lowest, joined.highest, joined.smallest) == (alone.lowest, alone.highest, alone.smallest)
        assert (joined.has_infinity, joined.has_nan) == (alone.has_infinity, alone.has_nan)


def test_large_data_are_read_in_chunks_from_wherever_they_lie(tmp_path: Path) -> None:
    data = np.ones(2 * CHUNK + 3, np.float32)
    data[[5, -1]] = 70000, 1e-9
    inside, outside = tensor(data), TensorProto(name="w", data_type=TensorProto.FLOAT, dims=data.shape)
    (tmp_path / "w.bin").write_bytes(data.tobytes())
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value="w.bin")
    for proto in (inside, outside):
        parts = list(chunks(proto, tmp_path))
        assert [part.size for part in parts] == [CHUNK, CHUNK, 3]
        assert np.array_equal(np.concatenate(parts), data)
    found = measure_all([inside, outside], tmp_path, FLOAT16)
    assert found[0] == found[1] == facts(inside)
    assert facts(inside).conversions[FLOAT16].overflowed == 1
    assert facts(inside).conversions[FLOAT16].flushed == 1


def test_other_numbers_have_extremes_and_no_losses() -> None:
    for kind in (np.int64, np.float16, ml_dtypes.bfloat16, np.float64, np.bool_):
        found = facts(tensor([0, 1], kind))
        assert (found.lowest, found.highest, found.conversions) == (0, 1, {})
    assert unmeasured(tensor([2.0, 2.0])).scalar is None
    assert facts(tensor([2.0, 2.0])).scalar == 2


def test_of_what_holds_no_number_that_is_understood_the_size_is_known() -> None:
    text = numpy_helper.from_array(np.array(["a"], object), "s")
    eighth = helper.make_tensor("f", TensorProto.FLOAT8E4M3FN, [2], [1.0, 2.0])
    for proto in (text, eighth, tensor([1j], np.complex64)):
        assert facts(proto) == unmeasured(proto)


def test_data_of_another_size_than_the_shape_are_refused() -> None:
    broken = tensor([1.0, 2.0])
    broken.dims[0] = 3
    for call in (lambda: facts(broken), lambda: measure_all([broken], HERE, FLOAT16)):
        with pytest.raises(ModelError, match="'w': has more or less data than its shape"):
            call()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(arrays(np.float32, st.integers(1, 8), elements=FLOATS), st.sampled_from([FLOAT16, BFLOAT16]))
def test_rounding_is_to_nearest_with_two_exceptions(data: np.ndarray, precision: Precision) -> None:
    low = round_to(data, precision).astype(np.float32)
    with np.errstate(over="ignore"):
        nearest = data.astype(np.float16 if precision is FLOAT16 else ml_dtypes.bfloat16).astype(np.float32)
    usual = ~(np.isfinite(data) & (np.isinf(nearest) | ((nearest == 0) & (data != 0))))
    assert np.array_equal(low[usual], nearest[usual], equal_nan=True)
    assert np.isfinite(low[~usual]).all()
    assert (np.sign(low[~usual]) == np.sign(data[~usual])).all()


@pytest.mark.parametrize(
    ("precision", "values", "expected"),
    [
        (FLOAT16, [LOWEST, 65520.0, -1e-9, 1e-9], [-65504.0, 65504.0, -(2.0**-24), 2.0**-24]),
        (BFLOAT16, [LOWEST, -1e-45], [-3.3895313892515355e38, -(2.0**-133)]),
    ],
)
def test_the_exceptions_take_the_nearest_value_there_is(
    precision: Precision, values: list[float], expected: list[float]
) -> None:
    assert round_to(np.array(values, np.float32), precision).astype(np.float64).tolist() == expected
