"""`ampgraph diff`: what is printed and written, and exit codes."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from ampgraph.cli import main
from ampgraph.inspection.schema import DIFF_FILE, shipped
from tests.models import convert
from tests.onnx_model.test_recorded import SOURCE


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, words)])


@pytest.fixture
def plans(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one.json", tmp_path / "two.json"
    convert(SOURCE, save_plan=paths[0])
    convert(SOURCE, save_plan=paths[1], keep="^q$")
    return paths


def test_other_plans_exit_with_1(plans: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(*plans, "--json", tmp_path / "d.json")
    assert result.exit_code == 1, result.stderr
    assert "float16 -> float32, cost -> user matrix-product: 1 node: q" in result.stdout
    assert "the plans differ" in result.stdout
    assert json.loads((tmp_path / "d.json").read_text())["same"] is False


def test_the_figures_alone_go_to_the_terminal_without_a_file(plans: tuple[Path, Path]) -> None:
    result = run(*plans, "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    jsonschema.validate(json.loads(result.stdout), json.loads(shipped(DIFF_FILE)))


def test_the_same_plan_exits_with_0(plans: tuple[Path, Path]) -> None:
    result = run(plans[0], plans[0])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("both come to the same model\n")


def test_mistakes_exit_with_2(plans: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    for words, said in (
        ((plans[0], tmp_path / "mine.json"), "is not a plan"),
        ((plans[0], tmp_path / "none"), "cannot be read"),
        ((*plans, "--json", tmp_path / "mine.json"), "exists already"),
        ((*plans, "--json", plans[1], "--force"), "is also an input"),
        ((plans[0],), "Missing argument"),
    ):
        result = run(*words)
        assert result.exit_code == 2, words
        assert said in result.stderr
        assert result.stderr.count("\n") == 1


def test_the_help_tells_the_exit_codes() -> None:
    assert "Exit code 0" in " ".join(run("--help").stdout.split())
