"""Products with nothing after them that goes with them, as kernels of our own."""

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser
from own import kept, model_of, own

import ampgraph
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.run import CUDA, best_provider

WEIGHTS = {"w": (8, 16), "b": (16,)}


@pytest.mark.parametrize("shape", ["", "N", "N,5", "N,5,7"])
def test_a_product_of_any_rank_is_taken_as_it_is(shape: str) -> None:
    sizes = f"{shape}," if shape else ""
    model = model_of(f"g (float16[{sizes}8] x) => (float16[{sizes}16] y) {{ y = MatMul(x, w) }}", {"w": (8, 16)})
    assert own(model) == {"Linear": 1}
    assert not kept(model)


@pytest.mark.parametrize(("rows", "taken"), [(16, False), (1 << 15, True)])
@pytest.mark.usefixtures("real_sizes")
def test_a_product_of_few_rows_stays(rows: int, taken: bool) -> None:
    model = model_of("g (float16[N,8] x) => (float16[N,16] y) { y = MatMul(x, w) }", {"w": (8, 16)})
    assert (rewrite(model, {"x": (rows, 8)}) is not None) is taken


def test_what_goes_with_no_product_stays_after_it() -> None:
    graph = "g (float16[N,8] x) => (float16[N,16] y, float16[N,16] p) { p = MatMul(x, w)  y = Add(p, b) }"
    model = model_of(graph, WEIGHTS)
    assert own(model) == {"Linear": 1}
    assert kept(model) == {"Add": 1}


def test_a_bias_goes_with_a_product_once() -> None:
    model = model_of("g (float16[N,8] x) => (float16[N,16] y) { p = MatMul(x, w)  y = Add(p, b) }", WEIGHTS)
    assert own(model) == {"Linear": 1}
    assert not kept(model)


def test_weights_of_two_products_are_turned_for_both() -> None:
    graph = (
        "g (float16[N,8] x, float16[N,8] z) => (float16[N,16] y) { p = MatMul(x, w) q = MatMul(z, w) y = Mul(p, q) }"
    )
    model = model_of(graph, {"w": (8, 16)})
    assert own(model) == {"Linear": 2}
    rewritten = rewrite(model, {})
    assert rewritten is not None
    assert sorted(tuple(each.dims) for each in rewritten.model.graph.initializer) == [(16, 8)]


def test_the_product_that_two_gated_ones_become_is_taken_too() -> None:
    graph = """g (float16[N,8] x) => (float16[N,16] y)
        { p = MatMul(x, a)  q = MatMul(x, b)  s = Sigmoid(p)  t = Mul(p, s)  y = Mul(t, q) }"""
    model = model_of(graph, {"a": (8, 16), "b": (8, 16)})
    assert own(model) == {"Gated": 1, "Linear": 1}
    assert not kept(model)


@pytest.mark.parametrize(
    "model",
    [
        model_of("g (float16[N,8] x, float16[8,16] w) => (float16[N,16] y) { y = MatMul(x, w) }", {}),  # no weights
        model_of("g (float[N,8] x) => (float[N,16] y) { y = MatMul(x, w) }", {"w": (8, 16)}, np.float32),
        model_of("g (float16[N,8] x) => (float16[N,12] y) { y = MatMul(x, w) }", {"w": (8, 12)}),  # no whole vectors
        model_of("g (float16[3,N,8] x) => (float16[3,N,16] y) { y = MatMul(x, w) }", {"w": (3, 8, 16)}),  # three
        model_of("g (float16[8,N] x) => (float16[16,N] y) { y = MatMul(w, x) }", {"w": (16, 8)}),  # from the left
    ],
)
def test_products_of_other_kinds_stay(model: ModelProto) -> None:
    assert rewrite(model, {}) is None


def test_none_is_taken_where_products_are_not_looked_for() -> None:
    model = model_of("g (float16[N,8] x) => (float16[N,16] y) { y = MatMul(x, w) }", {"w": (8, 16)})
    assert rewrite(model, {}, products=False) is None


def test_the_three_of_packed_attention_without_a_bias_are_taken() -> None:
    """onnxruntime's CPU provider has no float16 Attention, so what they are is looked at."""
    graph = "g (float16[N,32768,16] x) => (float16[N,32768,16] y) { y = com.microsoft.Attention<num_heads=2>(x, w, b) }"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]> {graph}')
    weight = np.arange(16 * 48).reshape(16, 48).astype(np.float16)
    for name, array in (("w", weight), ("b", np.zeros(48, np.float16))):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    found = rewrite(model, {})
    assert found is not None
    assert found.counts == Counter({"MultiHeadAttention": 1, "Linear": 3})
    arrays = {each.name: numpy_helper.to_array(each) for each in found.model.graph.initializer}
    parts = [arrays[each.input[1]].T for each in found.model.graph.node if each.op_type == "Linear"]
    np.testing.assert_array_equal(np.concatenate(parts, 1), weight)


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
@pytest.mark.parametrize("rows", [1, 49, 1500])
@pytest.mark.parametrize(
    ("after", "biased", "summed"),
    [
        ("y = MatMul(x, w)", 0, 0),
        ("p = MatMul(x, w)  y = Add(p, b)", 1, 0),
        ("p = MatMul(x, w)  a = Add(p, b)  y = Add(a, z)", 1, 1),
    ],
    ids=["alone", "bias", "bias and rows"],
)
def test_on_the_gpu_products_are_as_near_float64_as_rounding(rows: int, after: str, biased: int, summed: int) -> None:
    graph = f"g (float16[{rows},768] x, float16[{rows},320] z) => (float16[{rows},320] y) {{ {after} }}"
    model = model_of(graph, {"w": (768, 320), "b": (320,)})
    w, b = (numpy_helper.to_array(each).astype(np.float64) for each in model.graph.initializer)
    generator = np.random.default_rng(0)
    x, z = (generator.standard_normal((rows, width)).astype(np.float16) for width in (768, 320))
    session = ampgraph.Session(model, native=True, cuda_graph=False)
    assert session.notes == ("kernels of our own: 1 Linear",)
    expected = x.astype(np.float64) @ w + biased * b + summed * z
    difference = np.linalg.norm(session.run({"x": x, "z": z})["y"] - expected) / np.linalg.norm(expected)
    assert difference < 4e-4  # half a unit in the last place of float16, relative L2, is 2 to 3e-4
