"""Weights of convolutions keep their sums, each being one of the two low numbers around it; all else stays."""

from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.filters import round_filters, terms_of
from ampgraph.onnx_model.io import with_data
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.tensors import CHUNK, LOW_TYPES, chunks, round_to
from ampgraph.precision import LOW_PRECISIONS, Precision
from tests.models import FLOAT16, parse
from tests.onnx_model.planning import planned

Weights = npt.NDArray[np.float32]
LAWFUL = st.floats(-8, 8, width=32)
DRAWN = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=LAWFUL)
FINITE = arrays.arrays(np.float32, (2, 9), elements=st.floats(width=32))


def normal(*shape: int, seed: int = 0) -> Weights:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def rounded(weights: Weights, precision: Precision = Precision.FLOAT16) -> npt.NDArray[np.float64]:
    found = round_filters(weights.reshape(-1), weights.shape[1], precision)
    return found.astype(np.float64).reshape(weights.shape)


def objective(weights: Weights, low: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    error = low - weights
    return np.asarray((error**2).sum(1) + error.sum(1) ** 2)


@pytest.mark.parametrize("precision", LOW_PRECISIONS)
@given(weights=DRAWN)
def test_each_weight_is_one_of_the_two_around_it(weights: Weights, precision: Precision) -> None:
    low = rounded(weights, precision)
    nearest = round_to(weights.reshape(-1), precision).astype(np.float64).reshape(weights.shape)
    least, most = np.minimum(low, nearest), np.maximum(low, nearest)
    assert np.all((low == nearest) | ((least < weights) & (weights < most)))
    between = ((least + most) / 2).astype(np.float32).astype(LOW_TYPES[precision]).astype(np.float64)
    assert np.all((between == least) | (between == most))


@pytest.mark.parametrize("precision", LOW_PRECISIONS)
@given(weights=DRAWN)
def test_no_row_is_worse_than_to_the_nearest(weights: Weights, precision: Precision) -> None:
    nearest = round_to(weights.reshape(-1), precision).astype(np.float64).reshape(weights.shape)
    assert np.all(objective(weights, rounded(weights, precision)) <= objective(weights, nearest) * (1 + 1e-5))


@given(weights=FINITE)
def test_what_is_out_of_range_is_as_everywhere(weights: Weights) -> None:
    found = round_filters(weights.reshape(-1), 9, Precision.FLOAT16)
    expected = round_to(weights.reshape(-1), Precision.FLOAT16)
    extreme = ~(np.abs(weights.reshape(-1)) < 65504) | (np.abs(weights.reshape(-1)) < 2.0**-14)
    np.testing.assert_array_equal(found[extreme], expected[extreme])
    assert np.isfinite(found[np.isfinite(weights.reshape(-1))].astype(np.float32)).all()


@pytest.mark.parametrize(("taps", "share"), [(9, 0.25), (25, 0.1), (512, 0.01)])
def test_sums_stay(taps: int, share: float) -> None:
    weights = normal(200, taps)
    nearest = weights.astype(np.float16).astype(np.float64)
    found = rounded(weights)
    moved = np.abs((found - weights).sum(1)).mean(), np.abs((nearest - weights).sum(1)).mean()
    assert moved[0] < share * moved[1]
    assert np.square(found - weights).sum() < 1.2 * np.square(nearest - weights).sum()


def test_one_weight_is_to_the_nearest() -> None:
    weights = normal(64, 1)
    np.testing.assert_array_equal(rounded(weights), weights.astype(np.float16))


def test_exact_weights_stay() -> None:
    weights = normal(8, 9).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rounded(weights), weights)
    coarse = weights.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(rounded(coarse, Precision.BFLOAT16), coarse)


@pytest.mark.parametrize(
    ("dims", "terms"),
    [((64, 32, 3, 3), 9), ((64, 1, 5), 5), ((64, 32, 1, 1), 32), ((64, 32, 1), 32), ((64, 1, 1, 1), 1), ((64, 32), 32),
     ((64, 0, 1, 1), 1), ((64, 3, 0, 3), 1), ((64,), 1), ((), 1)],
)  # fmt: skip
def test_taps_meet_one_mean_or_channels_do(dims: tuple[int, ...], terms: int) -> None:
    assert terms_of(dims) == terms


def test_no_filter_is_cut_in_two() -> None:
    tensor = numpy_helper.from_array(normal(CHUNK // 7, 9), "w")
    parts = list(chunks(tensor, Path(), 9))
    assert len(parts) > 1
    assert all(part.size % 9 == 0 and part.size <= CHUNK for part in parts)
    whole = numpy_helper.to_array(tensor).reshape(-1)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    joined = np.concatenate([round_filters(part, 9, Precision.FLOAT16) for part in parts])
    np.testing.assert_array_equal(joined, round_filters(whole, 9, Precision.FLOAT16))
    (one,) = chunks(numpy_helper.from_array(normal(1, CHUNK + 1), "w"), Path(), CHUNK + 1)
    assert one.size == CHUNK + 1


def written(body: str, weights: Weights, low: str, folder: Path | None = None) -> dict[str, npt.NDArray[np.generic]]:
    model = parse(f"g (float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {body} }}")
    tensor = numpy_helper.from_array(weights, "w")
    if folder is not None:
        (folder / "data").write_bytes(tensor.raw_data)
        tensor = TensorProto(name="w", data_type=tensor.data_type, dims=tensor.dims)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="data")
    model.graph.initializer.append(tensor)
    graph = lift(model, folder=folder or Path(), precision=Precision.FLOAT16)
    made: ModelProto = with_data(apply(model, graph, planned(graph, low), folder), folder or Path())
    assert all(each.data_type == FLOAT16 or each.name == "w" for each in made.graph.initializer)
    return {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}


CONV = "[a] y = Conv<pads = [1, 1, 1, 1]>(x, w)"


def test_weights_of_convolutions_keep_sums_in_a_model() -> None:
    weights = normal(4, 4, 3, 3)
    (found,) = written(CONV, weights, "a").values()
    expected = round_filters(weights.reshape(-1), 9, Precision.FLOAT16).reshape(weights.shape)
    assert not np.array_equal(expected, weights.astype(np.float16))
    np.testing.assert_array_equal(found, expected)


def test_a_large_tensor_is_rounded_in_parts_to_the_same() -> None:
    weights = normal(4, 4, 181, 181)
    assert weights.size > CHUNK
    (found,) = written(CONV, weights, "a").values()
    np.testing.assert_array_equal(found.reshape(-1), round_filters(weights.reshape(-1), 181 * 181, Precision.FLOAT16))


def test_data_in_other_files_are_rounded_the_same(tmp_path: Path) -> None:
    weights = normal(4, 4, 3, 3)
    (inside,), (outside,) = (written(CONV, weights, "a", folder).values() for folder in (None, tmp_path))
    np.testing.assert_array_equal(inside, outside)


@pytest.mark.parametrize(
    ("body", "low"),
    [
        ("[a] h = Conv<pads = [1, 1, 1, 1]>(x, w) [b] s = Abs(w) [c] t = ReduceSum<keepdims = 0>(s) [d] y = Mul(h, t)",
         "a b c d"),
        ("[a] y = ConvTranspose<pads = [1, 1, 1, 1]>(x, w)", "a"),
    ],
)  # fmt: skip
def test_what_others_read_too_is_to_the_nearest(body: str, low: str) -> None:
    weights = normal(4, 4, 3, 3)
    np.testing.assert_array_equal(written(body, weights, low)["w"], weights.astype(np.float16))


def test_a_constant_node_keeps_sums_too() -> None:
    weights = normal(4, 4, 3, 3)
    model = parse("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { w = Constant<value_float = 1.0>() " + CONV + " }")
    model.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(weights)))
    graph = lift(model, precision=Precision.FLOAT16)
    made = apply(model, graph, planned(graph, "a"))
    found = next(numpy_helper.to_array(node.attribute[0].t) for node in made.graph.node if node.op_type == "Constant")
    expected = round_filters(weights.reshape(-1), 9, Precision.FLOAT16).reshape(weights.shape)
    np.testing.assert_array_equal(found, expected)
