"""The command line: what is printed, where, and with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

import ampgraph
from ampgraph import __version__, rulebook
from ampgraph.cli import default_destination, main
from ampgraph.devices import load_devices
from ampgraph.onnx_model.check import tolerance
from ampgraph.precision import Precision
from tests.small_models import classifier, parse, saved

HEAVY = ("torch", "onnx", "onnxruntime", "scipy", "onnx_ir", "onnxscript", "networkx", "numpy")


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def program(*words: object, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ampgraph", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path / "model.onnx")


def test_the_default_output_lies_beside_the_input(source: Path) -> None:
    result = run("convert", source, "--objective", "coverage")
    assert result.exit_code == 0, result.stderr
    target = source.with_name("model.float16.onnx")
    onnx.checker.check_model(str(target), full_check=True)
    assert f"wrote {target}" in result.stdout
    assert "5 float16, 3 float32" in result.stdout
    assert result.stderr == ""
    assert default_destination("a/b.onnx", "bfloat16") == "a/b.bfloat16.onnx"
    assert default_destination("weights", "float16") == "weights.float16.onnx"


def test_every_option_reaches_the_conversion(source: Path, tmp_path: Path) -> None:
    plan, report, target = tmp_path / "plan.json", tmp_path / "report.json", tmp_path / "out.onnx"
    rules = tmp_path / "mine.toml"
    rules.write_text('[[rule]]\nname = "mine"\nops = ["Relu"]\ncategory = "deny"\nwhy = "A test."\nsource = "me"\n')
    result = run(
        "convert", source, "-o", target, "--precision", "bfloat16", "--target", "onnx", "--device", "a100",
        "--objective", "coverage", "--rules", rules, "--keep", "^head$", "--low", "flat", "--shape", "image=4x8x16x16",
        "--io", "keep", "--opset", "22", "--save-plan", plan, "--report", report, "--require", "coverage=0.5",
        "--check",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    content = json.loads(report.read_text())
    told = {key: content[key] for key in ("precision", "target", "device", "objective")}
    assert told == {"precision": "bfloat16", "target": "onnx", "device": "a100", "objective": "coverage"}
    assert content["shapes"] == {"image": [4, 8, 16, 16]}
    assert content["check"]["outputs"][0]["name"] == "scores"
    decisions = json.loads(plan.read_text())["decisions"]
    assert decisions["relu:T"]["rule"] == "mine"
    assert decisions["head:T"]["cause"] == "user"
    assert decisions["conv:T"]["precision"] == "bfloat16"
    assert onnx.load(target).opset_import[0].version == 22


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    result = run("convert", source, "--dry-run")
    assert result.exit_code == 0
    assert "dry run: nothing was written" in result.stdout
    assert list(tmp_path.iterdir()) == [source]
    report = tmp_path / "report.json"
    told = run("convert", source, "--dry-run", "--report", report)
    assert told.exit_code == 0, told.stderr
    assert told.stdout.endswith(f"dry run: no model was written, only {report}\n")
    assert sorted(tmp_path.iterdir()) == [source, report]


def test_keep_and_low_may_be_repeated(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    words = ("--objective", "coverage", "--keep", "^head$", "--keep", "^conv$", "--low", "^exp$")
    result = run("convert", source, "-o", target, *words)
    assert result.exit_code == 0, result.stderr
    told = {name: run("explain", target, name).stdout for name in ("head", "conv", "exp")}
    assert all("--keep" in told[name] for name in ("head", "conv"))
    assert "--low" in told["exp"]
    again = run("convert", target, "-o", tmp_path / "again.onnx", *words)
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "again.onnx").read_bytes() == target.read_bytes()
    both = run("convert", source, "--dry-run", *words, "--low", "^conv$")
    assert both.exit_code == 2
    assert "--keep and --low: both name 'conv'" in both.stderr


@pytest.mark.parametrize("command", ["convert", "explain", "inspect", "run", "bench", "profile", "compare"])
def test_two_shapes_of_one_input_are_refused(source: Path, command: str) -> None:
    more = {"explain": ["head"], "compare": [source]}.get(command, [])
    result = run(command, source, *more, "--shape", "image=1x8x16x16", "--shape", "image=2x8x16x16")
    assert result.exit_code == 2
    assert "--shape image: is given twice" in result.stderr


@pytest.mark.parametrize("command", ["convert", "inspect", "run", "bench"])
def test_sizes_beyond_all_numbers_are_refused(source: Path, command: str) -> None:
    result = run(command, source, "--shape", "image=99999999999999999999x8x16x16")
    assert result.exit_code == 2
    assert "has more than 1099511627776 elements" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("share", ["2", "nan", "-1"])
def test_a_share_that_is_none_is_refused(source: Path, share: str) -> None:
    result = run("convert", source, "--dry-run", "--require", f"coverage={share}")
    assert result.exit_code == 2
    assert "is no share; give a number from 0 to 1" in result.stderr


def test_data_that_the_model_does_not_take_are_a_mistake_not_another_answer(source: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", image=np.zeros((8, 16, 16), np.float32))
    result = run("convert", source, "-o", tmp_path / "out.onnx", "--check", "--data", tmp_path / "wrong.npz")
    assert result.exit_code == 2
    assert "wrong.npz: has 8x16x16 for 'image', which is ?x8x16x16; give an array like it" in result.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_the_help_names_every_device() -> None:
    shown = " ".join(run("convert", "--help").stdout.split())
    *names, last = sorted(load_devices())
    assert f"The deployment's GPU: {', '.join(names)} or {last}." in shown


def test_an_unmet_requirement_is_exit_3(source: Path, tmp_path: Path) -> None:
    result = run("convert", source, "--require", "coverage=0.9")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_check_is_exit_1_and_shows_what_it_found(tmp_path: Path) -> None:
    text = "g (float[4] x) => (float[4] y) { [a] h = Mul(x, c)  [b] y = Mul(h, c) }"
    source = saved(parse(text, c=np.full(4, 6e4, np.float32)), tmp_path / "model.onnx")
    result = run("convert", source, "--low", "a|b", "--check")
    assert result.exit_code == 1
    assert "FAILED: output y" in result.stdout
    assert "the check failed" in result.stderr
    assert list(tmp_path.iterdir()) == [source]


def test_a_check_of_nothing_is_exit_2_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.full((1, 8, 16, 16), np.nan, np.float32))
    result = run("convert", source, "--objective", "coverage", "--check", "--data", tmp_path / "data.npz")
    assert result.exit_code == 2
    assert "data.npz: the source itself answers with NaN or infinity throughout" in result.stderr
    assert not source.with_name("model.float16.onnx").exists()


def test_the_bars_of_the_check_are_said_where_one_looks() -> None:
    """In the help of both commands that compare, and in the docstrings."""
    bars = [f"{tolerance(precision):.2g}" for precision in (Precision.FLOAT16, Precision.BFLOAT16)]
    helps = [run(command, "--help").stdout for command in ("convert", "compare")]
    for text in (*helps, ampgraph.convert.__doc__, ampgraph.compare.__doc__):
        assert all(bar in text for bar in bars)


def test_explain(source: Path) -> None:
    result = run("explain", source, "exp")
    assert result.exit_code == 0
    assert "rule sum-of-exponentials" in result.stdout
    assert run("explain", source, "konv", "--objective", "coverage").exit_code == 2


def test_rules(tmp_path: Path) -> None:
    assert run("rules", "--markdown").stdout == rulebook.markdown(rulebook.load_builtin())
    plain = run("rules").stdout
    assert "convolution: allow" in plain
    mine = tmp_path / "mine.toml"
    mine.write_text('[[rule]]\nname = "mine"\nops = ["Relu"]\ncategory = "deny"\nwhy = "A test."\nsource = "me"\n')
    assert run("rules", "--rules", mine).stdout.startswith("mine: deny")


def test_usage_errors_are_one_line_and_exit_2() -> None:
    for words in (("convert",), ("frob",), ("convert", "x", "--frob"), ("convert", "x", "--opset", "many")):
        result = run(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("ampgraph: ")
        assert result.stderr.count("\n") == 1
        assert "--help" in result.stderr


def test_help_and_version() -> None:
    assert run("--version").stdout == f"ampgraph {__version__}\n"
    assert "Commands:" in run("--help").stdout
    bare = run()
    assert bare.exit_code == 2
    assert "Commands:" in bare.stderr
    for name in ("convert", "explain", "rules", "demo"):
        assert run(name, "--help").exit_code == 0


def test_help_and_import_load_no_heavy_library() -> None:
    """Timed in a fresh interpreter, best of several: the machine may be busy."""
    script = "import sys, time; start = time.perf_counter(); import ampgraph{}; took = time.perf_counter() - start; "
    script += f"print(took, *(name for name in {HEAVY} if name in sys.modules))"
    show_help = "\nfrom ampgraph.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    for text in (script.format(""), script.format("").replace("; took", show_help + "took")):
        command = [sys.executable, "-c", text]
        runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
        found = [shown.splitlines()[-1] for shown in runs]
        assert {line.partition(" ")[2] for line in found} == {""}
        assert min(float(line.partition(" ")[0]) for line in found) < 0.3


def test_a_conversion_loads_no_library_that_it_does_without(source: Path, tmp_path: Path) -> None:
    script = f"import sys, ampgraph; ampgraph.convert({str(source)!r}, {str(tmp_path / 'out.onnx')!r}); "
    script += "print(*(name for name in ('onnx_ir', 'onnxscript', 'sympy', 'torch', 'rich') if name in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == ""


def test_piped_output_is_plain_and_a_closed_pipe_is_quiet(source: Path) -> None:
    piped = program("convert", source, "--dry-run", env={**os.environ, "FORCE_COLOR": "1"})
    assert piped.returncode == 0, piped.stderr
    assert "\x1b" not in piped.stdout
    command = f"{sys.executable} -m ampgraph rules --markdown | head -1"
    closed = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert closed.stdout.startswith("# Rules")
    assert closed.stderr == ""


@pytest.mark.parametrize(("no_color", "styled"), [("", True), ("1", False)])
def test_terminals_get_colour_unless_told_otherwise(source: Path, no_color: str, styled: bool) -> None:
    import pty

    main_end, other_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": no_color}
    command = [sys.executable, "-m", "ampgraph", "convert", str(source), "--dry-run", "--objective", "coverage"]
    with subprocess.Popen(command, stdout=other_end, env=environment) as process:
        process.wait()
    os.close(other_end)
    shown = os.read(main_end, 1 << 16).decode()
    os.close(main_end)
    assert ("\x1b[" in shown) is styled
    assert "float16" in shown


def test_names_that_a_stream_cannot_show_do_not_stop_it(tmp_path: Path) -> None:
    model = parse("g (float[4] x) => (float[4] y) { [knoten] y = Exp(x) }")
    model.graph.node[0].name = "Knöten→1"
    source = saved(model, tmp_path / "model.onnx")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    result = program("explain", source, "y", env=environment, encoding="latin-1")
    assert result.returncode == 0, result.stderr
    assert "Knöten\\u21921: Exp" in result.stdout
