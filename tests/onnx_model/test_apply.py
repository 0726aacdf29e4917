"""What apply writes for plans named by hand: each cast once and in its place, constants once a type, names kept."""

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model import external
from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.names import CAST_KEY, ID_KEY, WHY_KEY, metadata_of
from ampgraph.precision import Precision
from tests.models import FLOAT, FLOAT16, assert_valid, nodes, parse
from tests.onnx_model.planning import planned

X, Y = "float[N,4] x", "float[N,4] y"
LOWEST = float(np.finfo(np.float32).min)


def written(model: ModelProto, low: str, precision: Precision = Precision.FLOAT16) -> ModelProto:
    graph = lift(model, precision=precision)
    return apply(model, graph, planned(graph, low, precision))


def graph_of(body: str, signature: str = f"{X} => {Y}", weights: str = "", **header: int) -> ModelProto:
    inputs, outputs = signature.split("=>")
    listed = f"<{weights}>" if weights else ""
    return parse(f"g ({inputs}) => ({outputs}) {listed} {{ {body} }}", **header)


def lines(graph: GraphProto) -> list[str]:
    return [f"{', '.join(node.output)} = {node.op_type}({', '.join(node.input)})" for node in graph.node]


def types(graph: GraphProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize(
    ("body", "low", "expected"),
    [
        (
            "h = Exp(x) [a] u = Neg(h) [b] v = Abs(h) y = Add(u, v)",
            "a b",
            ["h = Exp(x)", "h_float16 = Cast(h)", "u = Neg(h_float16)", "u_float32 = Cast(u)",
             "v = Abs(h_float16)", "v_float32 = Cast(v)", "y = Add(u_float32, v_float32)"],
        ),
        ("[m] h = Mul(x, x) y = Exp(h)", "m",
         ["x_float16 = Cast(x)", "h = Mul(x_float16, x_float16)", "h_float32 = Cast(h)", "y = Exp(h_float32)"]),
        ("[a] h = Abs(x) [b] y = Neg(h)", "a b",
         ["x_float16 = Cast(x)", "h = Abs(x_float16)", "y_float16 = Neg(h)", "y = Cast(y_float16)"]),
        ("[a] h = Clip(x, , m) y = Neg(h)", "a",
         ["x_float16 = Cast(x)", "h = Clip(x_float16, , m)", "h_float32 = Cast(h)", "y = Neg(h_float32)"]),
        ("h = Abs(x) y = Neg(h)", "", ["h = Abs(x)", "y = Neg(h)"]),
    ],
)  # fmt: skip
def test_a_cast_stands_once_after_the_producer(body: str, low: str, expected: list[str]) -> None:
    model = graph_of(body, weights="float m = {6}")
    made = written(model, low)
    assert lines(made.graph) == expected
    assert_valid(model, made)


def test_an_output_keeps_its_name_and_its_other_readers_take_what_they_want() -> None:
    model = graph_of("[a] h = Abs(x) [b] u = Neg(h) y = Exp(h)", f"{X} => float[N,4] h, float[N,4] u, {Y}")
    made = written(model, "a b")
    assert lines(made.graph) == [
        "x_float16 = Cast(x)", "h_float16 = Abs(x_float16)", "h = Cast(h_float16)", "u_float16 = Neg(h_float16)",
        "u = Cast(u_float16)", "y = Exp(h)",
    ]  # fmt: skip
    assert_valid(model, made)


def test_an_interface_that_is_planned_low_changes_its_type() -> None:
    made = written(graph_of("[a] y = Abs(x)"), "input:x a output:y")
    ends = (made.graph.input[0], made.graph.output[0])
    assert [(end.name, end.type.tensor_type.elem_type) for end in ends] == [("x", FLOAT16), ("y", FLOAT16)]
    assert lines(made.graph) == ["y = Abs(x)"]
    onnx.checker.check_model(made, full_check=True)


@pytest.mark.parametrize(
    ("low", "main", "then", "other"),
    [
        ("n", [], ["h_float16 = Cast(h)", "a = Neg(h_float16)", "a_float32 = Cast(a)"], ["b = Abs(h)"]),
        ("n r", ["h_float16 = Cast(h)"], ["a = Neg(h_float16)", "a_float32 = Cast(a)"],
         ["b = Abs(h_float16)", "b_float32 = Cast(b)"]),
        ("n r if", ["h_float16 = Cast(h)", "y = Cast(y_float16)"], ["a = Neg(h_float16)"], ["b = Abs(h_float16)"]),
    ],
)  # fmt: skip
def test_casts_stand_in_the_scope_they_serve(low: str, main: list[str], then: list[str], other: list[str]) -> None:
    branches = "t () => (float[N,4] a) { [n] a = Neg(h) }", "e () => (float[N,4] b) { [r] b = Abs(h) }"
    body = f"h = Exp(x) [if] y = If (c) <then_branch = {branches[0]}, else_branch = {branches[1]}>"
    model = graph_of(body, f"{X}, bool c => {Y}")
    made = written(model, low)
    (branch,) = nodes(made, "If")
    assert [line for line in lines(made.graph) if "Cast" in line] == main
    assert [lines(attribute.g) for attribute in branch.attribute] == [then, other]
    assert_valid(model, made)


def test_a_low_loop_state_is_low_in_the_body_and_cast_at_its_ends() -> None:
    body = """b (int64 i, bool k, float[4] s) => (bool d, float[4] t, float[4] o) {
        d = Identity(k) [n] t = Neg(s) [r] o = Exp(s) }"""
    model = graph_of(f"[l] y, z = Loop (n, c, x) <body = {body}>", "float[4] x, int64 n, bool c => float[4] y, float z")
    made = written(model, "l:state_0 n")
    assert lines(made.graph) == [
        "x_float16 = Cast(x)", "y_float16, z = Loop(n, c, x_float16)", "y = Cast(y_float16)",
    ]  # fmt: skip
    inner = nodes(made, "Loop")[0].attribute[0].g
    assert lines(inner) == ["s_float32 = Cast(s)", "d = Identity(k)", "t = Neg(s)", "o = Exp(s_float32)"]
    ends = [(end.name, end.type.tensor_type.elem_type) for end in (*inner.input, *inner.output)]
    assert ends[2:] == [("s", FLOAT16), ("d", TensorProto.BOOL), ("t", FLOAT16), ("o", FLOAT)]
    assert_valid(model, made)


def test_new_names_avoid_every_name_there_is() -> None:
    inner = "t () => (float[N,4] x_float16_2) { x_float16_2 = Abs(h) }", "e () => (float[N,4] b) { b = Neg(h) }"
    body = f"""[Cast_x_to_float16] x_float16 = Exp(x) [a] h = Mul(x, x_float16)
    y = If (c) <then_branch = {inner[0]}, else_branch = {inner[1]}>"""
    model = graph_of(body, f"{X}, bool c => {Y}")
    made = written(model, "a")
    first = nodes(made, "Cast")[0]
    assert (first.output[0], first.name) == ("x_float16_3", "Cast_x_to_float16_2")
    assert_valid(model, made)


WEIGHTS = "float[4] w = {0.5, 1, 2, 3}, float[4] w_float16 = {1, 1, 1, 1}"


@pytest.mark.parametrize(
    ("low", "expected", "read"),
    [
        ("", {"w": FLOAT, "w_float16": FLOAT}, "www"),
        ("a b c", {"w": FLOAT16, "w_float16": FLOAT}, "www"),
        ("a c", {"w": FLOAT, "w_float16_2": FLOAT16, "w_float16": FLOAT}, ["w_float16_2", "w", "w_float16_2"]),
    ],
)
def test_an_initializer_is_converted_once_a_type(low: str, expected: dict[str, int], read: list[str]) -> None:
    model = graph_of("[a] h = Add(x, w) [b] u = Mul(h, w) [c] v = Sub(u, w) y = Add(v, w_float16)", weights=WEIGHTS)
    made = written(model, low)
    assert types(made.graph) == expected
    by_name = {node.name: node for node in made.graph.node}
    assert [by_name[name].input[1] for name in "abc"] == list(read)
    kept = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in made.graph.initializer}
    assert all(kept[name] == [0.5, 1, 2, 3] for name in kept if name != "w_float16")
    assert_valid(model, made)


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([-np.inf, 0.5], [-np.inf, 0.5]),
        ([LOWEST, 70000.0], [-65504.0, 65504.0]),
        ([1e-9, -1e-9], [2.0**-24, -(2.0**-24)]),
        ([0.0, 2048.5], [0.0, 2048.0]),
    ],
)
def test_rounding_keeps_infinities_and_signs_and_makes_no_infinity(
    inline: bool, given: list[float], expected: list[float]
) -> None:
    body = "k = Constant<value = float[2] {0, 0}>() [a] y = Add(x, k)" if inline else "[a] y = Add(x, k)"
    model = graph_of(body, "float[2] x => float[2] y")
    target = model.graph.node[0].attribute[0].t if inline else model.graph.initializer.add()
    target.CopyFrom(numpy_helper.from_array(np.array(given, np.float32), "k"))
    made = written(model, "a")
    low = numpy_helper.to_array(nodes(made, "Constant")[0].attribute[0].t if inline else made.graph.initializer[0])
    assert low.dtype == np.float16
    assert low.tolist() == expected


def test_a_constant_node_read_on_both_sides_is_two() -> None:
    model = graph_of("[k] c = Constant<value_floats = [1.0, 2.0, 3.0, 4.0]>() [a] h = Add(x, c) y = Mul(h, c)")
    made = written(model, "a")
    found = [(node.name, node.output[0], node.attribute[0].name) for node in nodes(made, "Constant")]
    assert found == [("k", "c", "value_floats"), ("c_float16", "c_float16", "value")]
    assert_valid(model, made)


@pytest.mark.parametrize(
    ("line", "low", "attributes"),
    [
        ("i = Shape(x) [o] y = ConstantOfShape<value = float[1] {2}>(i)", "o", [FLOAT16]),
        ("i = Shape(x) [o] y = ConstantOfShape(i)", "o", [FLOAT16]),
        ("i = Shape(x) [o] y = ConstantOfShape(i)", "", []),
        ("[o] y = RandomUniformLike<dtype = 1>(x)", "o:T2", [FLOAT16]),
        ("[o] y = EyeLike(x)", "o", []),
        ("[o] y = RandomNormal<shape = [2, 4]>()", "o", [FLOAT16, [2, 4]]),
    ],
)
def test_attributes_that_say_a_type_follow_the_plan(line: str, low: str, attributes: list[object]) -> None:
    model = graph_of(line)
    made = written(model, low)
    node = next(node for node in made.graph.node if node.name == "o")
    said = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    found = [value.data_type if isinstance(value, TensorProto) else value for value in said.values()]
    assert sorted(found, key=str) == sorted(attributes, key=str)
    assert_valid(model, made)


def test_every_node_says_who_it_is_and_why() -> None:
    model = graph_of("[a] h = Abs(x) y = Neg(h)")
    model.graph.node[0].metadata_props.add(key=WHY_KEY, value="an old reason")
    model.graph.node[0].metadata_props.add(key="layer", value="1")
    made = written(model, "a")
    assert [metadata_of(node, ID_KEY) for node in made.graph.node] == ["", "a", "", "Neg#1"]
    assert [metadata_of(node, CAST_KEY) for node in made.graph.node] == ["x", "", "h", ""]
    why = [entry.value for entry in made.graph.node[1].metadata_props if entry.key == WHY_KEY]
    assert len(why) == 1
    assert why[0].startswith("float16: ")
    assert metadata_of(made.graph.node[1], "layer") == "1"
    assert metadata_of(made.graph.node[3], WHY_KEY).startswith("float32: ")


def test_types_that_the_model_declares_follow_the_plan() -> None:
    model = graph_of("[a] h = Abs(x) [b] u = Neg(h) y = Exp(u)", weights="float[4] w = {1, 2, 3, 4}")
    for name in ("h", "u", "gone"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, FLOAT, ["N", 4]))
    model.graph.value_info.append(helper.make_tensor_sequence_value_info("list", FLOAT, None))
    made = {info.name: info.type for info in written(model, "a").graph.value_info}
    assert [made[name].tensor_type.elem_type for name in ("h", "u", "gone")] == [FLOAT16, FLOAT, FLOAT]
    assert made["list"].sequence_type.elem_type.tensor_type.elem_type == FLOAT


@pytest.mark.parametrize("precision", [Precision.FLOAT16, Precision.BFLOAT16])
def test_the_source_is_left_as_it_was(precision: Precision) -> None:
    model = graph_of("[a] h = Add(x, w) [b] y = Mul(h, w)", weights=WEIGHTS)
    before = ModelProto()
    before.CopyFrom(model)
    assert written(model, "a", precision) == written(model, "a", precision) != model
    assert model == before


def test_an_old_model_lists_new_initializers_as_inputs() -> None:
    model = parse(f"g ({X}, float[4] w) => ({Y}) {{ [a] h = Add(x, w) y = Mul(h, w) }}", 8, 3)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    made = written(model, "a")
    listed = {value.name: value.type.tensor_type.elem_type for value in made.graph.input}
    assert listed == {"x": FLOAT, "w": FLOAT, "w_float16": FLOAT16}
    onnx.checker.check_model(made, full_check=True)


def test_casts_bring_the_opset_they_need() -> None:
    text = f'<ir_version: 10, opset_import: ["com.microsoft" : 1]> g ({X}) => ({Y}) {{ [a] y = com.microsoft.Gelu(x) }}'
    model = onnx.parser.parse_model(text)
    imports = [[entry.domain for entry in written(model, low).opset_import] for low in ("", "a")]
    assert imports == [["com.microsoft"], ["com.microsoft", ""]]


def test_data_in_other_files_are_marked_and_not_read() -> None:
    model = graph_of("[a] y = Add(x, w)")
    tensor = model.graph.initializer.add(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="nowhere")
    graph = lift(model, precision=None)
    (made,) = apply(model, graph, planned(graph, "a")).graph.initializer
    assert (made.data_type, external.is_pending(made), made.raw_data) == (FLOAT16, True, b"")
    assert not external.is_pending(tensor)
