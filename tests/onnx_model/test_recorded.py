"""`ampgraph.diff`: plans in memory, plan files, and converted models that record their reasons."""

from pathlib import Path

import onnx
import pytest

import ampgraph
from ampgraph.errors import AmpgraphError, OptionError, PlanError
from tests.models import W, convert, parse

SOURCE = parse(
    f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ [p] h = MatMul(x, w) [e] k = Exp(h) [q] y = MatMul(k, w) }}"
)


@pytest.fixture
def plans(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one.json", tmp_path / "two.json"
    convert(SOURCE, save_plan=paths[0])
    convert(SOURCE, save_plan=paths[1], keep="^q$")
    return paths


def test_what_a_wish_changed_is_told(plans: tuple[Path, Path]) -> None:
    found = ampgraph.diff(*plans)
    (change,) = found.changes
    assert change.decisions == ("q:T",)
    assert change.before is not None
    assert change.after is not None
    assert (change.before.precision, change.after.precision, change.after.cause) == ("float16", "float32", "user")
    assert {cast.value for cast in found.casts_removed} == {"k", "y"}
    assert [(change.parameter, change.after) for change in found.parameters] == [("w", ("float32", "float16"))]
    assert not found.same


def test_plans_in_memory_files_and_models_tell_the_same(plans: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = convert(SOURCE), convert(SOURCE, keep="^q$")
    held = ampgraph.diff(one.plan, two.plan)
    from_files = ampgraph.diff(*plans)
    assert held.changes == from_files.changes
    assert held.casts_removed == from_files.casts_removed
    onnx.save(one.model, tmp_path / "one.onnx")
    models = ampgraph.diff(tmp_path / "one.onnx", two.model)
    assert [change.decisions for change in models.changes] == [("q",)]
    assert models.changes[0].after is not None
    assert models.changes[0].after.why == from_files.changes[0].after.why  # type: ignore[union-attr]
    assert models.casts_removed == from_files.casts_removed
    assert ampgraph.diff(one.model, one.model).same
    assert ampgraph.diff(plans[0], plans[0]).same


def test_a_model_that_nobody_converted_may_stand_beside_a_conversion() -> None:
    found = ampgraph.diff(SOURCE, convert(SOURCE).model)
    assert {id for change in found.changes for id in change.decisions} == {"p", "q"}
    assert found.changes[0].before is not None
    assert found.changes[0].before.why == "as it was found"


def test_results_are_plans_too(plans: tuple[Path, Path]) -> None:
    first, second = convert(SOURCE), convert(SOURCE, keep="^q$")
    assert ampgraph.diff(first, first).same
    assert ampgraph.diff(first, second) == ampgraph.diff(first.plan, second.plan)
    assert ampgraph.diff(plans[0], second).changes == ampgraph.diff(*plans).changes
    with pytest.raises(PlanError, match="give two plans or two models"):
        ampgraph.diff(first, second.model)


def test_mistakes_are_one_line(plans: tuple[Path, Path], tmp_path: Path) -> None:
    other = convert(parse("g (float[2] a) => (float[2] b) { [z] b = Neg(a) }"))
    for pair, kind, said in (
        ((plans[0], other.plan), PlanError, "of different models"),
        ((plans[0], SOURCE), PlanError, "give two plans or two models"),
        ((plans[0], 3), OptionError, "plan of type int: is no plan"),
        ((plans[0], tmp_path / "none.json"), OptionError, "cannot be read"),
        ((tmp_path / "none.onnx", SOURCE), AmpgraphError, "no such file"),
    ):
        with pytest.raises(kind, match=said):
            ampgraph.diff(*pair)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="is not text"):
        ampgraph.diff(plans[0], tmp_path / "bytes.json")
