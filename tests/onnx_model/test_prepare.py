"""The form that lift and apply see: sorted, functions inlined, the same meaning."""

import onnx
import pytest
from onnx import ModelProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.prepare import captured, prepare
from tests.models import assert_agrees, nodes, parse

SIGNATURE = "(float[4] x, bool c) => (float[4] y)"


def graph_of(body: str, functions: str = "", **header: int) -> ModelProto:
    return parse(f"g {SIGNATURE} {{ {body} }}", functions=functions, **header)


def order(model: ModelProto) -> list[str]:
    return [node.name for node in model.graph.node]


def copied(model: ModelProto) -> ModelProto:
    return ModelProto.FromString(model.SerializeToString())


INNER = """[if] y = If (c) <then_branch = t () => (float[4] a) { a = Neg(h) },
    else_branch = e () => (float[4] b) { b = Abs(h) }>"""


@pytest.mark.parametrize(
    "body", ["[a] h = Neg(x) [b] y = Abs(h)", f"[a] h = Neg(x) {INNER}", "[a] y = Add(x, gone)", "[a] y = Clip(x, , x)"]
)
def test_a_model_of_that_form_is_itself(body: str) -> None:
    model = graph_of(body)
    assert prepare(model) is model


def test_outputs_and_inputs_left_empty_are_no_edge() -> None:
    model = graph_of("[a] y = Clip(x, , x) [b] u, m = Dropout(y)")
    model.graph.node[1].output[0] = ""
    assert prepare(model) is model


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("[b] y = Abs(h) [a] h = Neg(x)", "a b"),
        ("[d] y = Add(u, v) [a] h = Neg(x) [b] u = Abs(h) [c] v = Exp(h)", "a b c d"),
        ("[c] v = Exp(x) [b] y = Add(h, v) [a] h = Neg(x)", "c a b"),
        (f"{INNER} [a] h = Neg(x)", "a if"),
    ],
)
def test_nodes_are_sorted_and_stay_where_they_can(body: str, expected: str) -> None:
    model = graph_of(body)
    before = copied(model)
    made = prepare(model)
    assert order(made) == expected.split()
    onnx.checker.check_model(made, full_check=True)
    assert model == before


def test_bodies_are_sorted_too() -> None:
    body = "t () => (float[4] a) { [second] a = Neg(u) [first] u = Exp(x) }"
    text = f"y = If (c) <then_branch = {body}, else_branch = e () => (float[4] b) {{ b = Abs(x) }}>"
    (branch,) = nodes(prepare(graph_of(text)), "If")
    assert [node.name for node in branch.attribute[0].g.node] == ["first", "second"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("[a] h = Neg(x) [b] u = Add(h, v) [c] v = Abs(u) y = Exp(h)", "node 'b'"),
        ("[a] h = Add(h, x) y = Neg(h)", "node 'a'"),
        (f"{INNER} [back] h = Neg(y)", "node 'if'"),
    ],
)
def test_a_cycle_is_named(body: str, named: str) -> None:
    with pytest.raises(ModelError) as caught:
        prepare(graph_of(body))
    assert str(caught.value).startswith(f"{named}: is part of a cycle")


@pytest.mark.parametrize("opset", [19, 20])
def test_functions_are_inlined_where_their_operators_mean_the_same(opset: int) -> None:
    functions = f"""<domain: "local", opset_import: ["" : {opset}]> twice (a) => (b) {{ h = Neg(a) b = Exp(h) }}"""
    model = graph_of("h = local.twice(x) y = local.twice(h)", functions, local=1)
    before = copied(model)
    made = prepare(model)
    assert (len(made.functions), [node.op_type for node in made.graph.node]) == (0, ["Neg", "Exp"] * 2)
    assert model == before
    assert_agrees(model, made)


def test_a_function_whose_operators_changed_is_left_to_its_opset() -> None:
    functions = '<domain: "local", opset_import: ["" : 12]> soft (a) => (b) { b = Softmax(a) }'
    made = prepare(graph_of("y = local.soft(x)", functions, local=1))
    assert [function.name for function in made.functions] == ["soft"]
    assert [(node.domain, node.op_type) for node in made.graph.node] == [("local", "soft")]


def test_what_a_body_captures() -> None:
    inner = "p () => (float[4] a2) { a2 = Add(u, far) }"
    text = f"""y = If (c) <then_branch = t () => (float[4] a) <float[4] w = {{1, 2, 3, 4}}> {{ u = Add(x, w)
        a = If (k) <then_branch = {inner}, else_branch = q () => (float[4] b2) {{ b2 = Clip(w, , m) }}> }},
        else_branch = e () => (float[4] outer) {{ }}>"""
    then, other = (attribute.g for attribute in graph_of(text).graph.node[0].attribute)
    assert captured(then) == {"x", "k", "far", "m"}
    assert captured(other) == {"outer"}
