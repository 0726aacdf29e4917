"""What changed between two recorded plans, and what is of different models."""

import json
from dataclasses import fields, replace

import jsonschema
import pytest

from ampgraph.errors import PlanError
from ampgraph.inspection.plan_diff import FORMAT, ParameterChange, PlanDiff, difference, to_json
from ampgraph.inspection.recorded_plan import Line, Recorded
from ampgraph.inspection.schema import DIFF_FILE, diff_schema, shipped
from ampgraph.placement import Cast
from ampgraph.plan import Replacement
from ampgraph.precision import Precision

LOW = Line("float16", "cost", "1 us against 2 us")
RULE = Line("float32", "rule", "squares vanish", "mean-of-squares")
COST = Line("float32", "cost", "nothing to gain: 3 us")


def recorded(name: str = "a.json", **facts: object) -> Recorded:
    """A plan of four decisions."""
    lines = {"input:x": COST, "a:T": LOW, "b:T": LOW, "c:T": RULE}
    return Recorded(
        **{
            "name": name, "kind": "plan", "model": "m.onnx", "precision": "float16", "objective": "speed", "fused": "",
            "unit": "picoseconds", "cost": 2_000_000, "decisions": lines,
            "casts": frozenset({Cast("x", Precision.FLOAT16, "")}), "parameters": {"w": ("float16",)}, **facts,
        }
    )  # fmt: skip


def test_a_plan_is_the_same_as_itself() -> None:
    found = difference(recorded(), recorded("b.json"))
    assert found.same
    assert (found.changes, found.reasons, found.reworded, found.facts, found.decisions) == ((), (), 0, (), 4)


def test_changes_are_grouped_by_precision_and_ground() -> None:
    lines = {"input:x": COST, "a:T": RULE, "b:T": RULE, "c:T": LOW}
    found = difference(recorded(), recorded("b.json", decisions=lines))
    assert [(change.before, change.after, change.decisions) for change in found.changes] == [
        (LOW, RULE, ("a:T", "b:T")),
        (RULE, LOW, ("c:T",)),
    ]
    assert not found.same


def test_other_reasons_for_the_same_are_no_other_plan() -> None:
    lines = {**recorded().decisions, "c:T": COST, "a:T": replace(LOW, why="1 us against 5 us")}
    found = difference(recorded(), recorded("b.json", decisions=lines, cost=5))
    assert [change.decisions for change in found.reasons] == [("c:T",)]
    assert found.reworded == 1
    assert found.same
    assert (found.price.before, found.price.after) == (2_000_000, 5)


def test_without_a_cause_the_sentence_is_the_ground() -> None:
    def model(why: str) -> Recorded:
        return recorded(kind="model", decisions={"c": Line("float32", "", why)})

    same = difference(model("follows Sub 'a.0', 3.5 us"), model("follows Sub 'b.1', 4 us"))
    assert (same.reasons, same.reworded) == ((), 1)
    other = difference(model("follows Sub 'a.0'"), model("no rule knows it"))
    assert len(other.reasons) == 1


def test_casts_parameters_and_decisions_of_one_alone() -> None:
    lines = {key: line for key, line in recorded().decisions.items() if key != "c:T"}
    up = Cast("a", Precision.FLOAT32, "")
    parameters = {"w": ("float32", "float16"), "v": ("float16",)}
    found = difference(
        recorded(), recorded("b.json", decisions={**lines, "d:T": LOW}, casts=frozenset({up}), parameters=parameters)
    )
    assert [change.decisions for change in found.removed] == [("c:T",)]
    assert [change.decisions for change in found.added] == [("d:T",)]
    assert (found.casts_removed, found.casts_added) == ((Cast("x", Precision.FLOAT16, ""),), (up,))
    assert found.parameters == (
        ParameterChange("w", ("float16",), ("float32", "float16")),
        ParameterChange("v", (), ("float16",)),
    )


def test_the_whole_is_json() -> None:
    found = json.loads(to_json(difference(recorded(), recorded("b.json", objective="memory"))))
    facts = [{"name": "objective", "before": "speed", "after": "memory"}]
    assert (found["format"], found["same"], found["facts"]) == (FORMAT, True, facts)


def test_its_schema_is_shipped_and_names_every_field() -> None:
    assert shipped(DIFF_FILE) == diff_schema()
    schema = json.loads(shipped(DIFF_FILE))
    jsonschema.Draft202012Validator.check_schema(schema)
    found = json.loads(to_json(difference(APART, TOGETHER)))
    jsonschema.Draft202012Validator(schema).validate(found)
    part = schema["$defs"]["PlanDiff"]
    assert (
        set(part["required"])
        == set(part["properties"])
        == {field.name for field in fields(PlanDiff)} | {"format", "same"}
    )
    for key, wrong in (("format", 1), ("same", "yes"), ("reworded", None), ("fused", [1]), ("more", 1)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**found, key: wrong}, schema)


APART = recorded()
TOGETHER = recorded(
    "b.json", decisions={"input:x": COST, "k:T": LOW, "d:T": LOW}, fused="1 K",
    replaced={"k": Replacement("my.K", ("a", "b", "c", "gone"))},
)  # fmt: skip


def test_what_became_part_of_a_fused_node_is_told_with_both_reasons() -> None:
    found = difference(APART, TOGETHER)
    moved, kept = found.fused
    assert (moved.type, moved.side, moved.nodes, moved.decisions) == ("my.K", "second", ("k",), ("c:T",))
    assert (moved.before, moved.after, moved.is_moved) == (RULE, LOW, True)
    assert (kept.decisions, kept.is_moved) == (("a:T", "b:T"), False)
    assert found.removed == ()
    assert [change.decisions for change in found.added] == [("d:T",)]
    assert not found.same
    back = difference(TOGETHER, APART).fused[0]
    assert (back.before, back.after, back.side, back.decisions) == (LOW, RULE, "first", ("c:T",))


def test_two_plans_fused_alike_have_nothing_to_tell_of_it() -> None:
    assert difference(TOGETHER, replace(TOGETHER, name="c.json")).same
    assert difference(TOGETHER, replace(TOGETHER, name="c.json")).fused == ()


def test_parts_of_fused_nodes_count_as_shared() -> None:
    """Most of a transformer's decisions may be fused away: two conversions of it are of one model all the same."""
    alone = recorded("b.json", decisions={"k:T": LOW}, replaced={"k": Replacement("my.K", ("a", "b", "c"))})
    assert len(difference(APART, alone).fused) == 2
    with pytest.raises(PlanError, match="of different models"):
        difference(APART, replace(alone, replaced={}))


def test_other_models_and_other_kinds_are_refused() -> None:
    other = {f"{key}'": line for key, line in recorded().decisions.items()}
    with pytest.raises(PlanError, match=r"b\.json: shares 0 of 4 decisions with a\.json: they are of different models"):
        difference(recorded(), recorded("b.json", decisions=other))
    with pytest.raises(PlanError, match=r"b\.onnx: is a model, and a\.json a plan; give two plans or two models"):
        difference(recorded(), recorded("b.onnx", kind="model"))
    assert difference(recorded(decisions={}), recorded("b.json", decisions={})).same
