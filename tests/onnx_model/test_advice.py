"""Advice names the nodes that would have to stay float32, by names that `--keep` finds in the source."""

import re
import shlex
from pathlib import Path

from onnx import ModelProto

from ampgraph.inspection.comparison import Advice
from ampgraph.onnx_model.advice import advice_for
from ampgraph.onnx_model.inventory import take_inventory
from ampgraph.onnx_model.io import Loaded
from tests.models import W, convert, parse
from tests.onnx_model.test_marks import RULE

SOURCE = parse(
    f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) [second] e = Exp(h) [third] y = MatMul(e, w) }}"
)
SOURCE.graph.node[0].name = "first (a)"


def advice(model: ModelProto, id: str, source: str = "model.onnx") -> Advice:
    return advice_for(take_inventory(Loaded(model, Path())), id, source)


def test_a_low_node_is_kept_itself_with_its_recorded_reason() -> None:
    found = advice(convert(SOURCE).model, "h")
    assert found.keep == ("first (a)",)
    assert found.why.startswith("float16: ")
    command = shlex.split(found.remedy)
    options = ["--target", "onnx", "--objective", "coverage"]
    assert command[:-1] == ["ampgraph", "convert", "model.onnx", *options, "--keep"]
    names = ("first (a)", "first (a)b", "second")
    assert [name for name in names if re.search(command[-1], name)] == ["first (a)"]


def test_the_readers_of_a_low_cast_are_kept() -> None:
    low = convert(SOURCE).model
    assert advice(low, "e_float16").keep == ("third",)
    assert advice(low, "x_float16").keep == ("first (a)",)


def test_a_float32_node_is_not_to_blame_for_what_it_is_given() -> None:
    found = advice(convert(SOURCE).model, "e")
    assert found.keep == ("first (a)",)
    assert found.why.startswith("float32: ")


def test_without_low_precision_there_is_nothing_to_keep() -> None:
    found = advice(SOURCE, "e")
    assert found.keep == ()
    assert found.why == ""
    assert "something else than precision" in found.remedy


def test_paths_are_quoted_for_a_shell() -> None:
    found = advice(convert(SOURCE).model, "h", "my model's.onnx")
    assert shlex.split(found.remedy)[2] == "my model's.onnx"


def test_the_options_of_the_conversion_are_part_of_what_is_advised(tmp_path: Path) -> None:
    low = convert(SOURCE, keep="^third$", low="second|first", shapes={"x": (2, 4)}).model
    command = shlex.split(advice(low, "h").remedy)
    pairs = list(zip(command[3::2], command[4::2], strict=True))
    words = dict(pairs)
    assert (words["--target"], words["--objective"], words["--shape"]) == ("onnx", "coverage", "x=2x4")
    again = convert(SOURCE, keep=[value for name, value in pairs if name == "--keep"], low=words["--low"])
    assert {op: again.plan.choices[f"{op}:T"].precision for op in ("first (a)", "second", "third")} == {
        "first (a)": "float32", "second": "float16", "third": "float32",
    }  # fmt: skip


def test_files_of_the_conversion_are_named(tmp_path: Path) -> None:
    plan, rules = tmp_path / "plan.json", tmp_path / "mine.toml"
    convert(SOURCE, save_plan=plan)
    assert advice(convert(SOURCE, plan=plan).model, "h").remedy == (
        "set first (a) to float32 in the plan that it was converted with"
    )
    rules.write_text(RULE)
    assert advice(convert(SOURCE, rules=rules).model, "h").remedy.endswith(" (and its --rules)")
