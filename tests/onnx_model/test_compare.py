"""Output errors, on arrays and on a pair of models."""

import ml_dtypes
import numpy as np
import pytest
from onnx import parser

from ampgraph.onnx_model.compare import OutputError, compare, output_errors

LOWEST = np.finfo(np.float32).min


def error(reference, candidate) -> OutputError:
    (found,) = output_errors({"y": reference}, {"y": candidate})
    return found


def test_relative_error_is_a_ratio_of_norms() -> None:
    found = error(np.array([3.0, 4.0], np.float32), np.array([3.0, 4.5], np.float32))
    assert found.relative == pytest.approx(0.1)
    assert found.largest == 0.5
    assert found.within(0.11)
    assert not found.within(0.09)


def test_zero_over_zero_agrees_and_something_over_zero_does_not() -> None:
    zeros = np.zeros(3, np.float32)
    assert error(zeros, zeros).within(0)
    assert error(zeros, zeros + 1).relative == np.inf


def test_the_largest_numbers_do_not_overflow_the_norm() -> None:
    lowest = np.full(4, LOWEST)
    assert error(lowest, lowest / 2).relative == pytest.approx(0.5)


def test_non_finite_elements_are_counted_apart() -> None:
    reference = np.array([1.0, np.inf, np.nan, -np.inf, 2.0], np.float32)
    assert error(reference, reference.copy()).within(0)
    wrong = error(reference, np.array([1.0, -np.inf, 0.0, -np.inf, np.nan], np.float32))
    assert (wrong.nonfinite, wrong.relative) == (3, 0.0)
    assert not wrong.within(1.0)


def test_dtype_and_shape_are_named() -> None:
    ones = np.ones((2, 3), np.float32)
    assert error(ones, ones.astype(np.float16)).mismatch == "float16 instead of float32"
    assert error(ones, ones.astype(ml_dtypes.bfloat16)).relative == 0
    assert error(ones, ones.T).mismatch == "shape (3, 2) instead of (2, 3)"
    assert [e.mismatch for e in output_errors({"a": ones}, {"b": ones})] == ["missing", "not in the reference"]


def test_sequences_maps_optionals_and_strings() -> None:
    one = np.ones(2, np.float32)
    reference = {"s": [one, one], "m": [{"k": 2.0}], "none": None, "t": np.array(["a"], object)}
    assert all(e.within(0) for e in output_errors(reference, reference))
    changed = {"s": [one, 2 * one], "m": [{"k": 3.0}], "none": None, "t": np.array(["b"], object)}
    assert {e.name: e.relative for e in output_errors(reference, changed)} == {
        "s[0]": 0.0,
        "s[1]": 1.0,
        "m[0][k]": 0.5,
        "t": np.inf,
    }


def test_integers_and_booleans_are_numbers() -> None:
    assert error(np.array([2, 0]), np.array([2, 1])).relative == 0.5
    assert not error(np.array([True]), np.array([False])).within(0.5)


def test_models_are_fed_in_the_types_they_take() -> None:
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    high = parser.parse_model(f"{header} g (float[2] x) => (float[2] y) {{ y = Add(x, x) }}")
    low = parser.parse_model(f"{header} g (float16[2] x) => (float[2] y) {{ z = Cast<to = 1>(x) y = Add(z, z) }}")
    (found,) = compare(high, low, {"x": np.array([1.0001, 2], np.float32)}, provider="CPUExecutionProvider")
    assert 0 < found.relative < 1e-3
    assert not found.mismatch
