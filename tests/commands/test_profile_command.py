import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ampgraph import cli
from ampgraph.commands.profile import summary
from ampgraph.measured import CUDA, CastCost, MeasuredCosts, Whole, read, to_json
from ampgraph.precision import Precision
from tests.small_models import classifier, parse, random, saved

FLOAT32, FLOAT16, BFLOAT16 = Precision
SHAPE = ("--shape", "x=4096x512")
LAYERS = """g (float[N,512] x) => (float[N,512] y) {
    [first] a = MatMul(x, w) [second] b = Tanh(a) [third] c = MatMul(b, w) [last] y = Relu(c) }"""


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path / "model.onnx")


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    return saved(parse(LAYERS, w=random(512, 512)), tmp_path / "layers.onnx")


def costs_file(layers: Path, tmp_path: Path, **others: object) -> Path:
    """What an H100 might have been measured to take: Tanh is ten times slower in float16."""
    path = tmp_path / "costs.json"
    assert run("profile", layers, "--provider", "cpu", "--shape", "x=2x512", "-o", path).exit_code == 0
    content = json.loads(path.read_text()) | {"device": "NVIDIA H100 80GB HBM3", "launch": 5e-6}
    content |= {"provider": "CUDAExecutionProvider", "runtime": "onnxruntime 1.31.1"} | others
    content["cast"] = {"fixed": 2e-6, "per_byte": 4e-13}
    tensor, weight = "float32[4096,512]", "float32[512,512]="
    rows = (("MatMul", 13, [tensor, weight], 0.5), ("Tanh", 13, [tensor], 10), ("Relu", 14, [tensor], 0.5))
    content["ops"] = [
        {"op": op, "version": version, "attributes": {}, "inputs": inputs, "outputs": [tensor]}
        | {"seconds": {"float32": 1e-4, "float16": part * 1e-4, "bfloat16": None}}
        for op, version, inputs, part in rows
    ]
    path.write_text(json.dumps(content))
    return path


def test_a_profile_is_written_and_convert_takes_it(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.costs.json"
    result = run("profile", source, "--provider", "cpu", "--shape", "image=4x8x16x16")
    assert result.exit_code == 0, result.output
    assert "7 shape classes" in result.stdout
    assert "7 of 7 operators" in result.stdout
    assert f"wrote {target}" in result.stdout
    costs = read(target)
    assert any("float32[4,8,16,16]" in kind.inputs for kind in costs.entries)
    shown = run("convert", source, "--shape", "image=4x8x16x16", "--costs", target, "--dry-run")
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    assert "times of 7 of 7 ops were measured on" in words
    assert "warning: --costs were measured on CPUExecutionProvider" in words


def test_the_cut_spares_what_was_measured_to_be_slow(layers: Path, tmp_path: Path) -> None:
    costs, plan = costs_file(layers, tmp_path), tmp_path / "plan.json"
    result = run("convert", layers, *SHAPE, "--costs", costs, "--save-plan", plan)
    assert result.exit_code == 0, result.output
    found = {key: value["precision"] for key, value in json.loads(plan.read_text())["decisions"].items()}
    ops = {key.partition(":")[0]: precision for key, precision in found.items() if key.endswith(":T")}
    assert ops == {"first": "float16", "second": "float32", "third": "float16", "last": "float16"}
    assert "warning" not in result.stdout


def test_a_file_for_another_device_runtime_or_objective_is_said(layers: Path, tmp_path: Path) -> None:
    costs = costs_file(layers, tmp_path, runtime="onnxruntime 1.2.3")
    told = run("convert", layers, *SHAPE, "--costs", costs, "--device", "t4", "--objective", "memory", "--dry-run")
    words = " ".join(told.stdout.split())
    assert "were measured on NVIDIA H100 80GB HBM3, and the plan is for t4" in words
    assert "were measured with onnxruntime 1.2.3" in words
    assert "--costs says nothing under --objective memory" in words


def test_a_file_s_contents_are_part_of_the_digest(layers: Path, tmp_path: Path) -> None:
    costs, first = costs_file(layers, tmp_path), tmp_path / "first.onnx"
    assert run("convert", layers, *SHAPE, "--costs", costs, "-o", first).exit_code == 0
    moved = costs.rename(tmp_path / "moved.json")
    again = run("convert", first, *SHAPE, "--costs", moved, "-o", tmp_path / "again.onnx")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.onnx").read_bytes() == first.read_bytes()
    moved.write_text(moved.read_text().replace("5e-06", "6e-06"))
    refused = run("convert", first, *SHAPE, "--costs", moved, "-o", tmp_path / "third.onnx")
    assert refused.exit_code == 2
    assert "other options" in refused.stderr


def test_explain_speaks_of_measured_times(layers: Path, tmp_path: Path) -> None:
    shown = run("explain", layers, "second", *SHAPE, "--costs", costs_file(layers, tmp_path))
    assert shown.exit_code == 0
    assert "by itself: 1 ms in float16, 100 us in float32" in shown.stdout


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--provider", "tpu"), "--provider tpu: is not known here"),
        (("--shape", "picture=1x8"), "--shape picture: "),
        (("--shape", "image=0x8x16x16"), "--shape image: leaves every input of the model without elements; give sizes"),
        (("-o", "."), "-o .: is a directory"),
        (("--data", "none.npz"), "--data none.npz: cannot be read"),
        (("--data", "none.npz", "--shape", "image=1x8x16x16"), "--data and --shape: are both given"),
        (("--seconds", "0"), "--seconds 0: leaves no time to measure in; give a positive number"),
        (("--seconds", "-1"), "--seconds -1: leaves no time"),
        (("--seconds", "nan"), "--seconds nan: leaves no time"),
        (("--provider", "cpu", "--seconds", "1e-9"), "no operator of it could be measured"),
        (("-o", "/proc/costs.json"), "-o /proc/costs.json: cannot be written"),
    ],
)
def test_mistakes_are_one_line(source: Path, options: tuple[str, ...], fact: str) -> None:
    result = run("profile", source, *options)
    assert result.exit_code == 2
    assert fact in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(source.parent.iterdir()) == [source]


def test_nothing_is_written_over_without_being_asked(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "costs.json"
    target.write_text("mine")
    assert "exists already" in run("profile", source, "-o", target).stderr
    assert target.read_text() == "mine"


def test_real_inputs_set_the_shapes(source: Path, tmp_path: Path) -> None:
    data, target = tmp_path / "data.npz", tmp_path / "costs.json"
    np.savez(data, image=np.zeros((3, 8, 16, 16), np.float32))
    assert run("profile", source, "--provider", "cpu", "--data", data, "-o", target).exit_code == 0
    assert any("float32[3,8,16,16]" in kind.inputs for kind in read(target).entries)


def test_parts_that_explain_nothing_are_warned_of(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "costs.json"
    assert run("profile", source, "--provider", "cpu", "-o", target).exit_code == 0
    costs = read(target)
    assert any(line.startswith("warning") for line in summary(replace(costs, whole=Whole(1e-3, 5e-4, 7, 7))))
    assert not any(line.startswith("warning") for line in summary(replace(costs, whole=Whole(1e-3, 1e-3, 7, 7))))
    assert to_json(costs) == target.read_text()


def test_a_model_that_takes_no_time_has_no_ratio() -> None:
    costs = MeasuredCosts(
        "a device", CUDA, "onnxruntime", True, 3e-7, CastCost(1e-6, 0), whole=Whole(2.5e-9, 3e-7, 1, 1)
    )
    for launch in (3e-7, 0.0):
        *_, said = summary(replace(costs, launch=launch))
        assert said.startswith("whole model less than an operator takes to start (1 of 1 operators)")
    assert "ratio 0.60" in summary(replace(costs, whole=Whole(1e-6, 6e-7, 1, 1)))[-2]
