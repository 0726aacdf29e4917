"""A written model that differs from the plan in one thing is refused, by whichever law sees it first."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from onnx import ModelProto, NodeProto, helper

from ampgraph.errors import AmpgraphError, PlanError
from ampgraph.graph import PrecisionGraph
from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.names import CAST_KEY, ID_KEY
from ampgraph.onnx_model.verify import verify_written
from ampgraph.plan import Cast, Plan
from ampgraph.precision import Precision
from tests.models import FLOAT, FLOAT16, casts, nodes, parse
from tests.onnx_model.planning import planned

SOURCE = parse("""g (float[N,4] x, bool c) => (float[N,4] y, float[N,4] z) <float[4] w = {1, 2, 3, 4}> {
    [a] h = Add(x, w) [b] y = Exp(h) s = Abs(x) [if] z = If (c) <
        then_branch = t () => (float[N,4] p) { [n] p = Neg(s) },
        else_branch = e () => (float[N,4] q) { q = Abs(h) }> }""")
GRAPH = lift(SOURCE)
PLAN = planned(GRAPH, "a n")
Tamper = Callable[[ModelProto], object]


def written() -> ModelProto:
    return apply(SOURCE, GRAPH, PLAN)


def refused(tamper: Tamper, graph: PrecisionGraph = GRAPH, plan: Plan = PLAN) -> str:
    model = written()
    tamper(model)
    with pytest.raises(AmpgraphError) as caught:
        verify_written(model, graph, plan)
    return str(caught.value)


def cast_of(model: ModelProto, value: str) -> NodeProto:
    return next(cast for cast in casts(model) if cast.metadata_props[0].value == value)


def branch(model: ModelProto) -> list[NodeProto]:
    return list(nodes(model, "If")[0].attribute[0].g.node)


def remove_cast(model: ModelProto) -> None:
    """Drop the cast of x and let its reader have x."""
    cast = cast_of(model, "x")
    nodes(model, "Add")[0].input[0] = cast.input[0]
    model.graph.node.remove(cast)


def keep_float_initializer(model: ModelProto) -> None:
    model.graph.initializer[0].CopyFrom(SOURCE.graph.initializer[0])


def note(node: NodeProto, key: str, text: str) -> None:
    next(entry for entry in node.metadata_props if entry.key == key).value = text


def insert(*arguments: object, **attributes: object) -> Tamper:
    return lambda model: model.graph.node.insert(0, helper.make_node(*arguments, **attributes))  # type: ignore[arg-type]


def test_what_apply_writes_passes() -> None:
    model = written()
    assert len(casts(model)) == 4, "there is something to tamper with"
    verify_written(model, GRAPH, PLAN)


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (lambda model: cast_of(model, "x").attribute[0].__setattr__("i", 16), "'a' (Add): binds T to both bfloat16"),
        (lambda model: cast_of(model, "h").attribute[0].__setattr__("i", FLOAT16), "'b' (Exp)|h: casts differ|b:T: is"),
        (remove_cast, "'a' (Add): binds T to both float32 and float16"),
        (lambda model: model.graph.node.remove(cast_of(model, "x")), "reads the value 'x_float16' that nothing"),
        (keep_float_initializer, "'a' (Add): binds T to both float16 and float32"),
        (lambda model: note(cast_of(model, "x"), CAST_KEY, "s"), "s: casts differ|x: casts differ"),
        (lambda model: cast_of(model, "x").ClearField("metadata_props"), "x: casts differ"),
        (lambda model: note(nodes(model, "Add")[0], ID_KEY, "other"), "a:T: is planned but not in the written model"),
        (insert("Relu", ["x"], ["unused"]), "nodes: the written model has other nodes"),
        (insert("Cast", ["x"], ["unused"], to=FLOAT), "nodes: the written model has other nodes"),
        (lambda model: nodes(model, "Exp")[0].input.__setitem__(0, "x"), "b:T: reads another value"),
        (lambda model: branch(model)[1].input.__setitem__(0, "x_float16"), "n:T: reads another value"),
        (lambda model: cast_of(model, "s").input.__setitem__(0, "x"), "n:T: reads another value"),
        (lambda model: model.graph.output[0].__setattr__("name", "z"), "output:y: is planned but not"),
        (lambda model: model.graph.node.pop(), "reads the value 'z' that nothing produces"),
    ],
)  # fmt: skip
def test_one_change_is_refused(tamper: Tamper, complaint: str) -> None:
    said = refused(tamper)
    assert any(part in said for part in complaint.split("|")), said


def test_a_plan_that_was_not_written_is_refused() -> None:
    """The model is well-typed; only the comparison with the plan can tell."""
    assert "is float16 in the written model, planned float32" in refused(lambda _: None, plan=planned(GRAPH, "n"))
    more = replace(PLAN, casts=(*PLAN.casts, Cast("y", Precision.FLOAT16, "")))
    assert refused(lambda _: None, plan=more).startswith("y: casts differ")
    elsewhere = replace(PLAN, casts=tuple(replace(cast, scope="") for cast in PLAN.casts))
    assert "casts differ" in refused(lambda _: None, plan=elsewhere)


def test_a_refusal_asks_for_a_report() -> None:
    with pytest.raises(PlanError, match="please report it with the model"):
        verify_written(SOURCE, GRAPH, PLAN)
