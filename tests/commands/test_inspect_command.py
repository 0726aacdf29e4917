"""`ampgraph inspect`: what is printed and written, and what is refused."""

import json
import os
import pty
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

import ampgraph
from ampgraph.cli import main
from ampgraph.commands.netron import annotated
from ampgraph.inspection.comparison_json import to_json
from ampgraph.inspection.inspect import inspect
from ampgraph.inspection.views import PAGE
from ampgraph.onnx_model.names import CAUSE_KEY, WHY_KEY, metadata_of
from ampgraph.onnx_model.tensors import element_count
from tests.inspection.comparisons import comparison, difference
from tests.small_models import classifier, parse, random, saved

PLAN = ("--objective", "memory", "--shape", "image=2x8x16x16")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, words)])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path / "model.onnx")


def test_the_summary_is_plain_where_it_is_piped(model: Path) -> None:
    result = run(model, *PLAN)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == str(inspect(model, objective="memory", shapes={"image": (2, 8, 16, 16)}))
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_the_tree_comes_with_it(model: Path) -> None:
    said = run(model, *PLAN, "--tree", "--depth", 1).stdout
    assert said.startswith("model.onnx\n")
    assert "█ float16, ▒ float32" in said


def test_everything_can_be_written_at_once(model: Path, tmp_path: Path) -> None:
    document, drawing = tmp_path / "model.json", tmp_path / "model.dot"
    result = run(model, *PLAN, "--json", document, "--dot", drawing)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [f"wrote {document}", f"wrote {drawing}"]
    assert json.loads(document.read_text())["state"] == "planned"
    assert drawing.read_text().startswith('digraph "model.onnx"')
    again = run(model, *PLAN, "--json", document)
    assert (again.exit_code, again.stderr.count("exists already")) == (2, 1)
    assert run(model, *PLAN, "--json", document, "--force").exit_code == 0


def test_without_a_file_they_go_to_the_terminal_alone(model: Path) -> None:
    assert json.loads(run(model, *PLAN, "--json").stdout)["name"] == "model.onnx"
    assert run(model, "--dot").stdout.startswith("digraph")


def test_a_converted_file_and_its_source(model: Path, tmp_path: Path) -> None:
    low = tmp_path / "low.onnx"
    ampgraph.convert(model, low, objective="coverage")
    said = json.loads(run(low, "--source", model, "--json").stdout)
    assert said["state"] == "converted"
    assert {node["before"] for node in said["graph"]["nodes"]} == {"float32", "other", ""} - {"other"}
    assert json.loads(run(model, "--as-is", "--json").stdout)["state"] == "found"
    assert json.loads(run(model, "--planned", "--json").stdout)["state"] == "planned"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "--dot"], "--json and --dot: both write to the terminal; give one of them a FILE"),
        (["--compare", "c.json"], "--compare: colours the page, and none is asked for"),
        (["--source", "missing.onnx"], "missing.onnx: no such file"),
        (["--precision", "float8"], "--precision float8: unknown value"),
        (["--depth", "-1"], "--help"),
    ],
)
def test_mistakes_are_one_line(model: Path, words: list[str], said: str) -> None:
    result = run(model, *words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_the_page_is_written_or_its_absence_told(model: Path, tmp_path: Path) -> None:
    result = run(model, "--html", tmp_path / "page.html")
    if find_spec(PAGE) is None:
        assert (result.exit_code, result.stdout) == (2, "")
        assert "--html: the page is not part of this installation" in result.stderr
    else:
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / "page.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_a_comparison_of_another_model_is_refused(model: Path, tmp_path: Path) -> None:
    compared, page = tmp_path / "c.json", tmp_path / "page.html"
    compared.write_text(to_json(comparison()), encoding="utf-8")
    result = run(model, "--compare", compared, "--html", page)
    assert result.exit_code == 2
    assert f"--compare {compared}: compares b.onnx: 0 of its 5 values are in model.onnx" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not page.exists()
    nodes = inspect(model).document.graph.nodes
    values = tuple(difference(value, node=node.id, type=node.type) for node in nodes for value in node.outputs)
    compared.write_text(to_json(comparison(values=values, outputs=values[-1:])), encoding="utf-8")
    result = run(model, "--compare", compared, "--html", page)
    assert result.exit_code == 0, result.stderr


def test_the_model_is_not_written_over(model: Path) -> None:
    assert run(model, "--json", model, "--force").exit_code == 2


@pytest.mark.skipif(find_spec("netron") is not None, reason="Netron is installed here")
def test_netron_is_asked_for_where_it_is_missing(model: Path) -> None:
    result = run(model, "--netron")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "ampgraph: --netron: Netron is not installed; pip install netron\n"


def test_netron_gets_a_copy_that_says_everything(tmp_path: Path) -> None:
    """Of a model that says nothing itself: a copy without weights, the plan's reasons at the source's nodes."""
    source = saved(parse("g (float[4,64] x) => (float[4,64] y) { [p] y = MatMul(x, w) }", w=random(64, 64)),
                   tmp_path / "model.onnx")  # fmt: skip
    path = annotated(source, inspect(source, objective="coverage").document)
    copy = onnx.load(path)
    (node,) = copy.graph.node
    assert metadata_of(node, WHY_KEY).startswith("float16: ")
    assert metadata_of(node, CAUSE_KEY) == "cost"
    assert element_count(copy.graph.initializer[0]) == 64 * 64
    assert path.stat().st_size < 2_000


def test_terminals_get_colours_unless_told_otherwise(model: Path) -> None:
    assert "\x1b[" in on_terminal(model, {})
    assert "\x1b[" not in on_terminal(model, {"NO_COLOR": "1"})


def on_terminal(model: Path, environment: dict[str, str]) -> str:
    """What a terminal of 80 columns is sent."""
    mine, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "80", **environment}
    if "NO_COLOR" not in environment:
        variables.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "ampgraph", "inspect", str(model)]
    with subprocess.Popen(command, stdout=theirs, env=variables) as process:
        os.close(theirs)
        sent = b""
        while True:
            try:
                part = os.read(mine, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            sent += part
        assert process.wait() == 0
    os.close(mine)
    return sent.decode()


def without_display(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a display")
def test_open_says_what_to_do_where_nothing_can_show_the_page(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_display(monkeypatch)
    page = tmp_path / "page.html"
    result = run(model, *PLAN, "--html", page, "--open")
    assert result.exit_code == 0
    remedy = f"copy {page} to one that has a display, and open it there"
    assert result.stderr.splitlines() == [f"no browser opens on this machine: {remedy}"]
    assert page.is_file()
    alone = run(model, *PLAN, "--open").stderr.splitlines()
    assert len(alone) == 1
    assert Path(alone[0].split(" copy ")[1].split(" to one ")[0]).is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="BROWSER is a shell's command there")
def test_open_gives_the_page_to_the_browser(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process, for Python looks for browsers once."""
    without_display(monkeypatch)
    asked = tmp_path / "asked"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {asked}\n')
    browser.chmod(0o755)
    page = tmp_path / "page.html"
    command = [sys.executable, "-m", "ampgraph", "inspect", str(model), *PLAN, "--html", str(page), "--open"]
    done = subprocess.run(command, env={**os.environ, "BROWSER": str(browser)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert asked.read_text().strip() == page.as_uri()
