"""Explain: one sentence per cause, with figures and sources."""

import numpy as np
import pytest

from ampgraph.api import Result, convert, examine
from ampgraph.errors import OptionError
from ampgraph.onnx_model.names import WHY_KEY
from tests.small_models import classifier, parse, random

BRANCHES = """g (float[1,8] x, bool c) => (float[1,4] y) {
    [choice] y = If (c) <
        then_branch = t () => (float[1,4] a) { [inner] a = MatMul(x, w) },
        else_branch = f () => (float[1,4] b) { [other] b = MatMul(x, w) }>
}"""


@pytest.fixture(scope="module")
def result() -> Result:
    return convert(classifier(), objective="memory", shapes={"image": (2, 8, 16, 16)})


def words(result: Result, node: str) -> str:
    return " ".join(result.explain(node).split())


def test_a_choice_by_cost_gives_both_prices_and_the_casts(result: Result) -> None:
    said = words(result, "conv")
    assert "type variable T: float16" in said
    assert "in float32, casts included" in said
    assert "by itself: 8 KiB in float16, 16 KiB in float32" in said
    assert "cast to float16 for 8 KiB" in said
    assert "kernel (8x8x3x3 W)" in said
    assert "a parameter kept in float16; float16 would move it by" in said


def test_a_rule_gives_its_reason_source_and_place(result: Result) -> None:
    said = words(result, "exp")
    assert "rule sum-of-exponentials (softmax.toml:" in said
    assert "source: " in said
    assert "type variable T: float32 rule: sum-of-exponentials, see above" in said


def test_taint_names_its_origin(result: Result) -> None:
    assert "taint: follows Exp 'exp', which stays float32" in words(result, "share")


def test_parameters_ranges_kernels_and_pins() -> None:
    text = """g (float[1,8] x) => (float[1,4] y) {
        [large] h = Mul(x, big)  [product] p = MatMul(h, w)  [arc] q = Atan(p)  [custom] y = custom.Mystery(q) }"""
    model = parse(text, big=random(8) + 90000, w=random(8, 4))
    result = convert(model, objective="coverage")
    assert "parameter: 'big':" in words(result, "large")
    assert "runs Atan-7 on the CPU provider" in words(result, "arc")
    assert "pin: no schema is known for custom.Mystery" in words(result, "custom")
    assert "an operator without schema" in words(result, "custom")


def test_ranges_are_shown_where_they_are_known() -> None:
    result = convert(parse("g (float[4] x) => (float[4] y) { [s] h = Sigmoid(x)  [r] y = Relu(h) }"))
    assert "within [0, 1]" in words(result, "r")


def test_nodes_in_bodies_say_how_often_they_run() -> None:
    result = convert(parse(BRANCHES, w=random(8, 4)), objective="coverage")
    assert "in choice/then_branch, which runs 0.5 times a run" in words(result, "inner")


def test_a_value_stands_for_the_node_that_makes_it(result: Result) -> None:
    assert result.explain("logits") == result.explain("head")


def test_interfaces_are_explained_too(result: Result) -> None:
    assert "image: graph input, in float32 pin: the interface keeps its type" in words(result, "image")


def test_nodes_of_one_name_are_all_explained() -> None:
    text = "g (float[4] x) => (float[4] y) { [twin] h = Relu(x)  [twin] y = Exp(h) }"
    said = words(convert(parse(text)), "twin")
    assert "twin: Relu" in said
    assert "twin: Exp" in said


def test_a_parameter_is_told_to_be_one_with_its_readers(result: Result) -> None:
    with pytest.raises(
        OptionError, match="'kernel': is a parameter, which no node makes; name one that reads it: conv"
    ):
        result.explain("kernel")
    with pytest.raises(OptionError, match=r"reads it: inner, other$"):
        convert(parse(BRANCHES, w=random(8, 4))).explain("w")


def test_unknown_names_come_with_close_ones(result: Result) -> None:
    with pytest.raises(OptionError, match=r"close names are.* conv"):
        result.explain("konv")
    with pytest.raises(OptionError, match="name a node"):
        result.explain("%%%%")
    for node in (None, 3, ["conv"]):
        with pytest.raises(OptionError, match=r"^node: is .*; give a string$"):
            result.explain(node)


def test_lines_keep_to_their_width(result: Result) -> None:
    for node in ("conv", "exp", "share", "image"):
        assert max(map(len, result.explain(node).splitlines())) <= 80


def test_a_chain_is_followed_to_its_root() -> None:
    text = "g (float[4,4] x) => (float[4,4] y) { [root] a = Exp(x)  [next] b = Add(a, a)  [last] y = Mul(b, b) }"
    found = convert(parse(text), objective="coverage")
    said = " ".join(found.explain("last").split())
    assert "taint: follows" in said
    assert "at the root, Exp 'root': rule:" in said
    assert "at the root" not in found.explain("root")


def test_the_name_of_an_operator_is_answered_with_its_nodes() -> None:
    text = "g (float[4] x) => (float[4] y) { [first] a = Exp(x)  [second] y = Exp(a) }"
    with pytest.raises(OptionError, match=r"nodes of that operator are first, second"):
        convert(parse(text)).explain("exp")


def test_a_converted_file_gives_its_recorded_reasons_and_says_what_is_new(result: Result) -> None:
    found = examine(result.model)
    conv, exp, share = (words(found, node) for node in ("conv", "exp", "share"))
    assert "recorded when it was converted type variable T: float16 cost: " in conv
    assert f"cost: {result.plan.choices['conv:T'].why} computed anew, from the file rule convolution" in conv
    assert "by itself: 8 KiB in float16, 16 KiB in float32" in conv
    assert "features" in conv
    assert "reads image_float16 (2x8x16x16 X), cast from image in float32" in conv
    assert "in the source" not in conv
    assert "T: float32 rule: sum-of-exponentials, see below rule sum-of-exponentials (softmax.toml" in exp
    assert "recorded when it was converted type variable T: float32 taint: follows Exp 'exp'" in share
    assert "graph input, in float32; computed anew, from the file" in words(found, "image")


def test_a_recorded_chain_is_followed_to_its_root_too() -> None:
    text = "g (float[4,4] x) => (float[4,4] y) { [root] a = Exp(x)  [next] b = Add(a, a)  [last] y = Mul(b, b) }"
    found = examine(convert(parse(text), objective="coverage").model)
    assert "at the root, Exp 'root': rule: " in words(found, "last")


def test_a_chain_whose_next_node_is_gone_ends_there() -> None:
    text = "g (float[4,4] x) => (float[4,4] y) { [root] a = Exp(x)  [last] y = Mul(a, a) }"
    model = convert(parse(text), objective="coverage").model
    for entry in model.graph.node[1].metadata_props:
        entry.value = entry.value.replace("'root'", "'gone'")
    said = words(examine(model), "last")
    assert "taint: follows Exp 'gone', which stays float32" in said
    assert "at the root" not in said


def test_a_node_changed_since_it_was_converted_says_so() -> None:
    model = convert(classifier(), objective="coverage").model
    (conv,) = (node for node in model.graph.node if node.name == "conv")
    (entry,) = (entry for entry in conv.metadata_props if entry.key == WHY_KEY)
    entry.value = entry.value.replace("float16: ", "float32: ", 1)
    assert "it is float16 now: something else changed it since" in words(examine(model), "conv")


def test_a_name_that_fusing_took_away_is_answered_with_those_that_hold_it() -> None:
    numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
    constants = {name: np.array(number, np.float32) for name, number in numbers.items()}
    model = parse(GELU, w=random(64, 64), bias=random(64), **constants)
    for found in (convert(model, shapes={"x": (8192, 64)}), examine(convert(model, shapes={"x": (8192, 64)}).model)):
        assert "errors_erf became part of " in found.explain("errors_erf")
        with pytest.raises(OptionError, match=r"nodes of such names were fused: errors_erf$"):
            found.explain("Erf")


GELU = """g (float[N,64] x) => (float[N,64] y) {
    [a] h = MatMul(x, w)  [b] i = Add(h, bias)  [c] j = Div(i, root)  [errors_erf] k = Erf(j)  [e] l = Add(k, one)
    [f] m = Mul(i, l)  [g] y = Mul(m, half) }"""
