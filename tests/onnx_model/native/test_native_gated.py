"""Gated activations of two products."""

import pytest
from own import kept, model_of, own

from ampgraph.onnx_model.native.rewrite import rewrite

WEIGHTS = {"a": (8, 16), "b": (8, 16), "w": (16, 8)}


def gated(products: str, gate: str, output: str = "") -> str:
    return (
        f"g (float16[N,5,8] x, float16[N,5,8] z) => (float16[N,5,8] y{output}) {{ {products} {gate} y = MatMul(h, w) }}"
    )


SILU = "s = Sigmoid(p)  t = Mul(p, s)"


@pytest.mark.parametrize("order", ["t, q", "q, t"])
@pytest.mark.parametrize("gate", [SILU, "t = Relu(p)"])
def test_two_products_of_the_same_rows_become_one(gate: str, order: str) -> None:
    model = model_of(gated("p = MatMul(x, a)  q = MatMul(x, b)", f"{gate}  h = Mul({order})"), WEIGHTS)
    assert own(model) == {"Gated": 1}
    assert kept(model) == {"MatMul": 2}


def test_products_of_other_rows_stay_two() -> None:
    model = model_of(gated("p = MatMul(x, a)  q = MatMul(z, b)", f"{SILU}  h = Mul(t, q)"), WEIGHTS)
    assert own(model) == {"Gated": 1}
    assert kept(model) == {"MatMul": 3}


def test_a_product_that_is_an_output_too_stays() -> None:
    graph = gated("p = MatMul(x, a)  q = MatMul(x, b)", f"{SILU}  h = Mul(t, q)", ", float16[N,5,16] q")
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Gated": 1}
    assert kept(model) == {"MatMul": 3}


@pytest.mark.parametrize(
    ("products", "gate"),
    [
        ("p = MatMul(x, a)  q = MatMul(x, b)", "t = Tanh(p)  h = Mul(t, q)"),
        ("p = MatMul(x, a)  q = Relu(p)", f"{SILU}  h = Mul(t, q)"),  # what it is multiplied by is no product
    ],
)
def test_others_are_left_alone(products: str, gate: str) -> None:
    assert rewrite(model_of(gated(products, gate), WEIGHTS), {}) is None


def test_rows_that_are_no_whole_vectors_are_left_alone() -> None:
    graph = gated("p = MatMul(x, a)  q = MatMul(x, b)", f"{SILU}  h = Mul(t, q)")
    assert rewrite(model_of(graph, {"a": (8, 12), "b": (8, 12), "w": (12, 8)}), {}) is None
