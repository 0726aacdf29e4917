"""A GELU by way of a tanh is one operator however it is spelt, and nothing that only looks like one is."""

from collections import Counter

import pytest

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPE = {"x": (2, 5, 16)}
NUMBERS = (
    "<float a = {0.044715}, float c = {0.7978845608}, float ac = {0.0356774081}, float one = {1.0}, float two = {2.0}, "
    "float half = {0.5}, float third = {3.0}, float off = {0.05}>"
)
SPELLINGS = {
    "a power, the value halved": """p = Pow(x, third)  q = Mul(p, a)  r = Add(x, q)  s = Mul(r, c)  t = Tanh(s)
        u = Add(t, one)  h = Mul(x, half)  y = Mul(h, u)""",
    "squares, the sum halved": """p = Mul(x, x)  q = Mul(p, a)  r = Add(one, q)  k = Mul(x, c)  s = Mul(k, r)
        t = Tanh(s)  u = Add(one, t)  h = Mul(u, half)  y = Mul(h, x)""",
    "both in one, divided last": """p = Mul(x, x)  k = Mul(ac, p)  r = Add(k, c)  s = Mul(x, r)  t = Tanh(s)
        u = Add(t, one)  h = Mul(x, u)  y = Div(h, two)""",
}
FIRST = SPELLINGS["a power, the value halved"]


def model(body: str, outputs: str = ""):
    return model_of(f"g (float[n,5,16] x) => (float[n,5,16] y{outputs}) {NUMBERS} {{ {body} }}")


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_a_fast_gelu(spelling: str):
    assert counts_of(model(spelling), SHAPE) == {"FastGelu": 1}


def test_it_is_of_the_value_before_it_and_not_of_what_that_is_made_of():
    body = FIRST.replace("x", "z").replace("p =", "z = Mul(x, two)  p =", 1)
    assert counts_of(model(body), SHAPE) == Counter({"FastGelu": 1, "Mul": 1})


@pytest.mark.parametrize(
    "body",
    [
        FIRST.replace("Mul(p, a)", "Mul(p, off)"),
        FIRST.replace("Pow(x, third)", "Pow(x, two)"),
        FIRST.replace("h = Mul(x, half)  y = Mul(h, u)", "y = Mul(x, u)"),
        FIRST.replace("Mul(x, half)", "Mul(s, half)"),
        "t = Tanh(x)  y = Mul(t, x)",
    ],
    ids=["another number", "another power", "twice as much", "of another value", "a tanh"],
)
def test_what_only_looks_like_a_fast_gelu_stays(body: str):
    assert fuse(model(body), SHAPE) is None


def test_a_part_that_is_needed_stays_beside_it():
    found = counts_of(model(FIRST.replace("h =", "e = Relu(q)  h ="), ", float[n,5,16] e"), SHAPE)
    assert found == {"FastGelu": 1, "Pow": 1, "Mul": 1, "Relu": 1}


def test_a_tanh_that_somebody_else_reads_stays():
    assert fuse(model(FIRST.replace("h =", "e = Relu(t)  h ="), ", float[n,5,16] e"), SHAPE) is None
