"""Generated inputs: of given shapes, else of recorded ones, else of sizes that the model runs at."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from onnx import ModelProto

import ampgraph
from ampgraph.cli import main
from ampgraph.errors import ModelError
from ampgraph.onnx_model.bench import Way, bench
from ampgraph.onnx_model.feeds import inputs_for, shapes_of
from ampgraph.onnx_model.io import load, reason
from ampgraph.onnx_model.run import open_session, random_inputs
from ampgraph.onnx_model.sources import as_loaded
from tests.small_models import parse, saved

BRANCHES = ("then_branch", "else_branch")
WEIGHTS = f"<float[1,1,200] k = {{{', '.join(['0.1'] * 200)}}}, int64[1] one = {{1}}>"


def sound() -> ModelProto:
    """A window that is no shorter than a kernel, which stands nowhere in its interface."""
    return parse(f"g (float[B,T] x) => (float[B,1,C] y) {WEIGHTS} {{ u = Unsqueeze(x, one) y = Conv(u, k) }}")


def odd_width() -> ModelProto:
    """77 wide, which nobody would guess."""
    return parse("g (float[B,W] x) => (float[7,11] y) <int64[2] to = {7, 11}> { y = Reshape(x, to) }")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and its conversion for windows of 333."""
    source, converted = saved(sound(), tmp_path / "model.onnx"), tmp_path / "low.onnx"
    ampgraph.convert(source, converted, shapes={"x": (2, 333)}, objective="coverage", target="onnx")
    return source, converted


def test_sizes_are_given_or_recorded_or_found(files: tuple[Path, Path]) -> None:
    source, converted = map(load, files)
    assert shapes_of(inputs_for([source])) == {"x": (1, 512)}
    assert shapes_of(inputs_for([converted])) == shapes_of(inputs_for([source, converted])) == {"x": (2, 333)}
    assert shapes_of(inputs_for([source, converted], shapes={"x": (3, 700)})) == {"x": (3, 700)}
    assert shapes_of(inputs_for([as_loaded(sound())], provider="cpu")) == {"x": (1, 512)}


def test_run_profile_and_bench_take_them(files: tuple[Path, Path], tmp_path: Path) -> None:
    source, converted = files
    for words, said in (
        (["run", source, "--repeat", "0"], "output y: 1x1x313 float32"),
        (["run", converted, "--repeat", "0"], "output y: 2x1x134 float32"),
        (["profile", source, "--provider", "cpu", "--seconds", "20", "-o", tmp_path / "costs.json"], "whole model"),
    ):
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.stderr
        assert said in result.stdout
    assert bench([source, converted], rounds=1, way=Way(provider="cpu")).rows[0].shapes == {"x": (2, 333)}


def test_where_no_sizes_fit_the_runtimes_reason_is_told_with_the_options_that_help(tmp_path: Path) -> None:
    path = saved(odd_width(), tmp_path / "model.onnx")
    result = CliRunner().invoke(main, ["run", str(path)])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    for words in ("does not run on generated inputs", "--shape", "--data", "Reshape", "{1,128}"):
        assert words in result.stderr


def test_a_model_that_does_not_open_is_told_so_and_not_blamed_on_sizes(tmp_path: Path) -> None:
    model = sound()
    model.graph.node[1].op_type = "Conf"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="does not open"):
        ampgraph.Session(path, shapes=shapes_of(inputs_for([load(path)])))


def test_a_reason_is_the_innermost_nodes() -> None:
    bodies = ", ".join(f"{name} = {name[:4]} () => (float[2,W] r) {{ r = Add(x, w) }}" for name in BRANCHES)
    weights = "<float[5] w = {1, 1, 1, 1, 1}>"
    text = f"g (float[2,W] x, bool c) => (float[2,W] y) {weights} {{ y = If(c) <{bodies}> }}"
    session = open_session(parse(text), optimize="disabled")
    with pytest.raises(Exception, match="running If node") as caught:
        session.run(None, random_inputs(parse(text)))
    assert reason(caught.value).startswith("Add ")
    assert "If" not in reason(caught.value)
