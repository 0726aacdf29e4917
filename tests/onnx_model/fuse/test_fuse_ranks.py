"""Values of no axis, of one, and of a batch of one: patterns look at last axes, and at who has the shape of whom."""

import pytest

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

GELU = "d = Mul(x, r2)  e = Erf(d)  a = Add(e, one)  m = Mul(x, a)  u = Mul(m, half)"
TANH = """p = Pow(t, three)  q = Mul(p, part)  i = Add(t, q)  j = Mul(i, root)  k = Tanh(j)  l = Add(k, one)
    o = Mul(t, l)  s = Mul(o, half)"""
NUMBERS = """float r2 = {0.70710677}, float one = {1.0}, float half = {0.5}, float thousand = {1000.0},
    float three = {3.0}, float part = {0.044715}, float root = {0.7978846}, int64[1] zero = {0}, int64[2] ones = {1, 1},
    int64[4] four = {1, 1, 1, 1},
    float[1,1] w1 = {2.0}, float[1,4] f = {1.0, 2.0, 3.0, 4.0}, float[4] v4 = {1.0, 2.0, 3.0, 4.0}"""
OF_A_NUMBER = {
    "Mul": "s = Mul(t, half)",
    "Mul of a Transpose": "o = Transpose(t)  s = Mul(o, half)",
    "Mul of a product": "b = MatMul(v4, v4)  o = Mul(t, b)  s = Mul(o, half)",
    "row of a number": "o = Unsqueeze(t, zero)  s = Mul(o, thousand)",
    "product of a number": "o = Reshape(t, ones)  s = MatMul(o, w1)",
    "timestep": "o = Reshape(t, ones)  b = Mul(o, thousand)  s = Mul(b, f)",
    "GELU": "b = Add(t, one)  s = Gelu(b)",
    "GELU of an erf": "o = Mul(t, r2)  b = Erf(o)  i = Add(b, one)  j = Mul(t, i)  s = Mul(j, half)",
    "GELU of a tanh": TANH,
    "attention": """o = Reshape(t, four)  b = Transpose<perm = [0, 1, 3, 2]>(o)  i = MatMul(o, b)
        j = Softmax<axis = -1>(i)  s = MatMul(j, o)""",
}


def with_a_number(body: str) -> str:
    return f"""g (float[n,6,16] x) => (float[n,6,16] y, float r) <{NUMBERS}> {{
        {GELU}  y = MatMul(u, w)  c = ReduceMean<keepdims = 0>(x)  t = Sigmoid(c)  {body}
        r = ReduceSum<keepdims = 0>(s) }}"""


@pytest.mark.parametrize("body", OF_A_NUMBER.values(), ids=OF_A_NUMBER)
def test_a_number_without_an_axis_is_no_hindrance(body: str):
    found = counts_of(model_of(with_a_number(body), {"w": (16, 16)}, opset=20), {"x": (2, 6, 16)})
    assert found["Gelu"] >= 1
    assert not found["FastGelu"] + found["BiasGelu"]


def test_scores_may_be_of_one_axis_and_their_mask_of_all():
    """They are square with the mask alone, by which they are spread."""
    text = f"""g (float[n,2,4,4] x) => (float[n,2,4,4] y) <{NUMBERS}> {{
        v = ReduceMean<axes = [0, 1, 2], keepdims = 0>(x)  a = MatMul(v, m4)  b = Add(a, mask)
        p = Softmax<axis = -1>(b)  y = MatMul(p, x) }}"""
    assert fuse(model_of(text, {"m4": (4, 4), "mask": (1, 2, 4, 4)}), {"x": (2, 2, 4, 4)}) is None


EVERY = {"w": (32, 32), "bias": (32,), "row": (1, 72, 32), "g": (32,), "h": (32,)}
SUMS = {
    "a number": "t = Add(a, one)",
    "a row": "t = Add(a, bias)",
    "the value": "t = Add(a, x)",
    "the value with a bias": "c = Add(a, bias)  t = Add(c, x)",
    "a row of tokens": "t = Add(a, row)",
    "itself": "t = Add(a, a)",
}


@pytest.mark.parametrize("sum_", SUMS.values(), ids=SUMS)
def test_a_batch_that_is_always_one_is_normalized_like_any_other(sum_: str):
    body = f"{{ a = MatMul(x, w)  {sum_}  l = LayerNormalization(t, g, h)  y = MatMul(l, w) }}"
    found = [
        counts_of(
            model_of(f"g (float[{batch},72,32] x) => (float[{batch},72,32] y) <float one = {{1.0}}> {body}", EVERY),
            {"x": (1, 72, 32)},
        )
        for batch in ("n", 1)
    ]
    assert [each["SkipLayerNormalization"] for each in found] == [1, 1]
    assert found[0] == found[1]
