"""Standard output that is closed, full, or read by somebody who leaves, and Ctrl-C before there is anything to stop."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ampgraph
from tests.small_models import classifier, saved

PROGRAM = f"{sys.executable} -m ampgraph"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path / "model.onnx")


@pytest.mark.parametrize("reader", ["| true", ">&-"])
def test_a_reader_who_leaves_changes_neither_the_exit_code_nor_what_is_written(source: Path, reader: str) -> None:
    low, figures = source.with_name("low.onnx"), source.with_name("figures.json")
    converted = shell(f"{PROGRAM} convert {source} -o {low} --objective coverage {reader}")
    assert (converted.returncode, converted.stderr) == (0, "")
    assert low.exists()
    compared = shell(f"{PROGRAM} compare {source} {low} --tolerance 0 --json {figures} {reader}")
    assert (compared.returncode, compared.stderr) == (1, "")
    assert figures.exists()
    assert shell(f"{PROGRAM} convert {source.parent}/none.onnx 2>&1 {reader}").returncode == 2


@pytest.mark.parametrize("words", ["--help", "--version", "rules"])
def test_closed_streams_are_no_error(words: str) -> None:
    for closed in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        result = shell(f"{PROGRAM} {words} {closed}")
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_standard_output_is_named_and_the_file_is_whole(source: Path) -> None:
    target = source.with_name("out.onnx")
    result = shell(f"{PROGRAM} convert {source} -o {target} > /dev/full")
    assert result.returncode == 2
    assert result.stderr.startswith("ampgraph: standard output: No space left on device")
    assert result.stderr.count("\n") == 1
    assert ampgraph.convert(target).report.already_converted


def test_an_interruption_while_it_is_loaded_is_quiet(tmp_path: Path) -> None:
    """The first library that the command line imports takes its time, and says that it is there."""
    (tmp_path / "click.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "ampgraph", "--version"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert (process.returncode, said) == (-signal.SIGINT, "")
