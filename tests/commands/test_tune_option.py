"""`convert --tune` on the command line: what it refuses, and that nothing is left behind."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ampgraph.cli import main
from ampgraph.onnx_model.run import CPU, best_provider
from tests.small_models import classifier, saved


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        pytest.param(
            (), "--tune: measures on a GPU, and no CUDA session opens here",
            marks=pytest.mark.skipif(best_provider() != CPU, reason="a GPU is here"),
        ),
        (("--objective", "memory"), "--tune and --objective memory: contradict each other"),
        (("--target", "onnx"), "--tune and --target onnx: do not go together"),
        (("--io", "low"), "--tune and --io low: contradict each other"),
        (("--low", "exp"), "--tune and --low: contradict each other"),
        (("--plan", "{model}"), "--tune and --plan: are both given"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_in_one_line(tmp_path: Path, words: tuple[str, ...], fact: str) -> None:
    source = saved(classifier(), tmp_path / "model.onnx")
    (tmp_path / "plan.json").write_text("{}")
    given = [word.replace("{model}", str(tmp_path / "plan.json")) for word in words]
    result = CliRunner().invoke(main, ["convert", str(source), "--tune", *given])
    assert result.exit_code == 2
    assert fact in result.stderr
    assert ";" in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "plan.json"]
