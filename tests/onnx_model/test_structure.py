"""If, Loop, Scan and SequenceMap: which slots outside and inside are one variable, and how often a body runs."""

import pytest
from onnx import NodeProto

from ampgraph.graph import Constant, Slot, Value
from ampgraph.onnx_model.schema import signature
from ampgraph.onnx_model.structure import UNKNOWN_REPEATS, UNKNOWN_TYPE, Structure, structure_of
from ampgraph.onnx_model.types import Type
from ampgraph.onnx_model.unify import ABSENT
from ampgraph.precision import Precision
from tests.models import parse

LOOP = """y, z, o = Loop (n, c, x, x) <body = b (int64 i, bool k, float s, float t) =>
    (bool d, float u, float v, float w) { d = Identity(k) u = Neg(s) v = Neg(t) w = Exp(s) }>"""
SCAN = """y, o = Scan (x, v, v) <num_scan_inputs = 2, body = b (float s, float p, float q) => (float t, float u)
    { t = Add(s, p) u = Neg(q) }>"""
SCAN_8 = SCAN.replace("(x, v, v)", "(, x, v, v)")
IF = """y, o = If (c) <then_branch = t () => (float a, float b) { a = Neg(x) b = Exp(x) },
    else_branch = e () => (float p, float q) { p = Abs(x) q = Exp(x) }>"""
MAP = "q, r = SequenceMap (l, x) <body = b (float s, float t) => (float u, float v) { u = Neg(s) v = Exp(t) }>"


def node_of(line: str) -> NodeProto:
    signature = "float x, float[4] v, int64 n, bool c, seq(float) l"
    return parse(f"g ({signature}) => (float y) {{ {line} }}").graph.node[0]


def structure(line: str, opset: int = 20) -> Structure:
    node = node_of(line)
    found = structure_of(node, signature("", node.op_type, opset))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("line", "opset", "inputs", "outputs", "body_inputs", "body_outputs"),
    [
        (LOOP, 20, "- - state_0 state_1", "state_0 state_1 out_0", "- - state_0 state_1", "- state_0 state_1 out_0"),
        (SCAN, 20, "state_0 scan_0 scan_1", "state_0 out_0", "state_0 scan_0 scan_1", "state_0 out_0"),
        (SCAN_8, 8, "- state_0 scan_0 scan_1", "state_0 out_0", "state_0 scan_0 scan_1", "state_0 out_0"),
        (IF, 20, "", "out_0 out_1", "", "out_0 out_1"),
        (MAP, 20, "in_0 in_1", "out_0 out_1", "in_0 in_1", "out_0 out_1"),
    ],
)
def test_a_state_has_one_name_outside_and_inside(
    line: str, opset: int, inputs: str, outputs: str, body_inputs: str, body_outputs: str
) -> None:
    found = structure(line, opset)
    sides = (found.input_variable, found.output_variable, found.body_input_variable, found.body_output_variable)
    for variable, expected in zip(sides, (inputs, outputs, body_inputs, body_outputs), strict=True):
        assert [variable(index) or "-" for index in range(len(expected.split()))] == expected.split()


@pytest.mark.parametrize("line", ["y = Relu(x)", "y = my.own.Loop(n, c, x)", "y = com.microsoft.If(c)"])
def test_other_ops_have_no_structure(line: str) -> None:
    assert structure_of(node_of(line), None) is None


def test_what_states_admit_is_the_schemas_word() -> None:
    assert structure(LOOP, 11).admits == {Precision.FLOAT32, Precision.FLOAT16}
    assert structure(LOOP, 16).admits == set(Precision)
    assert structure_of(node_of(LOOP), None).admits == frozenset()  # type: ignore[union-attr]


def test_a_sequence_map_is_pinned_and_a_loop_is_not() -> None:
    assert structure(MAP).pin_of("in_0") == "a sequence admits no cast"
    assert structure(LOOP).pin_of("state_0") == ""


def test_a_variable_of_which_one_slot_is_unknown_is_pinned() -> None:
    f32, unknown = Type("float32"), Type("")
    known = structure(LOOP).knowing([ABSENT, ABSENT, f32, unknown], [f32, f32, unknown])
    assert [known.pin_of(name) for name in ("state_0", "state_1", "out_0")] == ["", UNKNOWN_TYPE, UNKNOWN_TYPE]
    assert structure(LOOP).knowing([ABSENT, ABSENT, f32, f32], [unknown, f32, ABSENT]).blind == {"state_0"}


@pytest.mark.parametrize(
    ("line", "index", "outer", "expected"),
    [
        (LOOP, 0, [Type("int64"), Type("bool"), Type("float32", "tensor", (4,))], Type("")),
        (LOOP, 2, [Type("int64"), Type("bool"), Type("float32", "tensor", (4,))], Type("float32", "tensor", (4,))),
        (LOOP, 3, [Type("int64"), Type("bool"), Type("float32")], Type("")),
        (SCAN, 1, [Type("float32"), Type("float16", "tensor", (3, 4))], Type("float16")),
        (MAP, 0, [Type("float16", "sequence")], Type("float16")),
        (IF, 0, [Type("bool")], Type("")),
    ],
)
def test_types_go_into_bodies_that_declare_none(line: str, index: int, outer: list[Type], expected: Type) -> None:
    assert structure(line).type_into_body(index, outer) == expected


@pytest.mark.parametrize(
    ("line", "constant", "repeats"),
    [
        (IF, None, 0.5),
        (LOOP, 5.0, 5.0),
        (LOOP, None, UNKNOWN_REPEATS),
        (LOOP, 0.0, UNKNOWN_REPEATS),
        (LOOP, float(2**63 - 1), UNKNOWN_REPEATS),
        (SCAN, None, 7.0),
        (MAP, None, UNKNOWN_REPEATS),
    ],
)
def test_how_often_a_body_runs(line: str, constant: float | None, repeats: float) -> None:
    facts = None if constant is None else Constant(1, constant, constant, constant)
    values = {"n": Value("n", "n", "", "int64", constant=facts), "v": Value("v", "v", "", "float32", shape=(7, 2))}
    inputs = tuple(Slot(name, "") for name in node_of(line).input)
    constants = {"n": constant}
    assert structure(line).repeats(lambda slot: constants[slot.value], inputs, values) == repeats


def test_a_loop_without_a_count_and_a_scan_of_unknown_length() -> None:
    values = {"v": Value("v", "v", "", "float32")}
    for line, names in ((LOOP, ("", "c", "x", "x")), (SCAN, ("x", "v", "v"))):
        inputs = tuple(Slot(name, "") for name in names)
        assert structure(line).repeats(lambda _: 3.0, inputs, values) == UNKNOWN_REPEATS
