"""Products with one are nothing."""

from collections import Counter

import pytest
from answers import model_of

from ampgraph.onnx_model.fuse.net import read, rewritten
from ampgraph.onnx_model.fuse.ones import fuse_ones
from ampgraph.onnx_model.types import infer, types_in


def left(body: str, outputs: str = "float[2,3] y") -> Counter[str]:
    constants = "float one = {1}, float[1] row = {1}, float[1,1,1] deep = {1}, float two = {2}, float[3] ones = {1,1,1}"
    source = model_of(f"g (float[2,3] x) => ({outputs}) <{constants}> {{ {body} }}")
    shapes = {name: each.shape for name, each in types_in(infer(source, {}).graph).items() if each.shape is not None}
    found = rewritten(source, [fuse_ones(read(source, shapes, {}))])
    return Counter(node.op_type for node in found.graph.node)


@pytest.mark.parametrize("product", ["Mul(x, one)", "Mul(one, x)", "Mul(x, row)"])
def test_they_go(product: str) -> None:
    assert left(f"m = {product}  y = Tanh(m)") == {"Tanh": 1}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("m = Mul(x, two)  y = Tanh(m)", "float[2,3] y"),
        ("m = Mul(x, deep)  y = Tanh(m)", "float[1,2,3] y"),  # one axis more
        ("m = Mul(one, two)  y = Mul(x, m)", "float[2,3] y"),
        ("y = Mul(x, one)", "float[2,3] y"),  # an output keeps its name
    ],
)
def test_others_stay(body: str, outputs: str) -> None:
    assert left(body, outputs)["Mul"] >= 1
