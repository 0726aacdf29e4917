"""Slots of one node to decisions: by type variable, what each admits, and why it is pinned."""

import pytest
from onnx import helper

from ampgraph.errors import ModelError
from ampgraph.onnx_model.binding import Bound, bind, bind_structure
from ampgraph.onnx_model.schema import signature
from ampgraph.onnx_model.structure import UNKNOWN_TYPE, structure_of
from ampgraph.onnx_model.types import Type
from ampgraph.onnx_model.unify import ABSENT
from ampgraph.precision import Precision
from tests.models import FLOAT, FLOAT16

F32, F16, I64, F64, UNKNOWN = Type("float32"), Type("float16"), Type("int64"), Type("float64"), Type("")
LIST = Type("float32", "sequence")
FLOAT32, HALF, BFLOAT16 = Precision.FLOAT32, Precision.FLOAT16, Precision.BFLOAT16
ALL, ONLY = {FLOAT32, HALF, BFLOAT16}, {FLOAT32}


def bound(op: str, incoming: list[Type], outgoing: list[Type], opset: int = 20, **attributes: object) -> Bound:
    domain, _, op_type = op.rpartition(".")
    node = helper.make_node(op_type, ["i"] * len(incoming), ["o"] * len(outgoing), "n", domain=domain, **attributes)
    return bind(node, "n", signature(domain, op_type, opset), incoming, outgoing)


def ids(slots: list[tuple[str, str]]) -> list[str]:
    return [decision.removeprefix("n:") for _, decision in slots]


@pytest.mark.parametrize(
    ("op", "incoming", "outgoing", "slots"),
    [
        ("Mul", [F32, F32], [F32], "T T > T"),
        ("Pow", [F32, I64], [F32], "T - > T"),
        ("Concat", [F32, F32, F32], [F32], "T T T > T"),
        ("Loop", [I64], [I64], "- > -"),
        ("LSTM", [F32, F32, F32, ABSENT, I64, F32], [F32, ABSENT, F32], "T T T - - T > T - T"),
        ("BatchNormalization", [F32] * 5, [F32], "T T1 T1 T2 T2 > T"),
        ("LayerNormalization", [F32, F32], [F32, F32, F32], "T T > T U U"),
        ("Where", [Type("bool"), F32, F32], [F32], "- T T > T"),
        ("Resize", [F32, ABSENT, F32], [F32], "T1 - scales > T1"),
        ("Mul", [F64, F64], [F64], "- - > -"),
        ("my.own.Strange", [F32, I64, F32], [F32], "in0 - in2 > out0"),
        ("com.microsoft.SkipLayerNormalization", [F16, F16, F16], [F16, ABSENT, F32], "T T T > T - U"),
    ],
)
def test_a_decision_for_each_type_variable_that_carries_a_float(
    op: str, incoming: list[Type], outgoing: list[Type], slots: str
) -> None:
    found = bound(op, incoming, outgoing)
    shown = [" ".join(id or "-" for id in ids(side)) for side in (found.inputs, found.outputs)]
    assert " > ".join(shown) == slots
    assert set(ids([*found.inputs, *found.outputs])) - {""} == {key.removeprefix("n:") for key in found.decisions}


def test_the_ops_time_sits_on_its_first_variable() -> None:
    found = bound("BatchNormalization", [F32] * 5, [F32]).decisions.values()
    assert [decision.variable for decision in found if decision.principal] == ["T"]


@pytest.mark.parametrize(
    ("op", "opset", "variable", "admits"),
    [
        ("Conv", 20, "T", {FLOAT32, HALF}),
        ("Conv", 22, "T", ALL),
        ("Resize", 20, "scales", ONLY),
        ("my.own.Strange", 1, "in0", ONLY),
        ("com.microsoft.FastGelu", 1, "T", ALL),
    ],
)
def test_schemas_say_what_a_variable_admits(op: str, opset: int, variable: str, admits: set[Precision]) -> None:
    incoming = [F32, ABSENT, F32] if op == "Resize" else [F32]
    assert bound(op, incoming, [F32], opset).decisions[f"n:{variable}"].admits == admits


@pytest.mark.parametrize(
    ("op", "incoming", "outgoing", "why"),
    [
        ("SequenceInsert", [LIST, F32], [LIST], "a sequence admits no cast"),
        ("Optional", [F32], [Type("float32", "optional")], "a optional admits no cast"),
        ("Add", [F32, UNKNOWN], [F32], UNKNOWN_TYPE),
        ("Gather", [F32, UNKNOWN], [F32], ""),
        ("Gather", [F32, I64], [UNKNOWN], UNKNOWN_TYPE),
        ("Clip", [F32, ABSENT, F32], [F32], ""),
        ("Mul", [F32, F32], [F32], ""),
    ],
)
def test_what_touches_containers_or_the_unknown_is_pinned(
    op: str, incoming: list[Type], outgoing: list[Type], why: str
) -> None:
    pins = {decision.pin for decision in bound(op, incoming, outgoing).decisions.values()}
    assert pins == {why}


@pytest.mark.parametrize(
    ("given", "to", "admits", "pinned"),
    [
        (F32, FLOAT16, {FLOAT32, HALF}, False),
        (F32, FLOAT, ONLY, True),
        (F32, 7, ONLY, True),
        (F16, FLOAT, {HALF}, True),
    ],
)
def test_the_users_cast_may_read_only_what_it_makes(given: Type, to: int, admits: set[Precision], pinned: bool) -> None:
    made = {FLOAT: F32, FLOAT16: F16, 7: I64}[to]
    cast = bound("Cast", [given], [made], to=to).decisions
    like = bound("CastLike", [given, made], [made]).decisions
    for decisions in (cast, like):
        assert decisions["n:T1"].admits == admits
        assert bool(decisions["n:T1"].pin) is pinned
        assert made is I64 or decisions["n:T2"].pin == "the model casts to this type itself"


def test_an_output_type_that_follows_an_input_is_tied_to_it() -> None:
    assert bound("RandomNormalLike", [F32], [F32]).ties == (("n:T1", "n:T2"),)
    assert bound("RandomNormalLike", [F32], [F32], dtype=FLOAT).ties == ()
    assert bound("EyeLike", [I64], [F32]).ties == ()


def test_operands_that_may_differ_are_decisions_of_their_own() -> None:
    sub = helper.make_graph([], "b", [], [])
    found = bound("Scan", [F32, F32], [F32], body=sub, num_scan_inputs=1)
    assert ids(found.inputs) == ["V_in0", "V_in1"]
    assert all(decision.pin for decision in found.decisions.values())


def test_one_variable_of_two_types_is_ill_typed() -> None:
    with pytest.raises(ModelError, match=r"node 'n' \(com.microsoft.FastGelu\): binds T to both float32 and float16"):
        bound("com.microsoft.FastGelu", [F32, F16], [F32])
    with pytest.raises(ModelError, match="binds T to both float32 and int64"):
        bound("Mul", [F32, I64], [F32])


def loop(states: int) -> tuple[Bound, list[str]]:
    body = helper.make_graph([], "b", [], [])
    node = helper.make_node("Loop", ["n", "c", *"ab"[:states]], ["p", "q", "r"], body=body)
    structure = structure_of(node, signature("", "Loop", 20))
    assert structure is not None
    found = bind_structure("n", structure, [I64, Type("bool"), F32, LIST][: states + 2], [F32, LIST, F32])
    return found, [decision.pin for decision in found.decisions.values()]


def test_a_structure_has_a_decision_for_each_state_and_output() -> None:
    found, pins = loop(2)
    assert ids(found.inputs) == ["", "", "state_0", "state_1"]
    assert ids(found.outputs) == ["state_0", "state_1", "out_0"]
    assert pins == ["", "a sequence admits no cast", ""]
