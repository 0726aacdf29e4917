"""A hard swish becomes its own operator however it is spelt, and nothing that only looks like one does."""

import numpy as np
import pytest
from onnx import numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPE = {"x": (2, 8, 6, 6)}
NUMBERS = {"three": 3.0, "six": 6.0, "sixth": 1 / 6, "zero": 0.0, "five": 5.0}
PLUS, CLIP = "p = Add(x, three)", "c = Clip(p, zero, six)"


def model(body, opset=17, **numbers):
    found = model_of(f"g (float[n,8,6,6] x) => (float[n,8,6,6] y) {{ {body} }}", opset=opset)
    for name, value in {**NUMBERS, **numbers}.items():
        found.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    return found


@pytest.mark.parametrize(
    "body",
    [
        f"{PLUS} {CLIP} m = Mul(x, c) y = Div(m, six)",
        f"p = Add(three, x) {CLIP} m = Mul(c, x) y = Mul(sixth, m)",
        f"{PLUS} {CLIP} d = Div(c, six) y = Mul(x, d)",
        f"{PLUS} {CLIP} d = Mul(c, sixth) y = Mul(d, x)",
    ],
    ids=["divided last", "by a sixth", "divided first", "by a sixth first"],
)
def test_every_spelling_is_one_operator(body):
    assert counts_of(model(body), SHAPE) == {"HardSwish": 1}


def test_before_its_opset_it_is_two():
    found = counts_of(model(f"{PLUS} {CLIP} m = Mul(x, c) y = Div(m, six)", opset=12), SHAPE)
    assert found == {"HardSigmoid": 1, "Mul": 1}


def test_bounds_are_attributes_in_old_opsets():
    body = f"{PLUS} c = Clip<min = 0.0, max = 6.0>(p) m = Mul(x, c) y = Div(m, six)"
    assert counts_of(model(body, opset=10), SHAPE) == {"HardSigmoid": 1, "Mul": 1}


def test_without_the_product_it_is_a_hard_sigmoid():
    assert counts_of(model(f"{PLUS} {CLIP} y = Div(c, six)"), SHAPE) == {"HardSigmoid": 1}


@pytest.mark.parametrize(
    "body",
    [
        f"{PLUS} {CLIP} m = Mul(x, c) y = Div(m, five)",
        f"{PLUS} {CLIP} y = Mul(x, c)",
        f"{PLUS} c = Clip(p, zero, five) m = Mul(x, c) y = Div(m, six)",
        f"{PLUS} c = Clip(p, zero) m = Mul(x, c) y = Div(m, six)",
        f"p = Add(x, five) {CLIP} m = Mul(x, c) y = Div(m, six)",
        f"{PLUS} {CLIP} m = Mul(c, c) y = Div(m, six)",
        f"{PLUS} {CLIP} y = Div(six, c)",
        f"{PLUS} {CLIP} m = Mul(x, c) d = Div(m, six) y = Add(d, p)",
        f"r = Relu(x) {PLUS} {CLIP} m = Mul(r, c) y = Mul(m, five)",
    ],
    ids=["a fifth", "undivided", "to five", "no top", "plus five", "squared", "turned over", "read twice", "other"],
)
def test_what_only_looks_like_one_stays(body):
    assert fuse(model(body), SHAPE) is None


def test_a_value_that_grows_on_the_way_stays():
    """The constant has the larger shape: the operator's result would be too small."""
    found = model(f"{PLUS} {CLIP} m = Mul(x, c) y = Div(m, six)", six=np.full((3, 1, 1, 1, 1), 6.0))
    found.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 6
    assert fuse(found, SHAPE) is None
