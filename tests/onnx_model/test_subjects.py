"""Subjects run as their file says: weights apart, float16 rounded where the file has it, feeds in their types."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import CPU, run
from ampgraph.onnx_model.subjects import DATA, fed, ready
from ampgraph.onnx_model.surfacing import Probe
from tests.models import parse

LARGE = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)


def test_large_weights_lie_in_a_file_that_every_opening_maps(tmp_path: Path) -> None:
    model = parse("g (float[2, 64] x) => (float[2, 64] y) { h = MatMul(x, w) y = MatMul(h, w) }")
    model.graph.initializer.append(numpy_helper.from_array(LARGE, "w"))
    before = model.SerializeToString(deterministic=True)
    subject = ready(Loaded(model, Path()), model, CPU, tmp_path)
    assert model.SerializeToString(deterministic=True) == before
    assert (tmp_path / DATA).stat().st_size == LARGE.nbytes
    assert subject.model.ByteSize() < 1000
    x = np.ones((2, 64), np.float32)
    for _ in range(2):
        session, (name,) = subject.opened([Probe((), "h", TensorProto.FLOAT)])
        found = run(session, {"x": x})
        assert list(found) == [name] == ["h"]
        np.testing.assert_allclose(found["h"], x @ LARGE, rtol=1e-4)


def test_nothing_is_folded_and_every_low_result_is_rounded(tmp_path: Path) -> None:
    model = parse(
        "g (float[3] x) => (float[3] y) { l = Cast<to = 10>(x) k = Add(l, l) m = Mul(k, l) y = Cast<to = 1>(m) }"
    )
    subject = ready(Loaded(model, Path()), model, CPU, tmp_path)
    session, names = subject.opened([Probe((), name, TensorProto.FLOAT) for name in ("l", "k", "m")])
    x = np.array([1 / 3, 1e-9, 300], np.float32)
    found = run(session, {"x": x})
    low = x.astype(np.float16)
    with np.errstate(over="ignore"):
        expected = (low, low + low, (low + low) * low)
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("float16", np.float32, np.float16),
        ("float", np.float16, np.float32),
        ("float", np.float64, np.float32),
        ("bfloat16", np.float32, ml_dtypes.bfloat16),
        ("int64", np.int32, np.int64),
        ("int32", np.int64, np.int32),
    ],
)
def test_feeds_take_the_type_that_a_model_reads(tmp_path: Path, kind: str, given: type, expected: type) -> None:
    model = parse(f"g ({kind}[2] x) => (bool[2] y) {{ f = Cast<to = 1>(x) y = Cast<to = 9>(f) }}")
    session, _ = ready(Loaded(model, Path()), model, CPU, tmp_path).opened([], keep_outputs=True)
    found = fed(session, {"x": np.ones(2, given)})["x"]
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected
    assert run(session, {"x": found})["y"].all()


def test_a_float_is_no_integer(tmp_path: Path) -> None:
    model = parse("g (int64[2] x) => (int64[2] y) { y = Neg(x) }")
    session, _ = ready(Loaded(model, Path()), model, CPU, tmp_path).opened([], keep_outputs=True)
    found = fed(session, {"x": np.ones(2, np.float32)})["x"]
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float32  # left for the runtime to refuse
