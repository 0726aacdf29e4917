"""Scores that tanh bounds before a mask is added, as Gemma 2's are: ONNX's own attention from opset 23 on."""

import numpy as np
import pytest
from onnx import helper

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPE = (2, 72, 32)  # four heads of eight, two of keys and values
MASK = (2, 1, 72, 72)
HEADS = """
  four = Constant<value_ints = [0, 0, 4, 8]>()  two = Constant<value_ints = [0, 0, 2, 8]>()
  whole = Constant<value_ints = [0, 0, 32]>()  q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
  qs = Reshape(q, four)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, two)  kh = Transpose<perm = [0, 2, 1, 3]>(ks)
  vs = Reshape(v, two)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  axis = Constant<value_ints = [2]>()  times = Constant<value_ints = [1, 1, 2, 1, 1]>()
  all = Constant<value_ints = [-1, 4, 72, 8]>()
  ku = Unsqueeze(kh, axis)  ke = Expand(ku, times)  kr = Reshape(ke, all)
  vu = Unsqueeze(vh, axis)  ve = Expand(vu, times)  vr = Reshape(ve, all)
  kt = Transpose<perm = [0, 1, 3, 2]>(kr)  s = MatMul(qh, kt)
"""
BOUNDED = "d = Div(s, three)  e = Div(d, bound)  t = Tanh(e)  m = Mul(t, bound)"
MASKED = BOUNDED.replace("m = Mul(t, bound)", "f = Mul(t, bound)  m = Add(f, mask)")
ATTEND = """
  p = Softmax<axis = -1>(m)  o = MatMul(p, vr)
  ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  y = MatMul(om, wo)
"""
WEIGHTS = {"wq": (32, 32), "wk": (32, 16), "wv": (32, 16), "wo": (32, 32)}


def text_of(bounded: str, inputs: str = "") -> str:
    numbers = "float three = {3.0}, float bound = {0.5}, float zero = {0.0}"
    lows = "float low = {-10000.0}, float lowest = {-3.4028235e38}"
    return f"g (float[n,72,32] x{inputs}) => (float[n,72,32] y) <{numbers}, {lows}> {{ {HEADS} {bounded} {ATTEND} }}"


def test_bounded_scores_of_grouped_heads_are_one_operator():
    found = counts_of(model_of(text_of(BOUNDED), WEIGHTS, opset=23), {"x": SHAPE})
    assert (found["Attention"], found["MatMul"]) == (1, 4)
    assert not found["Tanh"] + found["Softmax"] + found["Expand"] + found["Transpose"]


SEEN = """
  some = Greater(keys, zero)  all_of = Greater(rows, zero)  seen = And(some, all_of)  mask = Where(seen, zero, {low})
"""
KEPT = ", float[n,1,72,72] keys, float[n,1,72,1] rows"


def test_a_mask_on_bounded_scores_is_added_after_the_bound():
    """Some rows are masked out whole, which leaves every key the same weight."""
    model = model_of(text_of(SEEN.replace("{low}", "lowest") + MASKED, KEPT), WEIGHTS, opset=23)
    found = counts_of(model, {"x": SHAPE, "keys": MASK, "rows": (2, 1, 72, 1)})
    assert (found["Attention"], found["Softmax"], found["Where"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("masked", "inputs", "shapes"),
    [
        (MASKED, ", float[n,1,72,72] mask", {"mask": MASK}),
        (SEEN.replace("{low}", "low") + MASKED, KEPT, {"keys": MASK, "rows": (2, 1, 72, 1)}),
    ],
    ids=["given", "not as low"],
)
def test_masks_that_may_leave_nothing_stay_on_bounded_scores(masked: str, inputs: str, shapes: dict):
    model = model_of(text_of(masked, inputs), WEIGHTS, opset=23)
    assert not counts_of(model, {"x": SHAPE, **shapes})["Attention"]


CAUSAL = """
  size = Shape<start = 1, end = 2>(x)  count = Squeeze(size)  nought = Constant<value_int = 0>()
  first = Constant<value_int = 1>()  places = Range(nought, count, first)
  last = Constant<value_ints = [1]>()  column = Unsqueeze(places, last)  ok = LessOrEqual(places, column)
  mask = Where(ok, zero, low)
"""


def test_a_causal_mask_on_bounded_scores_is_the_kernels_own():
    model = model_of(text_of(CAUSAL + MASKED), WEIGHTS, opset=23)
    assert counts_of(model, {"x": SHAPE})["Attention"] == 1
    found = fuse(model, {"x": SHAPE})
    assert found is not None
    node = next(each for each in found.model.graph.node if each.op_type == "Attention")
    said = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    assert (said["is_causal"], said["softcap"], said["kv_num_heads"], len(node.input)) == (1, 0.5, 2, 3)
    assert np.isclose(said["scale"], 1 / 3)


def test_a_bias_beside_a_causal_mask_on_bounded_scores_stays():
    both = CAUSAL + BOUNDED.replace("m = Mul(t, bound)", "f = Mul(t, bound)  g = Add(f, bias)  m = Add(g, mask)")
    model = model_of(text_of(both, ", float[1,4,72,72] bias"), WEIGHTS, opset=23)
    assert not counts_of(model, {"x": SHAPE, "bias": (1, 4, 72, 72)})["Attention"]


@pytest.mark.parametrize(
    ("bounded", "opset"),
    [
        (BOUNDED, 22),
        (BOUNDED.replace("m = Mul(t, bound)", "l = Neg(bound)  m = Mul(t, l)"), 23),
        (BOUNDED.replace("e = Div(d, bound)", "e = Add(d, bound)"), 23),
        (BOUNDED.replace("Tanh(e)", "Sigmoid(e)"), 23),
    ],
    ids=["older", "negative", "moved", "another bound"],
)
def test_other_bounds_stay(bounded: str, opset: int):
    found = counts_of(model_of(text_of(bounded), WEIGHTS, opset=opset), {"x": SHAPE})
    assert not found["Attention"] + found["MultiHeadAttention"]
