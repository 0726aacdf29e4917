"""The demo, shortened: the same road with fewer steps."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from ampgraph import demo
from ampgraph.cli import main


@pytest.fixture(autouse=True)
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(demo, "STEPS", 40)
    monkeypatch.setattr(demo, "TESTED", 64)


def test_the_demo_leaves_a_checked_model_and_tells_why(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--folder", str(tmp_path / "out")])
    assert result.exit_code == 0, result.stderr
    left = {path.name for path in (tmp_path / "out").iterdir()}
    trained = {"digits.pt", "digits.float16.onnx"}
    assert left == trained | {"images.npz", "model.onnx", "model.float16.onnx", "plan.json", "report.json"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["nodes"]["float16"] > report["nodes"]["float32"]
    assert not report["check"]["failures"]
    assert {"mean-of-squares", "epsilon-under-root"} <= {kept["rule"] for kept in report["kept"]}
    for words in (
        "scale 65536",
        "by onnxruntime",
        "stayed float32",
        "relative L2 error",
        "read correctly",
        "next: ampgraph explain",
    ):
        assert words in result.stdout
    source = onnx.load(tmp_path / "out" / "model.onnx")
    onnx.checker.check_model(source, full_check=True)
    (images,) = source.graph.input
    assert images.name == "images"
    assert images.type.tensor_type.shape.dim[0].dim_param
    node = result.stdout.strip().splitlines()[-1].split()[-1]
    explained = CliRunner().invoke(main, ["explain", str(tmp_path / "out" / "model.float16.onnx"), node])
    assert explained.exit_code == 0, explained.stderr


def test_files_of_the_user_are_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EPOCHS", 0)  # as a lesson that is begun would say
    for name in ("plan.json", "digits.pt", "images.npz"):
        mine = tmp_path / name
        mine.write_text("mine")
        result = CliRunner().invoke(main, ["demo", "--folder", str(tmp_path)])
        assert result.exit_code == 2
        assert f"{mine}: exists already" in result.stderr
        assert "--force" in result.stderr
        assert mine.read_text() == "mine"
        begun = CliRunner().invoke(main, ["demo", "--folder", str(tmp_path), "--force"])
        assert "trains nothing" in begun.stderr
        mine.unlink()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["demo", "--folder", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
