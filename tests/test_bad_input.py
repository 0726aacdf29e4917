"""Bad input through the real command line: one line, exit code 2, no traceback, no partial output, input untouched."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from ampgraph.cli import main
from tests.small_models import classifier, parse, random, saved


def snapshot(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(folder: Path, *words: object) -> str:
    """Run the command, see that it is refused properly, and return the line."""
    before = snapshot(folder)
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert snapshot(folder) == before
    return one_line(result.stderr)


def one_line(text: str) -> str:
    line, rest = text.split("\n", 1)
    assert rest == ""
    assert line.startswith("ampgraph: ")
    assert ";" in line, "there is a remedy"
    assert "Traceback" not in line
    return line


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path / "model.onnx")


# Files that are no models


def test_a_missing_file(tmp_path: Path) -> None:
    assert "none.onnx: no such file" in refused(tmp_path, "convert", tmp_path / "none.onnx")


def test_a_directory(tmp_path: Path) -> None:
    assert "is a directory" in refused(tmp_path, "convert", tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="truncated"),
        pytest.param(lambda whole: whole[:-1], id="one byte short"),
        pytest.param(lambda whole: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), id="a picture"),
        pytest.param(lambda whole: b"# a text\n" * 20, id="a text"),
        pytest.param(lambda whole: b"\x08\x08", id="a header alone"),
    ],
)
def test_files_that_are_not_onnx(source: Path, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    source.write_bytes(damage(source.read_bytes()))
    assert "is not an ONNX model" in refused(tmp_path, "convert", source)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """As root every file may be read, so this one fails in another way than permission."""
    looped = tmp_path / "loop.onnx"
    looped.symlink_to(looped)
    assert "loop.onnx" in refused(tmp_path, "convert", looped)


# Graphs that are wrong


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(float[4] x, int64[4] i) => (float[4] y) { [sum] y = Add(x, i) }", "'sum' (Add): binds T to both"),
        ("(float[4] x) => (float[4] y) { [a] h = Add(x, k) [b] k = Relu(h) y = Relu(k) }", "is part of a cycle"),
        ("(float[4] x) => (float[4] y) { [a] y = Add(x, nothing) }", "'nothing' that nothing produces"),
        ("(float[4] x) => (float[4] y) { y = Relu(x, x) }", "is ill-formed"),
        ("(float[4,3] x, float[4,3] z) => (float[4,3] y) { y = MatMul(x, z) }", "Incompatible dimensions"),
        ("(float[4] x) => (float[4] y) { y = Relu(x)  y = Exp(x) }", "single static assignment"),
        ("(float[4] x, bool c) => (float[4] y) { y = If(c) < then_branch = t () => (float[4] a) { a = Relu(lost) }, "
         "else_branch = e () => (float[4] b) { b = Relu(x) }> }", "is ill-formed"),
    ],
)  # fmt: skip
def test_ill_typed_and_cyclic_graphs(tmp_path: Path, text: str, complaint: str) -> None:
    path = saved(parse(f"g {text}"), tmp_path / "model.onnx")
    assert complaint in refused(tmp_path, "convert", path, "--objective", "coverage")


def external(path: Path, location: str) -> Path:
    """A model whose weight lies in another file, which is then said to be at `location`."""
    model = parse("g (float[1,64] x) => (float[1,64] y) { y = MatMul(x, weight) }", weight=random(64, 64))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    return saved(model, path)


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("missing.bin", "'missing.bin' is missing"),
        ("../outside.bin", "outside"),
        ("/etc/hostname", "outside"),
        ("link.bin", "outside"),
        ("weights.bin", "ends before the tensor does"),
    ],
)
def test_external_data_missing_outside_or_short(tmp_path: Path, location: str, complaint: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = external(folder / "model.onnx", location)
    (tmp_path / "outside.bin").write_bytes(bytes(64 * 64 * 4))
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "weights.bin").write_bytes(bytes(100))
    assert complaint in refused(tmp_path, "convert", path)


# Options


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--precision", "float8"], "--precision float8: unknown value; choose one of float16, bfloat16"),
        (["--target", "tpu"], "choose one of onnxruntime-cuda, onnx"),
        (["--device", "abacus"], "h100"),
        (["--objective", "beauty"], "choose one of speed, memory, coverage"),
        (["--keep", "("], "is no regular expression"),
        (["--low", "["], "is no regular expression"),
        (["--keep", "nobody"], "matches no node; names are such as conv"),
        (["--low", "nobody"], "matches no node"),
        (["--io", "nobody"], "names no float32 input or output"),
        (["--opset", "999"], f"opset 999: the newest that is known here is {onnx.defs.onnx_opset_version()}"),
        (["--opset", "many"], "is not a valid integer"),
        (["--opset", "-1"], "is no opset"),
        (["--opset", "16"], "model.onnx, which is 17; give a later one, or leave the option out"),
        (["--shape", "image"], "write it as NAME=1x3x224x224"),
        (["--shape", "picture=1x8x16x16"], "no such graph input; choose among image"),
        (["--shape", "image=1x8"], "the input is ?x8x16x16"),
        (["--shape", "image=1x3x16x16"], "the input is ?x8x16x16"),
        (["--require", "coverage"], "write it as coverage=0.9"),
        (["--require", "beauty=1"], "unknown threshold"),
        (["--plan", "a", "--save-plan", "b"], "are both given"),
        (["--require", "coverage=2"], "is no share; give a number from 0 to 1"),
        (["--keep", "^conv$", "--low", "onv"], "both name 'conv'"),
        (["--data", "d.npz"], "is only read by --check"),
        (["--plan", "none.json"], "cannot be read"),
        (["--rules", "none.toml"], "none.toml"),
        (["--check", "--data", "none.npz"], "cannot be read"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_option_values_that_mean_nothing(source: Path, tmp_path: Path, words: list[str], complaint: str) -> None:
    assert complaint in refused(tmp_path, "convert", source, *words)


def test_a_rule_file_with_a_typo_names_line_and_key(source: Path, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    good = '[[rule]]\nname = "mine"\nops = ["Relu"]\ncategory = "deny"\nwhy = "A test."\nsource = "me"\n'
    for text, line, key in (
        (good.replace("category", "categroy"), 4, "categroy"),
        (good.replace('"deny"', '"denied"'), 4, "category"),
        (good.replace('["Relu"]', '"Relu"'), 3, "ops"),
        (good.replace('"Relu"', '"relu"'), 3, "'relu' is no operator; did you mean 'Relu'?"),
        (good + good.replace('"deny"', "deny"), 10, ""),
    ):
        rules.write_text(text)
        said = refused(tmp_path, "convert", source, "--rules", rules)
        assert "mine.toml" in said
        assert str(line) in said.partition("mine.toml")[2]
        assert key in said


def test_a_plan_file_of_another_model_or_no_plan(source: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    for text in ("", "[]", "{", '{"format": 1}', '{"format": 1, "precision": "float16", "decisions": {"a:T": {}}}'):
        plan.write_text(text)
        assert "plan.json" in refused(tmp_path, "convert", source, "--plan", plan)


def test_inputs_of_another_shape_than_the_models(source: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", image=np.zeros((1, 3, 16, 16), np.float32))
    result = CliRunner().invoke(main, ["convert", str(source), "--check", "--data", str(tmp_path / "data.npz")])
    assert result.exit_code == 2
    assert "has 1x3x16x16 for 'image', which is ?x8x16x16" in one_line(result.stderr)
    assert sorted(snapshot(tmp_path)) == ["data.npz", "model.onnx"]


# Destinations


def test_output_onto_the_input(source: Path, tmp_path: Path) -> None:
    (tmp_path / "alias.onnx").symlink_to(source)
    for target in (source, tmp_path / "alias.onnx"):
        assert "is also an input" in refused(tmp_path, "convert", source, "-o", target, "--force")


def test_destinations_that_cannot_be(source: Path, tmp_path: Path) -> None:
    for target, complaint in (
        (tmp_path, "is a directory"),
        (tmp_path / "none" / "out.onnx", "has no folder"),
        ("/dev/full", "is no regular file"),
        ("/proc/out.onnx", "cannot be written"),
        ("", "is a directory"),
    ):
        assert complaint in refused(tmp_path, "convert", source, "-o", target, "--force")
    assert "cannot be written" in refused(tmp_path, "convert", source, "--report", "/proc/report.json")


def test_an_existing_destination(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_text("precious")
    said = refused(tmp_path, "convert", source, "-o", tmp_path / "out.onnx")
    assert "exists already" in said
    assert "--force" in said


# The system stops it: subprocesses, since these are process-wide


def heavy(path: Path) -> Path:
    """A model of 16 MiB, so that writing it takes time and space."""
    weights = random(2048, 2048)
    text = "g (float[1,2048] x) => (float[1,2048] y) { y = MatMul(x, weight) }"
    return saved(parse(text, weight=weights), path)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "ampgraph", *map(str, words)]


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on file size is what a full disk looks like to a process."""
    source = heavy(tmp_path / "model.onnx")
    before = snapshot(tmp_path)
    process = subprocess.run(
        command("convert", source, "--objective", "coverage"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert process.returncode == 2
    assert "cannot be written" in one_line(process.stderr)
    assert snapshot(tmp_path) == before


def held_while_writing(source: Path) -> subprocess.Popen[str]:
    """A conversion that the system holds between its first write and its file's appearance.

    On a busy machine a run may be over before it is seen to write; then the next one is tried.
    """
    folder, finished = source.parent, source.with_name("model.float16.onnx")
    for _ in range(20):
        process = subprocess.Popen(
            command("convert", source, "--objective", "coverage"), stderr=subprocess.PIPE, text=True
        )
        while not list(folder.glob(".ampgraph-*")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGSTOP)
        if process.returncode is None:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if list(folder.glob(".ampgraph-*")) and not finished.exists():
            return process
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
        finished.unlink()
    raise AssertionError("no run was seen to write")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_while_writing(tmp_path: Path, number: signal.Signals, code: int) -> None:
    source = heavy(tmp_path / "model.onnx")
    before = snapshot(tmp_path)
    process = held_while_writing(source)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "nothing was written" in one_line(said)
    assert snapshot(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
