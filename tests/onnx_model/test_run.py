"""Sessions, generated inputs and the runtime's own graph, in a real onnxruntime."""

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import parser

from ampgraph.errors import ModelError
from ampgraph.onnx_model import run as running
from ampgraph.onnx_model.run import best_provider, open_session, optimized_graph, random_inputs, run

HEADER = '<ir_version: 10, opset_import: ["" : 17]>'


def test_best_provider_is_one_that_opens(capfd: pytest.CaptureFixture[str]) -> None:
    running._probed.cache_clear()
    name = best_provider()
    model = parser.parse_model(f"{HEADER} g (float[1] x) => (float[1] y) {{ y = Neg(x) }}")
    assert name in open_session(model).get_providers()
    assert capfd.readouterr() == ("", "")


def test_threads_whose_first_sessions_open_at_once_are_quiet_and_leave_stdout_as_it_was() -> None:
    """In a process of their own: a provider is loaded once."""
    script = """
import threading, ampgraph
from onnx import parser
model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Neg(x) }')
start = threading.Barrier(8)
def work():
    start.wait()
    ampgraph.Session(model)
    try:
        ampgraph.Session(model, provider="cuda")
    except ampgraph.OptionError:
        pass
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("here")
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == ("here\n", "")


def test_a_session_runs_a_proto_a_path_and_external_data(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.arange(4096, dtype=np.float32), "w")
    model = parser.parse_model(f"{HEADER} g (float[4096] x) => (float[4096] y) {{ y = Add(x, w) }}")
    model.graph.initializer.append(weight)
    feeds = {"x": np.ones(4096, np.float32)}
    expected = run(open_session(model), feeds)["y"]
    path = tmp_path / "model.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="w.bin")
    np.testing.assert_array_equal(run(open_session(path), feeds)["y"], expected)
    unloaded = onnx.load(str(path), load_external_data=False)
    np.testing.assert_array_equal(run(open_session(unloaded, folder=tmp_path), feeds)["y"], expected)
    assert len(optimized_graph(path).graph.node) == 1


def test_a_proto_that_cannot_be_handed_over_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_LARGEST_PROTO", 10)
    with pytest.raises(ModelError, match="save it and give its path"):
        open_session(parser.parse_model(f"{HEADER} big (float[1] x) => (float[1] y) {{ y = Neg(x) }}"))


def test_inputs_follow_dtypes_shapes_and_seed() -> None:
    model = parser.parse_model(f"""{HEADER} g (float[B, 3, H, H] x, float16[B] h, bfloat16[2] b, int64[B, T] i,
        bool[2] c, string[1] t, int64 n, seq(float[2]) s, float w) => (float[B] y)
        <float w = {{1}}> {{ y = Identity(x) }}""")
    inputs = random_inputs(model, seed=3, shapes={"x": (2, 3, 5, 5), "i": (2, 7)})
    assert list(inputs) == ["x", "h", "b", "i", "c", "t", "n", "s"]
    assert {name: np.shape(value) for name, value in inputs.items()} == {
        "x": (2, 3, 5, 5), "h": (2,), "b": (2,), "i": (2, 7), "c": (2,), "t": (1,), "n": (), "s": (2, 2),
    }  # fmt: skip
    assert inputs["h"].dtype == np.float16
    assert inputs["b"].dtype == ml_dtypes.bfloat16
    assert inputs["n"] == 1
    assert set(np.unique(inputs["i"])) <= {0, 1}
    np.testing.assert_array_equal(inputs["x"], random_inputs(model, 3, {"x": (2, 3, 5, 5), "i": (2, 7)})["x"])


def test_bfloat16_goes_in_and_comes_out() -> None:
    model = parser.parse_model(
        f"""{HEADER} g (bfloat16[2] x) => (bfloat16[2] y, float[2] z)
        {{ z = Cast<to = 1>(x) n = Neg(z) y = Cast<to = 16>(n) }}"""
    )
    found = run(open_session(model, provider="CPUExecutionProvider"), {"x": np.array([1, 2], ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(found["y"], np.array([-1, -2], ml_dtypes.bfloat16))
    np.testing.assert_array_equal(found["z"], np.array([1, 2], np.float32))


def test_optimizing_changes_no_answer() -> None:
    model = parser.parse_model(f"{HEADER} g (float[2, 4] x) => (float[2, 4] y) {{ a = Mul(x, x) y = Softmax(a) }}")
    feeds = random_inputs(model)
    results = [run(open_session(model, optimize=level), feeds)["y"] for level in ("disabled", "all")]
    np.testing.assert_allclose(*results, rtol=1e-6)
