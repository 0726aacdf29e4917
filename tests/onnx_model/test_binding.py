"""Slots to decisions: type variables that nothing of their own sets follow the op's main one."""

import pytest
from onnx import ModelProto

from ampgraph.onnx_model.binding import UNSET
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.prepare import prepare
from tests.models import FLOAT16, assert_valid, convert, elem_types, low_ops, nodes, parse

STATE = "float[1,2,4,4] s"
ATTENTION = 'LinearAttention<q_num_heads = 2, kv_num_heads = 2, update_rule = "linear">'


def linear_attention(past: bool) -> ModelProto:
    """A recurrent state that is given, or starts at zero: then no input carries its type variable S."""
    given, operand = (f", {STATE}", ", s") if past else ("", "")
    body = f"q = MatMul(x, w) a, t = {ATTENTION}(q, q, q{operand}) y = MatMul(a, w)"
    text = f"(float[1,2,8] x, float[8,8] w{given}) => (float[1,2,8] y, float[1,2,4,4] t)"
    return parse(f"g {text} {{ {body} }}", opset=27, ir=13)


@pytest.mark.parametrize(("past", "ties"), [(False, (("LinearAttention#1:T", "LinearAttention#1:S"),)), (True, ())])
def test_a_variable_that_no_input_carries_follows_the_main_one(past: bool, ties: tuple[tuple[str, str], ...]) -> None:
    assert lift(prepare(linear_attention(past))).ties == ties


@pytest.mark.parametrize(("past", "low"), [(False, {"MatMul"}), (True, {"MatMul", "LinearAttention"})])
def test_a_state_kept_float32_keeps_what_makes_it(past: bool, low: set[str], tmp_path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text(
        '[[rule]]\nname = "state"\nops = ["LinearAttention"]\nvariables = ["S"]\ncategory = "deny"\n'
        'why = "It adds up over the whole text."\nsource = "a test"\n'
    )
    source = linear_attention(past)
    result = convert(source, rules=rules)
    assert_valid(source, result.model)
    graph = result.planned.graph
    assert {graph.ops[graph.decisions[key].op].type for key in result.plan.low} == low
    assert elem_types(result.model)["t"] == elem_types(source)["t"]


@pytest.mark.parametrize(("declared", "pin"), [("float", UNSET), ("float16", "")])
def test_a_variable_that_follows_nothing_is_pinned(declared: str, pin: str) -> None:
    text = f"""(float16[1,2,4] q) => (float16[1,2,4] y, {declared}[1,2,2,2] p)
    {{ y, , , p = com.microsoft.MultiHeadAttention<num_heads = 2>(q, q, q) }}"""
    assert lift(prepare(parse(f"g {text}", com_microsoft=1))).decisions["MultiHeadAttention#0:QK"].pin == pin


def test_an_attribute_of_a_contrib_op_says_what_is_written() -> None:
    text = "(float[4,4] x, float[4,4] w) => (float[4,4] y) { y = com.microsoft.GemmFloat8<dtype = 1>(x, w) }"
    result = convert(parse(f"g {text}", com_microsoft=1))
    (node,) = nodes(result.model, "GemmFloat8")
    assert "GemmFloat8" in " ".join(low_ops(result))
    assert {attribute.name: attribute.i for attribute in node.attribute} == {"dtype": FLOAT16}


@pytest.mark.parametrize("op", ["RandomNormalLike(x)", "EyeLike(x)", "Bernoulli<dtype = 1>(x)"])
def test_attributes_that_set_a_type_are_left_to_their_table(op: str) -> None:
    graph = lift(prepare(parse(f"g (float[4,4] x) => (float[4,4] y) {{ y = {op} }}")))
    assert UNSET not in {decision.pin for decision in graph.decisions.values()}
    assert len(graph.ties) == (0 if "dtype" in op else 1)
