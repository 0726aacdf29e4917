"""`ampgraph compare`: what is printed and written, exit codes, and mistakes in one line."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import ampgraph
from ampgraph.cli import main
from ampgraph.inspection.comparison_json import read, schema
from tests.onnx_model.test_side_by_side import FEEDS, lowered, planted


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, words)])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    source = planted("If")
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "in.npz"
    onnx.save(source, paths[0])
    onnx.save(lowered(source), paths[1])
    np.savez(paths[2], **FEEDS)
    return paths


def test_an_overflow_is_told_and_exits_with_1(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, data = files
    result = run(a, b, "--data", data, "--provider", "cpu", "--json", tmp_path / "c.json")
    assert result.exit_code == 1, result.stderr
    assert "first overflow: the same, plant_second" in result.stdout
    assert "on the float16 evaluator on the CPU" in result.stdout
    assert "inputs of in.npz: x=4, c=scalar, n=scalar" in result.stdout
    assert f"next: ampgraph convert {a}"[:40] in " ".join(result.stdout.split())
    assert "outputs are NOT within the tolerance" in result.stdout
    assert all(len(line) <= 80 or str(tmp_path) in line for line in result.stdout.splitlines())
    content = json.loads((tmp_path / "c.json").read_text())
    jsonschema.validate(content, schema())
    assert read(tmp_path / "c.json") == ampgraph.compare(a, b, data, provider="cpu")
    assert result.stderr == ""


def test_figures_alone_go_to_the_terminal_where_no_file_is_named(files: tuple[Path, Path, Path]) -> None:
    a, b, data = files
    result = run(a, b, "--data", data, "--provider", "cpu", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    jsonschema.validate(json.loads(result.stdout), schema())


def test_what_agrees_exits_with_0(files: tuple[Path, Path, Path]) -> None:
    a, _, data = files
    result = run(a, a, "--data", data)
    assert result.exit_code == 0, result.stderr
    assert "outputs are within the tolerance" in result.stdout


def test_the_tolerance_decides(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, _ = files
    np.savez(tmp_path / "small.npz", **{**FEEDS, "x": np.full(4, 0.3, np.float32)})
    assert run(a, b, "--data", tmp_path / "small.npz", "--tolerance", "0.05").exit_code == 0
    assert run(a, b, "--data", tmp_path / "small.npz", "--tolerance", "1e-7").exit_code == 1


def test_mistakes_exit_with_2(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    a, b, data = files
    (tmp_path / "c.json").write_text("mine")
    for words, said in (
        ((a, tmp_path / "none.onnx"), "no such file"),
        ((a, b, "--json", tmp_path / "c.json"), "exists already"),
        ((a, b, "--json", a, "--force"), "is also an input"),
        ((a, b, "--data", b), "is no .npz file"),
        ((a, b, "--provider", "tpu"), "choose one of auto, cuda, cpu"),
        ((a, b, "--shape", "x"), "--shape"),
        ((a, b, "--data", data, "--shape", "x=4"), "--data and --shape: are both given"),
        ((a,), "Missing argument"),
    ):
        result = run(*words)
        assert result.exit_code == 2, words
        assert said in result.stderr, (words, result.stderr)
        assert result.stderr.count("\n") == 1
    assert (tmp_path / "c.json").read_text() == "mine"
    assert run(a, b, "--data", data, "--json", tmp_path / "c.json", "--force").exit_code == 1
    assert read(tmp_path / "c.json").first_overflow


def test_a_bar_is_drawn_on_a_terminal_alone(files: tuple[Path, Path, Path]) -> None:
    import os
    import pty

    a, b, data = files
    command = [sys.executable, "-m", "ampgraph", "compare", str(a), str(b), "--data", str(data), "--provider", "cpu"]
    leader, follower = pty.openpty()
    shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, check=False, text=True)
    os.close(follower)
    drawn = os.read(leader, 65536).decode()
    os.close(leader)
    assert shown.returncode == 1
    assert "comparing" in drawn
    assert "comparing" not in shown.stdout
    piped = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (piped.stdout, piped.stderr) == (shown.stdout, "")
