"""Channels that are no whole vectors are widened with zeros where convolutions alone read them."""

import pytest
from own import kept, model_of, own

CONV = "Conv<kernel_shape=[3,3], pads=[1,1,1,1]>"
POINT = "Conv<kernel_shape=[1,1]>"
W = {"w": (12, 8, 3, 3), "b": (12,), "v": (16, 12, 1, 1), "r": (12, 1, 1), "u": (20, 12, 1, 1), "t": (8, 20, 1, 1)}
W |= {"s": (8, 12, 1, 1)}


def graph(body: str, outputs: str = "float16[N,16,6,6] y") -> str:
    return f"g (float16[N,8,6,6] x) => ({outputs}) {{ {body} }}"


@pytest.mark.parametrize(
    "middle",
    [
        f"c = {CONV}(x, w, b)  m = Relu(c)",
        f"c = {CONV}(x, w)  a = Add(r, c)  m = HardSwish(a)",
        f"c = {CONV}(x, w, b)  g = Sigmoid(c)  m = Mul(c, g)",
        f"c = {CONV}(x, w, b)  g = HardSigmoid(c)  m = Mul(g, c)",
        f"c = {CONV}(x, w, b)  m = Gelu(c)",
        f"c = {CONV}(x, w)  m = Identity(c)",
    ],
)
def test_both_convolutions_are_ours_then(middle: str) -> None:
    model = model_of(graph(f"{middle}  y = {POINT}(m, v)"), W)
    assert own(model) == {"Conv": 2}
    assert kept(model)["Transpose"] == 2


def test_one_after_the_other_and_more_than_one_reader() -> None:
    body = f"c = {CONV}(x, w, b)  d = {POINT}(c, u)  n = Relu(d)  y = {POINT}(n, t)  z = {POINT}(c, v)"
    model = model_of(graph(body, "float16[N,8,6,6] y, float16[N,16,6,6] z"), W)
    assert own(model) == {"Conv": 4}


@pytest.mark.parametrize(
    "middle",
    [
        f"c = {CONV}(x, w, b)  m = Softplus(c)",  # of nothing something
        f"c = {CONV}(x, w, b)  m = Softmax<axis=1>(c)",
        f"c = {CONV}(x, w, b)  g = Sigmoid(c)  m = Mul(g, g)",
        f"c = {CONV}(x, w, b)  g = Sigmoid(c)  h = Mul(c, g)  m = Add(h, g)",
        "c = Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=4>(x, k)  m = Relu(c)",
    ],
)
def test_others_stay_as_they_are(middle: str) -> None:
    model = model_of(graph(f"{middle}  y = {POINT}(m, v)"), {**W, "k": (12, 2, 3, 3)})
    assert "Conv" not in own(model)


def test_what_is_an_output_stays_so() -> None:
    body = f"c = {CONV}(x, w, b)  y = {POINT}(c, v)"
    assert own(model_of(graph(body, "float16[N,16,6,6] y, float16[N,12,6,6] c"), W)) == {}
    assert own(model_of(graph(f"y = {CONV}(x, w, b)", "float16[N,12,6,6] y"), W)) == {}


def test_a_constant_that_others_read_stays_theirs() -> None:
    body = f"c = {CONV}(x, w, b)  y = {POINT}(c, v)  d = {CONV}(x, w, b)  z = Tanh(d)"
    model = model_of(graph(body, "float16[N,16,6,6] y, float16[N,12,6,6] z"), W)
    assert own(model) == {"Conv": 2}
    assert kept(model)["Conv"] == 1
