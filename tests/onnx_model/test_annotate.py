"""What written nodes say of themselves."""

import numpy as np
import onnx

import ampgraph
from ampgraph.onnx_model.names import CAUSE_KEY, RULE_KEY, WHY_KEY, metadata_of, walk
from tests.small_models import classifier, parse, random

BODIES = """g (float[4,8] x, bool c) => (float[4,4] y) {
    [kept] k = Constant<value_float = 2.0>()
    [free] i = Constant<value_int = 1>()
    [scaled] h = Mul(x, k)
    [rows] n = Shape(h)
    [choice] z = If (c) <
        then_branch = t () => (float[4,4] a) { [inner] a = MatMul(h, w) },
        else_branch = f () => (float[4,4] b) { [product] p = MatMul(h, w) [power] b = Exp(p) }>
    [total] t = ReduceSum<keepdims = 0>(n)
    [double] d = Cast<to = 11>(z) [half] e = Mul(d, two) [back] y = Cast<to = 1>(e) }"""


def said(model: onnx.ModelProto) -> dict[str, str]:
    return {node.name: metadata_of(node, WHY_KEY) for node in walk(model.graph)}


def test_every_node_says_why_in_bodies_too() -> None:
    model = parse(BODIES, w=random(8, 4), two=np.array(2.0))
    found = said(ampgraph.convert(model, objective="coverage").model)
    assert all(found.values()), found
    assert found["inner"].startswith("float16: ")
    assert found["kept"] == "float16: a constant, held as its readers take it (of Mul scaled)"
    assert found["free"] == "a constant that no floating-point operator takes"
    assert found["total"] == "reads and makes no floating-point value"
    assert found["half"] == "left in float64"
    cast = next(name for name in found if name.startswith("Cast_x_to"))
    assert (
        found[cast]
        == "float16: x is made in float32 by what is outside of this graph and read in float16 by Mul scaled"
    )


def test_what_settled_it_and_the_rule_have_keys_of_their_own() -> None:
    nodes = {node.name: node for node in ampgraph.convert(classifier(), objective="coverage").model.graph.node}
    assert metadata_of(nodes["exp"], CAUSE_KEY) == "rule"
    assert metadata_of(nodes["exp"], RULE_KEY) == "sum-of-exponentials"
    assert metadata_of(nodes["conv"], CAUSE_KEY) == "cost"
    assert metadata_of(nodes["conv"], RULE_KEY) == ""
    assert metadata_of(nodes["Cast_image_to_float16"], CAUSE_KEY) == "cast"


def test_further_variables_say_their_own_reasons() -> None:
    """Of a cast of the author's the input and the result are two decisions."""
    text = "g (float[4,8] x) => (float[4,4] y) { p = MatMul(x, w)  h = Cast<to = 10>(p)  [up] y = Cast<to = 1>(h) }"
    model = parse(text, w=random(8, 4))
    found = {node.name: node for node in ampgraph.convert(model, objective="coverage").model.graph.node}
    keys = {entry.key for entry in found["up"].metadata_props}
    assert f"{WHY_KEY}.T2" in keys


def test_a_second_conversion_changes_nothing_and_leaves_no_old_reasons() -> None:
    first = ampgraph.convert(classifier(), objective="coverage").model
    again = ampgraph.convert(first, objective="coverage").model
    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
