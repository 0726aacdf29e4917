"""The Python surface, through real files and real runtimes."""

import builtins
import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto

import ampgraph
from ampgraph import errors
from ampgraph.api import Result, convert, examine
from ampgraph.errors import CheckError, ModelError, OptionError, PlanError, RequirementError
from ampgraph.onnx_model.compare import compare
from ampgraph.onnx_model.run import random_inputs
from ampgraph.onnx_model.simulate import simulate
from tests.small_models import classifier, element_types, parse, random, saved, unmarked


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return saved(classifier(), tmp_path / "model.onnx")


def test_names_of_the_package() -> None:
    assert ampgraph.convert is convert
    assert ampgraph.Result is Result
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ampgraph.nothing  # noqa: B018
    assert set(ampgraph.__all__) <= set(dir(ampgraph))
    assert ampgraph.__all__ == sorted(ampgraph.__all__)
    assert all(getattr(ampgraph, name) is not None for name in ampgraph.__all__)


def test_every_error_that_a_public_docstring_names_is_public() -> None:
    """All kinds of errors are; what is named is one of them, or Python's own."""
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert kinds <= set(ampgraph.__all__)
    for name in ampgraph.__all__:
        public = getattr(ampgraph, name)
        members = vars(public).values() if isinstance(public, type) else ()
        said = " ".join(filter(None, (getattr(each, "__doc__", "") for each in (public, *members))))
        for error in re.findall(r"\b[A-Z]\w*Error\b", said):
            assert error in ampgraph.__all__ or hasattr(builtins, error), f"{name} names {error}"


def test_results_and_plans_are_one_line_to_look_at(source: Path) -> None:
    result = convert(source, objective="coverage")
    assert repr(result) == f"<ampgraph.Result model.onnx: 5 float16, 3 float32, {len(result.plan.casts)} casts>"
    for each in (result, result.plan, result.planned, result.converted):
        assert "model.onnx" in repr(each)
        assert len(repr(each)) < 150


def test_a_conversion_in_memory_leaves_the_source_alone() -> None:
    model = classifier()
    before = model.SerializeToString(deterministic=True)
    result = convert(model, objective="coverage")
    assert model.SerializeToString(deterministic=True) == before
    assert result.path is None
    assert element_types(result.model) == element_types(model)
    assert result.plan.precision == "float16"
    assert result.report.nodes == {"float16": 5, "float32": 3}
    (error,) = compare(model, simulate(result.model), random_inputs(model))
    assert 0 < error.relative < 1e-2


def test_a_conversion_to_a_file(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    result = convert(source, target, objective="coverage")
    assert result.path == target
    onnx.checker.check_model(str(target), full_check=True)
    assert result.model == onnx.load(target)
    assert files(tmp_path) == ["model.onnx", "out.onnx"]


def test_same_bytes_from_run_to_run(source: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        convert(source, tmp_path / name, objective="coverage")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_second_conversion_is_byte_identical(source: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    convert(source, once, objective="coverage")
    result = convert(once, twice, objective="coverage")
    assert once.read_bytes() == twice.read_bytes()
    assert result.report.already_converted
    assert result.report.nodes["float16"] > 0


def test_a_second_conversion_with_other_options_is_refused(source: Path, tmp_path: Path) -> None:
    once = tmp_path / "once.onnx"
    convert(source, once, objective="coverage")
    with pytest.raises(ModelError, match="convert the float32 source instead"):
        convert(once, tmp_path / "twice.onnx", objective="memory")
    assert not (tmp_path / "twice.onnx").exists()


def test_nothing_to_convert_is_written_as_it_is_but_for_marks(tmp_path: Path) -> None:
    source = saved(parse("integers (int64[4] x) => (int64[4] y) { y = Abs(x) }"), tmp_path / "model.onnx")
    result = convert(source, tmp_path / "out.onnx")
    assert unmarked(onnx.load(tmp_path / "out.onnx")) == onnx.load(source)
    assert result.report.changes_nothing
    again = convert(tmp_path / "out.onnx", tmp_path / "again.onnx")
    assert again.report.already_converted
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "out.onnx").read_bytes()


def test_what_was_left_alone_says_so_and_may_be_converted_with_other_options(source: Path, tmp_path: Path) -> None:
    """A model that hardly pays at batch 1 is as good as its source: nothing is lost by trying again."""
    alone, low, direct = tmp_path / "alone.onnx", tmp_path / "low.onnx", tmp_path / "direct.onnx"
    first = convert(source, alone)
    assert first.report.changes_nothing
    assert unmarked(onnx.load(alone)) == onnx.load(source)
    assert "less than a model can tell" in " ".join(examine(alone).explain("conv").split())
    assert not convert(alone, low, objective="coverage").report.already_converted
    convert(source, direct, objective="coverage")
    assert low.read_bytes() == direct.read_bytes()
    with pytest.raises(ModelError, match="convert the float32 source instead"):
        convert(low, objective="memory")


def test_the_low_interface_is_by_name_or_all() -> None:
    every = element_types(convert(classifier(), io="low", objective="coverage").model)
    some = element_types(convert(classifier(), io="^im", objective="coverage").model)
    assert set(every.values()) == {TensorProto.FLOAT16}
    assert some == {"image": TensorProto.FLOAT16, "scores": TensorProto.FLOAT}


@pytest.mark.parametrize("io", ["low", "^{}$"])
def test_a_check_compares_the_numbers_of_outputs_that_were_asked_to_be_low(io: str) -> None:
    model = classifier()
    name = model.graph.output[0].name
    result = convert(model, io=io.format(name), objective="coverage", check=True)
    assert element_types(result.model)[name] == onnx.TensorProto.FLOAT16
    assert result.check.outputs[0].mismatch == ""


def test_bfloat16_says_what_it_cannot_do() -> None:
    result = convert(classifier(), precision="bfloat16", objective="coverage", opset=22)
    assert result.report.nodes["bfloat16"] > 0
    assert any("CPU provider" in warning for warning in result.report.warnings)


def test_sources_of_other_libraries() -> None:
    model = classifier()
    from_ir = convert(onnx_ir.from_proto(model), objective="coverage")
    assert from_ir.report.nodes["float16"] == 5
    with pytest.raises(OptionError, match="is no model"):
        convert(object())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"destination": 3}, "destination: is of type int; give the path of a file"),
        ({"report": 3}, "report: is of type int"),
        ({"data": 3, "check": True}, "data of type int: is neither arrays by name nor a file of them"),
        ({"require": "coverage"}, "require: is 'coverage'; give numbers by name"),
        ({"require": {"coverage": "0.9"}}, "require: is {'coverage': '0.9'}; give numbers by name"),
        ({"example_args": (1,)}, "example_args: is for torch modules, and the source is of type ModelProto"),
    ],
)
def test_arguments_of_a_wrong_type_are_one_line(words: dict, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        convert(classifier(), **words)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_plan_is_given_as_a_file() -> None:
    with pytest.raises(
        OptionError, match="plan: is of type Plan; give the path of a plan file, such as save_plan=FILE"
    ):
        convert(classifier(), plan=convert(classifier()).plan)


def test_several_names_are_held_back() -> None:
    model = classifier()
    names = [node.name for node in model.graph.node][:2]
    found = convert(model, keep=[f"^{name}$" for name in names], objective="coverage")
    assert all("user: --keep" in found.explain(name) for name in names)


def test_a_torch_module_needs_example_arguments() -> None:
    import torch

    with pytest.raises(OptionError, match="example_args"):
        convert(torch.nn.Linear(2, 2))


def test_a_plan_is_saved_edited_and_applied(source: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    convert(source, tmp_path / "a.onnx", objective="coverage", save_plan=plan)
    again = convert(source, tmp_path / "b.onnx", objective="coverage", plan=plan)
    assert again.report.nodes["float16"] == 5
    assert not again.report.notes
    text = plan.read_text()
    plan.write_text(text.replace('"conv:T": {"precision": "float16"', '"conv:T": {"precision": "float32"'))
    edited = convert(source, tmp_path / "c.onnx", objective="coverage", plan=plan)
    assert edited.report.nodes["float16"] == 4
    said = f"casts and parameters in {plan} are not those of its decisions, which alone are read"
    assert said in edited.report.notes
    assert not edited.report.already_converted
    plan.write_text(text.replace('"exp:T": {"precision": "float32"', '"exp:T": {"precision": "float16"'))
    with pytest.raises(PlanError, match=r"exp:T.*may not be float16"):
        convert(source, tmp_path / "d.onnx", objective="coverage", plan=plan)
    assert not (tmp_path / "d.onnx").exists()


def test_an_edit_of_what_follows_from_decisions_is_told_and_not_read(source: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    first = convert(source, objective="coverage", save_plan=plan)
    plan.write_text(plan.read_text().replace('"kernel": ["float16"]', '"kernel": ["float32"]'))
    edited = convert(source, objective="coverage", plan=plan)
    assert edited.plan.parameters == first.plan.parameters
    assert edited.report.notes == (f"parameters in {plan} are not those of its decisions, which alone are read",)


@pytest.mark.parametrize(("wish", "option"), [({"low": "^exp$"}, "--low"), ({"io": "low"}, "--io")])
def test_a_plan_of_wishes_names_the_one_that_is_not_repeated(
    source: Path, tmp_path: Path, wish: dict[str, str], option: str
) -> None:
    plan = tmp_path / "plan.json"
    convert(source, objective="coverage", save_plan=plan, **wish)
    assert convert(source, objective="coverage", plan=plan, **wish).plan.low
    with pytest.raises(PlanError, match=f"[^.]; give {option} as when it was saved, or set it back to float32"):
        convert(source, objective="coverage", plan=plan)


def test_requirements_are_met_or_nothing_is_written(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    convert(source, target, objective="coverage", require={"coverage": 0.9})
    target.unlink()
    with pytest.raises(RequirementError, match=r"coverage 0\.500.* without --require shows") as caught:
        convert(source, target, objective="coverage", keep="conv", require={"coverage": 0.9})
    assert caught.value.exit_code == 3
    assert files(tmp_path) == ["model.onnx"]


def test_coverage_of_nothing_meets_no_requirement() -> None:
    model = parse("tiny (float[4] x) => (float[4] y) { y = Relu(x) }")
    with pytest.raises(RequirementError, match="no operator"):
        convert(model, require={"coverage": 0.0})


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    result = convert(source, tmp_path / "out.onnx", objective="coverage", dry_run=True)
    assert files(tmp_path) == ["model.onnx"]
    assert result.path is None
    assert any(node.op_type == "Cast" for node in result.model.graph.node)
    (tmp_path / "out.onnx").write_text("here already")
    convert(source, tmp_path / "out.onnx", dry_run=True)
    assert (tmp_path / "out.onnx").read_text() == "here already"
    with pytest.raises(OptionError, match="is also an input"):
        convert(source, source, dry_run=True)


@pytest.mark.parametrize("checked", [False, True])
def test_a_dry_run_writes_what_is_asked_for_by_name(source: Path, tmp_path: Path, checked: bool) -> None:
    plan, report = tmp_path / "plan.json", tmp_path / "report.json"
    (tmp_path / "out.onnx").write_text("here already")
    wishes = {"save_plan": plan, "report": report, "objective": "coverage", "check": checked}
    result = convert(source, tmp_path / "out.onnx", dry_run=True, **wishes)
    assert result.path is None
    assert (tmp_path / "out.onnx").read_text() == "here already"
    told = json.loads(report.read_text())
    assert told["nodes"] == dict(result.report.nodes)
    assert bool(told["check"]) is checked
    written = convert(source, tmp_path / "real.onnx", plan=plan, objective="coverage")
    assert written.plan.low == result.plan.low
    with pytest.raises(OptionError, match=r"plan\.json: exists already"):
        convert(source, dry_run=True, save_plan=plan)
    with pytest.raises(RequirementError):
        convert(source, dry_run=True, report=tmp_path / "unmet.json", require={"coverage": 1.0})
    assert not (tmp_path / "unmet.json").exists()


def test_notes_name_the_rule_that_a_wish_overrules() -> None:
    result = convert(classifier(), objective="coverage", low="exp")
    assert any("--low exp overrules sum-of-exponentials" in note for note in result.report.notes)
    kept = convert(classifier(), objective="coverage", keep="^conv$")
    assert any("--keep conv overrules convolution" in note for note in kept.report.notes)


def test_existing_outputs_need_force(source: Path, tmp_path: Path) -> None:
    for name in ("out.onnx", "plan.json", "report.json"):
        (tmp_path / name).write_text("precious")
    wishes = {"save_plan": tmp_path / "plan.json", "report": tmp_path / "report.json"}
    for name, path in {"destination": tmp_path / "out.onnx", **wishes}.items():
        with pytest.raises(OptionError, match="exists already"):
            convert(source, **{name: path})
    assert {(tmp_path / name).read_text() for name in ("out.onnx", "plan.json", "report.json")} == {"precious"}
    convert(source, tmp_path / "out.onnx", force=True, **wishes)
    assert "precious" not in (tmp_path / "plan.json").read_text()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_the_source_is_never_written_over(source: Path, tmp_path: Path, link) -> None:
    alias = tmp_path / "alias.onnx"
    link(source, alias)
    before = source.read_bytes()
    for target in (source, alias, tmp_path / "." / "model.onnx"):
        with pytest.raises(OptionError, match="is also an input"):
            convert(source, target, force=True)
    assert source.read_bytes() == before


def test_a_link_as_destination_is_replaced_and_its_target_kept(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_text("precious")
    alias = tmp_path / "alias.onnx"
    alias.symlink_to(other)
    convert(source, alias, objective="coverage", force=True)
    assert other.read_text() == "precious"
    assert not alias.is_symlink()
    onnx.checker.check_model(str(alias))


def external(path: Path) -> Path:
    model = parse("big (float[1,64] x) => (float[1,64] y) { y = MatMul(x, weight) }", weight=random(64, 64))
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    return path


def test_external_data_is_rounded_and_written_beside_the_model(tmp_path: Path) -> None:
    source = external(tmp_path / "model.onnx")
    before = (tmp_path / "model.onnx.data").read_bytes()
    result = convert(source, tmp_path / "out.onnx", objective="coverage", check=True)
    assert files(tmp_path) == ["model.onnx", "model.onnx.data", "out.onnx", "out.onnx.data"]
    assert (tmp_path / "model.onnx.data").read_bytes() == before
    assert (tmp_path / "out.onnx.data").stat().st_size == 64 * 64 * 2
    assert result.check is not None
    assert convert(source, objective="coverage").model.graph.initializer[0].data_type == TensorProto.FLOAT16


def test_external_data_of_source_or_strangers_is_not_written_over(tmp_path: Path) -> None:
    source = external(tmp_path / "model.onnx")
    renamed = source.rename(tmp_path / "renamed.onnx")
    with pytest.raises(OptionError, match=r"model\.onnx\.data: is also an input"):
        convert(renamed, tmp_path / "model.onnx", objective="coverage", force=True)
    (tmp_path / "out.onnx.data").write_text("precious")
    with pytest.raises(OptionError, match=r"out\.onnx\.data: exists already"):
        convert(renamed, tmp_path / "out.onnx", objective="coverage")
    assert (tmp_path / "out.onnx.data").read_text() == "precious"


def test_a_second_conversion_with_external_data_keeps_the_data(tmp_path: Path) -> None:
    convert(external(tmp_path / "model.onnx"), tmp_path / "once.onnx", objective="coverage")
    convert(tmp_path / "once.onnx", tmp_path / "twice.onnx", objective="coverage")
    assert (tmp_path / "once.onnx.data").read_bytes() == (tmp_path / "twice.onnx.data").read_bytes()
    assert onnx.load(tmp_path / "once.onnx") == onnx.load(tmp_path / "twice.onnx")


def test_the_check_compares_and_looks_into_the_runtimes_graph(source: Path, tmp_path: Path) -> None:
    check = convert(source, tmp_path / "out.onnx", objective="coverage", check=True).check
    assert check is not None
    assert [output.name for output in check.outputs] == ["scores"]
    assert 0 < check.outputs[0].relative < check.bar
    assert check.judged == 3
    assert not check.lowered
    assert not check.cpu_complaint


def test_a_failed_check_writes_nothing(tmp_path: Path) -> None:
    """Products of 300 with 300 overflow float16 once they are forced into it."""
    text = "square (float[4] x, float[4] z) => (float[4] y) { [square] y = Mul(x, z) }"
    source = saved(parse(text), tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", x=np.full(4, 300.0, np.float32), z=np.full(4, 300.0))
    with pytest.raises(CheckError, match="infinite or NaN") as caught:
        convert(
            source, tmp_path / "out.onnx", low="square", report=tmp_path / "r.json", check=True,
            data=tmp_path / "data.npz",
        )  # fmt: skip
    assert caught.value.exit_code == 1
    assert caught.value.check.failures
    assert files(tmp_path) == ["data.npz", "model.onnx"]


def test_a_source_that_does_not_run_cannot_be_checked() -> None:
    model = parse("custom (float[4] x) => (float[4] y) { h = custom.Mystery(x)  y = Relu(h) }")
    with pytest.raises(ModelError, match="does not run") as told:
        convert(model, check=True)
    assert told.value.exit_code == 2  # 1 is for answers that differ


def test_inputs_of_the_check_are_held_against_the_model(source: Path, tmp_path: Path) -> None:
    image = np.zeros((1, 8, 16, 16), np.float32)
    for arrays, complaint in (
        ({}, "has no array for the input 'image'"),
        ({"image": image, "more": image}, "'more' that is no input"),
    ):
        np.savez(tmp_path / "data.npz", **arrays)
        with pytest.raises(OptionError, match=complaint):
            convert(source, check=True, data=tmp_path / "data.npz")
    (tmp_path / "text.npz").write_text("not arrays")
    with pytest.raises(OptionError, match=r"is no \.npz file"):
        convert(source, check=True, data=tmp_path / "text.npz")


def test_examine_takes_a_converted_model_as_it_is(source: Path, tmp_path: Path) -> None:
    """With the device, objective and shapes that it remembers, unless others are given."""
    convert(source, tmp_path / "out.onnx", objective="coverage", device="t4", shapes={"image": (3, 8, 16, 16)})
    result = examine(tmp_path / "out.onnx")
    assert result.report.already_converted
    options = result.planned.options
    assert (options.device, options.objective, result.planned.shapes) == ("t4", "coverage", {"image": (3, 8, 16, 16)})
    other = examine(tmp_path / "out.onnx", device="h100", shapes={"image": (1, 8, 16, 16)}).planned
    assert (other.options.device, other.shapes) == ("h100", {"image": (1, 8, 16, 16)})
