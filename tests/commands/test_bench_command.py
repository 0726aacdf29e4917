"""`ampgraph bench`: models in, a table, JSON and a picture out."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

import ampgraph
from ampgraph.cli import main
from ampgraph.commands.bench import parse_batches
from ampgraph.errors import OptionError
from tests.small_models import classifier, saved


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, words)])


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    source = saved(classifier(), tmp_path / "model.onnx")
    ampgraph.convert(source, tmp_path / "low.onnx", objective="coverage")
    return [source, tmp_path / "low.onnx"]


def test_a_conversion_is_compared_with_its_source(models: list[Path], tmp_path: Path) -> None:
    figures, picture = tmp_path / "bench.json", tmp_path / "bench.svg"
    result = run(*models, "--batch", "1, 3", "--rounds", 2, "--provider", "cpu", "--json", figures, "--plot", picture)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[2:6]] == [["model", "1"], ["low", "1"], ["model", "3"], ["low", "3"]]
    assert max(map(len, lines[:6])) <= 100
    assert "generated inputs: image=1x8x16x16; image=3x8x16x16" in lines
    assert lines[-2:] == [f"wrote {figures}", f"wrote {picture}"]
    rows = json.loads(figures.read_text())["rows"]
    assert [(row["model"], row["batch"], row["shapes"]["image"][0]) for row in rows] == [
        ("model", 1, 1), ("low", 1, 1), ("model", 3, 3), ("low", 3, 3),
    ]  # fmt: skip
    assert rows[0]["error"]["relative"] == 0
    assert 0 < rows[1]["error"]["relative"] < 1e-2
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    assert result.stderr == ""


def test_files_are_not_written_over_before_anything_is_timed(models: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "bench.json"
    target.write_text("mine")
    result = run(*models, "--json", target, "--rounds", 1000000)
    assert (result.exit_code, target.read_text()) == (2, "mine")
    assert "exists already" in result.stderr
    assert run(models[0], "--json", models[0], "--force").exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--plot", "bench.png"], "is no .svg file, the only kind of picture drawn; name an .svg"),
        (["--batch", "1,x"], "--batch 1,x: holds no batch sizes; write it as 1,16"),
        (["--batch", "0"], "--batch: holds a size below 1"),
        (["--plot", "/proc/x.svg", "--rounds", "100000000"], "--plot /proc/x.svg: cannot be written"),
        (["--data", "x.npz", "--shape", "image=1x8x16x16"], "--data and --shape: are both given"),
        (["--rounds", "0"], "--rounds 0: is no number of rounds"),
        (
            ["--batch", "1,100000000000"],
            "--batch 100000000000: inputs of this size do not fit in memory; give a smaller",
        ),
        (["--shape", "image=500000000x8x16x16"], "the generated inputs: inputs of this size do not fit"),
        (["--shape", "picture=1"], "is no input of the model; its inputs are image"),
    ],
)
def test_mistakes_are_one_line(models: list[Path], words: list[str], said: str) -> None:
    result = run(*models, *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_model_is_named(models: list[Path], tmp_path: Path) -> None:
    result = run(models[0], tmp_path / "none.onnx")
    assert result.exit_code == 2
    assert "none.onnx: no such file" in result.stderr


def test_batches_are_read() -> None:
    assert parse_batches("1, 16") == (1, 16)
    assert parse_batches("") == ()
    with pytest.raises(OptionError):
        parse_batches("1,,2")
