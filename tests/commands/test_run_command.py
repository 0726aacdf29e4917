"""`ampgraph run`: what is printed, what is saved, and which mistakes are one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper

from ampgraph.cli import main
from ampgraph.onnx_model.run import CPU, CUDA, best_provider
from tests.small_models import classifier, parse, saved


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, words)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    model = parse(
        "g (float[N, 2] x, int64 k) => (float[N, 2] y, int64 n) { f = Cast<to = 1>(k) y = Mul(x, f) n = Neg(k) }"
    )
    return saved(model, tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=np.array([[1, 2], [3, 4]], np.float32), k=np.array(2))
    return tmp_path / "data.npz"


def test_outputs_time_and_provider_are_printed(source: Path, data: Path) -> None:
    result = run(source, "--data", data, "--provider", "cpu", "--repeat", 3)
    assert result.exit_code == 0, result.stderr
    provider, first, second, timed = result.stdout.splitlines()
    assert provider == f"provider {CPU}"
    assert first == "output y: 2x2 float32, min 2, max 8, mean 5"
    assert second == "output n: scalar int64, min -2, max -2, mean -2"
    assert timed.startswith("time ")
    assert timed.endswith("ms a run, median and quartiles of 3")
    assert result.stderr == ""


def test_generated_inputs_take_shapes_and_nothing_is_timed_if_told_so(source: Path) -> None:
    result = run(source, "--shape", "x=5x2", "--repeat", 0)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[1] == "generated inputs: x=5x2, k=scalar"
    assert "output y: 5x2 float32" in result.stdout
    assert "time" not in result.stdout


def test_outputs_are_saved_by_name_and_not_over_a_file(source: Path, data: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.npz"
    assert run(source, "--data", data, "--save", target).stdout.endswith(f"wrote {target}\n")
    with np.load(target) as archive:
        np.testing.assert_array_equal(archive["y"], [[2, 4], [6, 8]])
        assert archive["n"] == -2
    again = run(source, "--data", data, "--save", target)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr
    assert run(source, "--data", data, "--save", target, "--force").exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"data.npz", "model.onnx", "out.npz"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shape", "z=1"], "--shape z: is no input of the model; its inputs are k, x"),
        (["--shape", "x=axb"], "is no shape of an input"),
        (["--provider", "gpu"], "--provider gpu: is no provider; choose one of best, cpu, cuda, tensorrt"),
        (["--repeat", "-1"], "--repeat -1: is no number of runs"),
        (["--data", "missing.npz"], "cannot be read"),
        (["--data", "missing.npz", "--shape", "x=2x2"], "--data and --shape: are both given"),
        (["--save", "/proc/out.npz", "--repeat", "100000000"], "--save /proc/out.npz: cannot be written"),
        (
            ["--provider", "cpu", "--cuda-graph"],
            "--cuda-graph: is asked for, but CPUExecutionProvider is in use; leave",
        ),
        (["--shape", "x=2x3"], "--shape x=2x3: the input is ?x2; give one like it"),
    ],
)
def test_mistakes_are_one_line(source: Path, words: list[str], said: str) -> None:
    result = run(source, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(best_provider() == CUDA, reason="CUDA opens here")
def test_a_missing_gpu_is_said_and_not_replaced(source: Path) -> None:
    result = run(source, "--provider", "cuda")
    assert result.exit_code == 2
    assert "does not open here" in result.stderr


def test_text_is_counted(tmp_path: Path) -> None:
    text = "g (string[N] t, string s) => (string[N] u, string v) { u = Identity(t) v = Identity(s) }"
    source = saved(parse(text), tmp_path / "text.onnx")
    found = run(source, "--shape", "t=2", "--provider", "cpu", "--repeat", 0).stdout.splitlines()
    assert found[-2:] == ["output u: 2 strings", "output v: 1 string"]


def test_sequences_are_counted_and_cannot_be_saved(tmp_path: Path) -> None:
    source = saved(parse("g (float[4] x) => (seq(float[1]) y) { y = SplitToSequence(x) }"), tmp_path / "split.onnx")
    assert "output y: list of 4" in run(source).stdout
    result = run(source, "--save", tmp_path / "out.npz")
    assert result.exit_code == 2
    assert "cannot hold sequences" in result.stderr
    assert not (tmp_path / "out.npz").exists()


def test_help_loads_no_runtime(tmp_path: Path) -> None:
    script = (
        "import sys; from click.testing import CliRunner; from ampgraph.cli import main;"
        "codes = [CliRunner().invoke(main, [*words, '--help']).exit_code for words in ([], ['run'], ['bench'])];"
        "print(codes, [m for m in ('torch', 'onnx', 'onnxruntime', 'numpy', 'scipy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "[0, 0, 0] []\n"


def test_a_real_conversion_runs_on_the_best_provider(tmp_path: Path) -> None:
    result = run(saved(classifier(), tmp_path / "model.onnx"), "--repeat", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(
        f"provider {best_provider()}\ngenerated inputs: image=1x8x16x16\noutput scores: 1x4 float32, min 0."
    )


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
def test_on_a_gpu_the_shapes_of_the_inputs_are_the_session_s(tmp_path: Path) -> None:
    """Kernels for convolutions are for known sizes: the model leaves its batch free, the inputs do not."""
    model = parse("g (float16[N,8,6,6] x) => (float16[N,16,4,4] y) { y = Conv(x, w) }")
    weights = np.ones((16, 8, 3, 3), np.float16)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    result = run(saved(model, tmp_path / "model.onnx"), "--shape", "x=2x8x6x6")
    assert result.exit_code == 0, result.stderr
    assert "note: kernels of our own: 1 Conv" in result.stdout
