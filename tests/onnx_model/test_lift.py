"""What lift sees in small graphs: decisions, uses, scopes, constants; and what it says of graphs it cannot read."""

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from ampgraph.errors import ModelError
from ampgraph.graph import PrecisionGraph
from ampgraph.onnx_model.lift import lift
from ampgraph.precision import Precision
from tests.models import parse

FLOAT32, FLOAT16, BFLOAT16 = Precision.FLOAT32, Precision.FLOAT16, Precision.BFLOAT16
X, Y = "float[N,4] x", "float[N,4] y"
BRANCHES = """g (float[N,4] x, bool c) => (float[N,4] y) { h = Exp(x) [if] y = If (c) <
    then_branch = t () => (float[N,4] a) { [n] a = Neg(h) }, else_branch = e () => (float[N,4] b) { [r] b = Relu(h) }>
}"""
LOOP = """g (float[4] x, int64 n, bool c) => (float[4] y, float[K,4] z) { [l] y, z = Loop (n, c, x) <
    body = b (int64 i, bool k, float[4] s) => (bool d, float[4] t, float[4] o) {
        d = Identity(k) [n] t = Neg(s) [r] o = Relu(t) }> }"""


def lifted(body: str, signature: str = f"{X} => {Y}", weights: str = "", **header: int) -> PrecisionGraph:
    inputs, outputs = signature.split("=>")
    listed = f"<{weights}>" if weights else ""
    return lift(parse(f"g ({inputs}) => ({outputs}) {listed} {{ {body} }}", **header))


def variables(graph: PrecisionGraph, op: str) -> dict[str, Precision]:
    return {decision.variable: decision.present for decision in graph.decisions_of.get(op, ())}


def takers(graph: PrecisionGraph, value: str) -> list[tuple[str, int, str]]:
    return [(use.decision, use.slot, use.scope) for use in graph.uses_of.get(value, ())]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[o] y = Relu(x)", {"T": FLOAT32}),
        ("[o] y = BatchNormalization(x, s, s, s, s)", {"T": FLOAT32, "T1": FLOAT32, "T2": FLOAT32}),
        ("[o] y = Pow(x, s)", {"T": FLOAT32, "T1": FLOAT32}),
        ("[o] y = Where(c, x, x)", {"T": FLOAT32}),
        ("[o] y = Clip(x, , one)", {"T": FLOAT32}),
        ("[o] i = Shape(x) y = Relu(x)", {"T": FLOAT32}),
        ("[o] i = Cast<to = 7>(x) y = Relu(x)", {"T1": FLOAT32}),
        ("i = Shape(x) [o] y = ConstantOfShape(i)", {"T2": FLOAT32}),
        ("[o] i = Add(k, k) y = Relu(x)", {}),
        ("[o] y = Constant<value_float = 1.0>()", {}),
    ],
)
def test_one_decision_for_each_float_variable_of_an_op(line: str, expected: dict[str, Precision]) -> None:
    signature = f"{X}, float[4] s, bool c, int64[2] k, float one => float y"
    graph = lifted(line, signature)
    assert variables(graph, "o") == expected
    assert [decision.principal for decision in graph.decisions_of.get("o", ())] == [True, False, False][: len(expected)]


def test_a_use_for_each_slot() -> None:
    graph = lifted("[m] y = Mul(x, x)")
    assert takers(graph, "x") == [("m:T", 0, ""), ("m:T", 1, "")]
    assert takers(graph, "y") == [("output:y", 0, "")]
    assert graph.ops["m"].inputs[0].formal == "A"


def test_interface_decisions_and_an_input_given_straight_out() -> None:
    graph = lifted("y = Relu(x)", f"{X}, int64 i, float[N,4] w => {Y}, int64 i, float[N,4] w")
    kinds = {key: decision.kind for key, decision in graph.decisions.items() if decision.kind != "op"}
    assert kinds == {"input:x": "input", "input:w": "input", "output:y": "output", "output:w": "output"}
    assert graph.ties == (("input:w", "output:w"),)


def test_the_precision_that_is_there_is_recorded() -> None:
    body = "[m] p = Mul(h, h) [up] f = Cast<to = 1>(p) [a] s = Add(f, x) [b] l = Cast<to = 16>(s) y = Cast<to = 1>(l)"
    graph = lifted(body, f"{X}, float16[N,4] h => {Y}")
    present = {key: decision.present for key, decision in graph.decisions.items()}
    assert (present["input:h"], present["m:T"], present["up:T1"]) == (FLOAT16,) * 3
    assert (present["up:T2"], present["a:T"], present["b:T2"]) == (FLOAT32, FLOAT32, BFLOAT16)
    assert [key for key in ("m:T", "a:T", "up:T2", "input:h") if graph.decisions[key].is_open(FLOAT16)] == ["a:T"]


@pytest.mark.parametrize("ir", [3, 4, 10])
def test_an_overridable_initializer_is_a_runtime_value(ir: int) -> None:
    """Before IR 4 every initializer is listed as an input, and none can be overridden."""
    model = parse(f"g ({X}, float[4] w) => ({Y}) {{ y = Add(x, w) }}", 8, ir)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    value = lift(model).values["w"]
    assert (value.constant is None, value.producer) == ((False, "") if ir == 3 else (True, "input:w"))


def test_initializers_and_constant_nodes_are_constants_with_facts() -> None:
    body = "k = Constant<value_floats = [0.5, -100000.0]>() h = Add(x, w) y = Mul(h, k)"
    graph = lifted(body, "float[N,2] x => float[N,2] y", "float[2] w = {1, 3}")
    w, k = graph.values["w"].constant, graph.values["k"].constant
    assert w is not None
    assert k is not None
    assert (w.elements, w.lowest, w.highest, w.conversions[FLOAT16].overflowed) == (2, 1, 3, 0)
    assert (k.lowest, k.smallest, k.conversions[FLOAT16].overflowed) == (-100000, 0.5, 1)
    assert [op.type for op in graph.ops.values()] == ["Add", "Mul"]


def test_constants_are_measured_for_the_precision_asked_or_not_at_all() -> None:
    model = parse("g (float[1] x) => (float[1] y) <float[1] w = {70000}> { y = Add(x, w) }")
    at_bfloat16, unmeasured = (lift(model, precision=wanted).values["w"].constant for wanted in (BFLOAT16, None))
    assert at_bfloat16 is not None
    assert unmeasured is not None
    assert {key: losses.overflowed for key, losses in at_bfloat16.conversions.items()} == {BFLOAT16: 0}
    assert (unmeasured.conversions, unmeasured.scalar) == ({}, None)


def test_branches_read_what_is_around_them_and_make_one_decision() -> None:
    graph = lift(parse(BRANCHES))
    assert takers(graph, "h") == [("n:T", 0, "if/then_branch"), ("r:T", 0, "if/else_branch")]
    assert variables(graph, "if") == {"out_0": FLOAT32}
    assert takers(graph, "if/then_branch:a") == [("if:out_0", 0, "if/then_branch")]
    assert takers(graph, "if/else_branch:b") == [("if:out_0", 0, "if/else_branch")]
    assert graph.values["y"].producer == "if:out_0"
    scope = graph.scopes["if/then_branch"]
    assert (scope.parent, scope.owner, scope.frequency) == ("", "if", 0.5)


def test_a_loop_state_is_one_decision_inside_and_outside() -> None:
    graph = lift(parse(LOOP))
    assert variables(graph, "l") == {"state_0": FLOAT32, "out_0": FLOAT32}
    assert takers(graph, "x") == [("l:state_0", 2, "")]
    assert takers(graph, "l/body:t") == [("r:T", 0, "l/body"), ("l:state_0", 1, "l/body")]
    assert set(graph.products_of["l:state_0"]) == {"y", "l/body:s"}
    assert graph.products_of["l:out_0"] == ("z",)
    assert next(iter(graph.ops)) == "l", "an op stands before those of its bodies"


def test_frequencies_multiply_from_scope_to_scope() -> None:
    then, other = "p () => (float[4] a) { a = Neg(s) }", "q () => (float[4] b) { b = Exp(s) }"
    branch = f"u = If (k) <then_branch = {then}, else_branch = {other}>"
    body = f"b (int64 i, bool k, float[4] s) => (bool d, float[4] u) {{ d = Identity(k) [if] {branch} }}"
    text = f"g (float[4] x, bool c) => (float[4] y) <int64 n = {{3}}> {{ [l] y = Loop (n, c, x) <body = {body}> }}"
    scopes = lift(parse(text)).scopes
    assert {key: scope.frequency for key, scope in scopes.items()} == {
        "": 1.0, "l/body": 3.0, "if/then_branch": 1.5, "if/else_branch": 1.5,
    }  # fmt: skip
    assert scopes["if/else_branch"].parent == "l/body"


def test_an_inner_name_hides_an_outer_one() -> None:
    inner = "t () => (float[N,4] a) <float[4] w = {2, 2, 2, 2}> { [n] a = Add(x, w) }"
    other = "e () => (float[N,4] b) { [r] b = Sub(x, w) }"
    body = f"[if] y = If (c) <then_branch = {inner}, else_branch = {other}>"
    graph = lifted(body, f"{X}, bool c => {Y}", "float[4] w = {1, 1, 1, 1}")
    read = {op: graph.ops[op].inputs[1].value for op in "nr"}
    assert read == {"n": "if/then_branch:w", "r": "w"}
    assert [graph.values[read[op]].constant.scalar for op in "nr"] == [2.0, 1.0]  # type: ignore[union-attr]


def test_values_whose_ids_would_be_the_same_have_their_own() -> None:
    model = parse(BRANCHES.replace("h = Exp(x)", "h = Exp(x) hidden = Abs(x)"))
    model.graph.node[1].output[0] = "if/then_branch:a"
    graph = lift(model)
    assert (graph.values["if/then_branch:a"].op, graph.values["if/then_branch:a'"].op) == ("Abs#1", "n")


@pytest.mark.parametrize(
    ("line", "key", "why"),
    [
        ("[o] y = my.own.Strange(x)", "o:in0", "no schema is known for my.own.Strange"),
        ("[o] s = SequenceConstruct(x, x) y = SequenceAt(s, i)", "o:T", "a sequence admits no cast"),
        ("[o] y = Cast<to = 1>(d)", "o:T2", "the model casts to this type itself"),
        ("[o] z = Cast<to = 7>(x) y = Relu(x)", "o:T1", "rounding before the model's own cast could change its result"),
        ("[o] y, m, v = LayerNormalization(x, g)", "o:U", "the attribute stash_type fixes it"),
    ],
)  # fmt: skip
def test_pins_and_their_reasons(line: str, key: str, why: str) -> None:
    graph = lifted(line, f"{X}, double[N,4] d, float[4] g, int64 i => float y", my_own=1)
    assert graph.decisions[key].pin == why
    assert not graph.decisions[key].is_open(FLOAT16)


def test_before_opset_13_no_cast_knows_bfloat16() -> None:
    for opset, admitted in ((12, {FLOAT32, FLOAT16}), (13, {FLOAT32, FLOAT16, BFLOAT16})):
        graph = lifted("[m] y = MatMul(x, x)", opset=opset)
        assert graph.decisions["m:T"].admits == admitted
        assert graph.decisions["input:x"].admits == admitted


def test_shapes_that_are_given_are_modelled() -> None:
    model = parse(
        "g (float[N,M] x) => (float[N,M] y) { h = Transpose<perm = [1, 0]>(x) y = Transpose<perm = [1, 0]>(h) }"
    )
    assert lift(model).values["h"].shape == (128, 1)
    assert lift(model, {"x": (3, 5)}).values["h"].shape == (5, 3)


def test_what_training_names_is_pinned() -> None:
    model = parse(f"g ({X}) => ({Y}) <float w = {{1}}, float v = {{2}}> {{ h = Add(x, w) [m] y = Mul(h, v) }}")
    step = helper.make_graph([helper.make_node("Neg", ["w"], ["next"])], "step", [], [])
    model.training_info.append(helper.make_training_info(step, [("w", "next")], None, None))
    graph = lift(model)
    assert graph.values["w"].producer == "input:w"
    assert graph.decisions["input:w"].pin == "the model's training graph names it"
    assert graph.values["v"].constant is not None


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("[first] h = Relu(x) [bad] y = Add(h, gone)", "node 'bad' (Add): reads the value 'gone' that nothing"),
        ("h = Relu(x) y = Add(h, gone)", "node 'Add#1' (Add): reads the value 'gone' that nothing produces"),
        ("h = Relu(x)", "graph output: reads the value 'y' that nothing produces"),
        ("[mix] y = com.microsoft.BiasGelu(x, s)", "node 'mix' (com.microsoft.BiasGelu): binds T to both"),
    ],
)  # fmt: skip
def test_errors_name_the_node(body: str, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        lifted(body, f"{X}, float16[4] s => {Y}", com_microsoft=1)
    assert str(caught.value).startswith(complaint)


def test_the_model_is_left_as_it_was() -> None:
    model = parse(LOOP)
    before = ModelProto()
    before.CopyFrom(model)
    lift(model)
    assert model == before
