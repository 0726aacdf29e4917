"""The report: every figure of it against a model small enough to count by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ampgraph.api import convert
from ampgraph.kernels import onnxruntime_cuda
from ampgraph.onnx_model.check import Check
from ampgraph.onnx_model.compare import OutputError
from ampgraph.report import Coverage, Report, to_json
from ampgraph.report_text import WIDTH, to_text
from ampgraph.rule_list import rules_text
from ampgraph.rulebook import load_builtin
from tests.small_models import classifier, parse, random


@pytest.fixture(scope="module")
def report() -> Report:
    return convert(classifier(), objective="coverage", shapes={"image": (2, 8, 16, 16)}).report


def test_nodes_casts_and_parameters_are_counted(report: Report) -> None:
    assert report.nodes == {"float16": 5, "float32": 3}
    assert report.casts == 2
    assert report.cast_bytes == (2 * 8 * 16 * 16 + 2 * 4) * 6
    weights = 8 * 8 * 3 * 3 + 8 * 4
    assert report.parameter_bytes_before == weights * 4 + 8
    assert report.parameter_bytes_after == weights * 2 + 8
    assert report.coverage == Coverage(eligible=2, low=2)
    assert not report.kept_parameters


def test_a_float64_is_no_lack_of_floats() -> None:
    text = "g (double[4] x, int64[4] n) => (double[4] y, int64[4] m) { y = Add(x, x) m = Add(n, n) }"
    report = convert(parse(text)).report
    assert report.nodes == {"float16": 0, "float32": 0, "float64": 1, "other": 1}
    assert "1 float64, 1 without floats" in to_text(report)


def test_what_stayed_float32_is_grouped_by_reason(report: Report) -> None:
    rule, taint = report.kept
    assert (rule.cause, rule.rule, rule.count) == ("rule", "sum-of-exponentials", 2)
    assert rule.types == {"Exp": 1, "ReduceSum": 1}
    assert rule.examples == ("exp", "total")
    assert (taint.cause, taint.count, taint.why) == ("taint", 1, "follows Exp 'exp', which stays float32")


def test_parameters_that_stayed_float32_say_why() -> None:
    tiny = np.full((8, 4), 1e-9, np.float32)
    text = "g (float[1,8] x) => (float[1,4] y) { [sum] h = Add(x, bias)  [product] y = MatMul(h, tiny) }"
    report = convert(parse(text, bias=random(8), tiny=tiny), objective="coverage").report
    kept = {parameter.name: parameter for parameter in report.kept_parameters}
    assert kept["tiny"].cause == "parameter"
    assert kept["tiny"].consumer == "product"
    assert kept["tiny"].bytes == 128
    assert "tiny (128 bytes, read by product)" in to_text(report)


def test_times_and_bytes_are_those_of_the_plan() -> None:
    shapes = {"image": (512, 8, 16, 16)}
    speed, memory = (convert(classifier(), objective=name, shapes=shapes) for name in ("speed", "memory"))
    for result in (speed, memory):
        assert (result.report.before, result.report.after) == (result.plan.baseline, result.plan.cost)
        assert result.report.after <= result.report.before
        assert result.report.source_price == result.report.before
    assert "modelled time" in to_text(speed.report)
    assert "modelled memory" in to_text(memory.report)
    assert "modelled" not in to_text(convert(classifier(), objective="coverage").report).split("\n\n")[0]


def test_assumed_shapes_are_said_to_be() -> None:
    assumed = convert(classifier(), dry_run=True).report
    assert assumed.assumed == ("image",)
    assert "image=1x8x16x16 (free dimensions of image are assumed" in to_text(assumed)
    given = convert(classifier(), dry_run=True, shapes={"image": (4, 8, 16, 16)}).report
    assert given.assumed == ()


def test_operators_without_rule_and_without_cuda_kernel_are_named() -> None:
    text = """g (float[1,8] x, float[1,8] z) => (float[1,4] y) {
        h = custom.Mystery(x)  p = MatMul(h, w)  y = Atan(p) }"""
    report = convert(parse(text, w=random(8, 4)), objective="coverage").report
    assert report.unknown_ops == {"custom.Mystery": 1}
    assert report.cpu_ops == {"Atan": 1}
    shown = to_text(report)
    assert "no rule knows: 1 custom.Mystery" in shown
    assert "on the CPU provider in any precision: 1 Atan" in shown
    assert convert(parse(text, w=random(8, 4)), target="onnx", objective="coverage").report.cpu_ops == {}


def test_opsets_that_would_help_are_named() -> None:
    report = convert(classifier(), precision="bfloat16", objective="coverage").report
    assert report.needed_opsets == {"Conv": 22, "GlobalAveragePool": 22}
    said = to_text(report).split("\n\n")[0].replace("\n", " ")
    assert "Conv, GlobalAveragePool admit bfloat16 in later opsets alone: give --opset 22 to convert all" in said
    assert "no bfloat16 kernels" in to_text(report).replace("\n", " ")
    alone = replace(report, needed_opsets={"Conv": 22})
    assert "Conv admits bfloat16 in later opsets alone: give --opset 22 to convert it" in to_text(alone)
    many = replace(report, needed_opsets={f"Op{number}": 13 + number for number in range(9)})
    assert "Op5 and 3 more admit" in to_text(many).replace("\n", " ")
    assert to_text(many).count("--opset") == 1
    assert "--opset 21" in to_text(many)


def test_nothing_warns_of_bfloat16_where_nothing_is_in_it() -> None:
    old = parse("g (float[4,8] x) => (float[4,4] y) { y = MatMul(x, w) }", w=random(8, 4))
    old.opset_import[0].version = 11
    report = convert(old, precision="bfloat16", objective="coverage").report
    assert report.nodes["bfloat16"] == 0
    assert report.warnings == ()
    assert "nothing to convert" in to_text(report)
    assert "give --opset 13" in to_text(report)


def test_another_runtime_than_the_tables_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ampgraph.report.metadata.version", lambda package: "0.0.1")
    (warning,) = convert(classifier()).report.warnings
    assert onnxruntime_cuda().version in warning
    assert "0.0.1" in warning


def test_options_that_say_nothing_are_warned_of() -> None:
    native = {"cuda_graph": True, "native": True}
    low = convert(classifier(), objective="memory", **native).report.warnings
    assert "--cuda-graph says nothing under --objective memory" in low
    assert "--native says nothing under --objective memory" in low
    other = convert(classifier(), precision="bfloat16", **native).report.warnings
    assert any("--native says nothing of bfloat16" in warning for warning in other)
    assert not any("says nothing" in warning for warning in convert(classifier(), **native).report.warnings)


def test_nothing_to_convert_says_so_and_why() -> None:
    integers = convert(parse("g (int64[4] x) => (int64[4] y) { y = Abs(x) }")).report
    assert "nothing to convert: the model is written as it is" in to_text(integers)
    assert integers.coverage.share is None
    costly = convert(classifier()).report
    assert costly.changes_nothing
    assert costly.lowers_nothing
    assert "pays nowhere at these shapes" in to_text(costly).split("\n\n")[0].replace("\n", " ")


def test_coverage_does_not_recommend_itself() -> None:
    report = convert(parse("g (float[3] x) => (float[3] y) { y = Relu(x) }"), objective="coverage").report
    head = to_text(report).split("\n\n")[0].replace("\n", " ")
    assert "nothing that may be float16 is worth a cast; the model is written as it is" in head
    assert "--objective coverage" not in head


def test_printing_a_report_gives_the_text_and_looking_at_it_one_line(report: Report) -> None:
    assert str(report) == to_text(report)
    assert not report.lowers_nothing
    assert repr(report) == f"<ampgraph.Report classifier: 5 float16, 3 float32, {report.casts} casts>"


def test_the_json_report_is_whole(report: Report) -> None:
    content = json.loads(to_json(report))
    assert content["coverage"] == {"eligible": 2, "low": 2, "share": 1.0}
    assert content["kept"][0]["rule"] == "sum-of-exponentials"
    assert content["shapes"] == {"image": [2, 8, 16, 16]}
    assert set(content) == {"format", *Report.__dataclass_fields__}


def test_text_keeps_to_its_width(report: Report) -> None:
    errors = (OutputError("y" * 100, 0.1, 0.2), OutputError("z", np.inf, np.inf, 0, "missing"))
    check = Check("CPUExecutionProvider", True, "generated", 0.03, errors, "no kernel", ("a",), 3, ("it failed",))
    long = replace(report, source="model" * 40, notes=("word " * 60,), checker="complaint " * 30, check=check)
    for text in (to_text(long), rules_text(load_builtin())):
        assert max(map(len, text.splitlines())) <= WIDTH
        assert text.isascii() or text.count("\n") > 500  # rules may quote what they like
    assert "FAILED: it failed" in to_text(long)
    assert "the runtime keeps 2" in to_text(long)
