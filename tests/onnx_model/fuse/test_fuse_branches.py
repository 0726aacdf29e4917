"""Branches: the one that is taken stands in the place of an If, where that is known at any size."""

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto

from ampgraph.onnx_model.fuse.branches import with_branches
from ampgraph.onnx_model.run import CPU, open_session, run
from tests.onnx_model.fuse.answers import counts_of, model_of

WEIGHTS = {"w": (16, 16), "b": (16,)}
ASKED = "s = Shape(p)  r = Size(s)  c = {condition}(r, three)"
IF = """
  three = Constant<value_int = 3>()  p = MatMul(x, w)  {asked}
  q = If (c) <
      then_branch = t () => (float[n,5,16] d) {{ half = Constant<value_float = 0.5>()  d = Mul(p, half) }},
      else_branch = e () => (float[n,5,16] f) {{ f = Add(p, b) }}>
  y = Gelu(q)
"""


def model(asked: str, more: str = "") -> ModelProto:
    text = f"g (float[n,5,16] x{more}) => (float[n,5,16] y) {{ {IF.format(asked=asked)} }}"
    return model_of(text, WEIGHTS, opset=20)


@pytest.mark.parametrize(("condition", "kernel"), [("Less", "BiasGelu"), ("Equal", "Mul")])
def test_the_number_of_axes_is_known(condition: str, kernel: str) -> None:
    """As torch.onnx's older exporter asks for it. By a number instead of a sum nothing is fused."""
    found = counts_of(model(ASKED.format(condition=condition)), {"x": (2, 5, 16)})
    assert not found["If"]
    assert found[kernel] == (kernel == "BiasGelu")


def test_a_size_is_not() -> None:
    """An If that free dimensions decide stays."""
    body = model("s = Shape(p)  r = Gather(s, first)  c = Less(r, three)  first = Constant<value_int = 0>()")
    assert with_branches(body) is body
    assert "BiasGelu" not in counts_of(body, {"x": (2, 5, 16)})


def test_an_input_decides_at_each_run() -> None:
    body = model("", ", bool c")
    assert with_branches(body) is body


def decided(text: str) -> ModelProto:
    return model_of(f"g (float[n] x) => (float[n] y, float[n] z) {{ {text} }}")


def test_the_branch_that_is_taken_with_what_it_holds_and_reads() -> None:
    before = decided("""
        yes = Constant<value = bool {1}>()  no = Constant<value = bool {0}>()  u = Neg(x)
        a, y = If (yes) <
            then_branch = t () => (float[n] a0, float[n] y0) {
                two = Constant<value_float = 2.0>()  a0 = Mul(u, two)  y0 = Sqrt(u) },
            else_branch = e () => (float[n] a1, float[n] y1) { a1 = Abs(x)  y1 = Abs(u) }>
        z = If (no) <
            then_branch = p () => (float[n] z0) { z0 = Exp(x) },
            else_branch = q () => (float[n] z1) <float three = {3.0}> {
                i = If (yes) < then_branch = v () => (float[n] i0) { i0 = Mul(a, three) },
                               else_branch = k () => (float[n] i1) { i1 = Abs(a) }>
                z1 = Sqrt(i) }>""")
    after = with_branches(before)
    assert Counter(node.op_type for node in after.graph.node if node.op_type != "Constant") == Counter(
        {"Neg": 1, "Mul": 1, "Identity": 3, "If": 1, "Sqrt": 2}
    )
    assert [node.op_type for node in with_branches(after).graph.node].count("If") == 0
    feeds = {"x": -np.arange(4, dtype=np.float32)}
    expected = run(open_session(before, provider=CPU), feeds)
    for each in (after, with_branches(after)):
        found = run(open_session(each, provider=CPU), feeds)
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_names_that_stand_for_something_else_too_keep_an_if() -> None:
    """Two branches may both have a value of one name; the same place of a graph may not."""
    one, other = "(float[n] u) { u = Neg(x) }", "(float[n] v) { v = Abs(x) }"
    first, second = (f"then_branch = {k} () => {one}, else_branch = {m} () => {other}" for k, m in ("ab", "cd"))
    body = f"yes = Constant<value = bool {{1}}>()  y = If (yes) < {first} >  z = If (yes) < {second} >"
    found = decided(body)
    assert with_branches(found) is found
