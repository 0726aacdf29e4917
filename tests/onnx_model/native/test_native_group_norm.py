"""Group normalization, sums of images in two layouts, and rows that are images: nothing changes a layout in between."""

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from own import error, kept, own

from ampgraph.onnx_model.native.rewrite import rewrite

CONTRIB = "com.microsoft"
CONV = "Conv<pads=[1,1,1,1], kernel_shape=[3,3]>"
TURN, BACK = "Transpose<perm=[0,2,3,1]>", "Transpose<perm=[0,3,1,2]>"
OTHER = "Transpose<perm=[0,1,3,2]>"
NORM = f"{CONTRIB}.GroupNorm<activation=1, channels_last=1, groups=4, epsilon=1e-5>"
CONVOLVED = f"t = {TURN}(x)  n = {NORM}(t, gamma, beta)  m = {BACK}(n)  y = {CONV}(m, w)"
FLOAT = f"t = {TURN}(x)  f = {NORM}(t, gamma, beta)  n = Cast<to=10>(f)  m = {BACK}(n)  c = {CONV}(m, w)"
IMAGE, WIDE = "float16[N,16,6,6]", "float[N,16,6,6]"


def model_of(graph: str, channels: int = 16) -> ModelProto:
    """Of a graph's text, with weights of a convolution and rows of a normalization."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    arrays = {
        "w": (generator.standard_normal((channels, channels, 3, 3)) / 12).astype(np.float16),
        "gamma": (1 + generator.standard_normal(channels)).astype(np.float32),
        "beta": generator.standard_normal(channels).astype(np.float32),
    }
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def changes(model: ModelProto) -> int:
    return kept(model)["Transpose"]


def test_channels_last_from_one_convolution_to_the_next() -> None:
    model = model_of(f"g ({IMAGE} x) => ({IMAGE} y) {{ {CONVOLVED} }}")
    assert own(model) == {"Conv": 1, "GroupNorm": 1}
    assert changes(model) == 2  # of what comes and of what goes


def test_a_sum_by_channel_goes_with_the_normalization_after_it() -> None:
    for order in ("x, e", "e, x"):
        graph = f"""g ({IMAGE} x, float16[N,16,1,1] e) => ({IMAGE} y)
            {{ a = Add({order})  {CONVOLVED.replace("(x)", "(a)", 1)} }}"""
        model = model_of(graph)
        assert own(model) == {"Conv": 1, "GroupNorm": 1}
        assert kept(model)["Add"] == 0


@pytest.mark.parametrize(
    ("given", "further", "output"),
    [
        ("float16[1,16,1,1] e", "", ""),  # of all images one
        ("float16[N,16,1,1] e", "z = Tanh(a)", f", {IMAGE} z"),  # the sum is read elsewhere too
        (f"{IMAGE} e", "", ""),  # no number a channel
    ],
)
def test_other_sums_stay(given: str, further: str, output: str) -> None:
    graph = f"""g ({IMAGE} x, {given}) => ({IMAGE} y{output})
        {{ a = Add(x, e)  {further} {CONVOLVED.replace("(x)", "(a)", 1)} }}"""
    model = model_of(graph)
    assert own(model) == {"Conv": 1, "GroupNorm": 1}
    assert kept(model)["Add"] == 1


def test_a_float32_image_is_read_as_it_lies_and_added_to_as_it_lies() -> None:
    for order in ("x, d", "d, x"):
        model = model_of(f"g ({WIDE} x) => ({WIDE} y) {{ {FLOAT}  d = Cast<to=1>(c)  y = Add({order}) }}")
        assert own(model) == {"Conv": 1, "GroupNorm": 1, "Residual": 1}
        assert not kept(model)


@pytest.mark.parametrize(
    "graph",
    [
        f"g ({WIDE} x) => (float[N,6,6,16] f) {{ t = {TURN}(x)  f = {NORM}(t, gamma, beta) }}",  # float32 it stays
        f"g (float16[N,6,6,16] x) => (float16[N,6,6,16] y) {{ y = {NORM}(x, gamma, beta) }}",  # no change of layout
        f"g (float16[N,6,16,6] x) => (float16[N,6,6,16] y) {{ t = {OTHER}(x)  y = {NORM}(t, gamma, beta) }}",
    ],
)
def test_other_normalizations_stay(graph: str) -> None:
    assert rewrite(model_of(graph), {}) is None


def test_channels_that_are_no_whole_vectors_stay() -> None:
    graph = f"g (float16[N,12,6,6] x) => (float16[N,6,6,12] y) {{ t = {TURN}(x)  y = {NORM}(t, gamma, beta) }}"
    assert rewrite(model_of(graph, 12), {}) is None


@pytest.mark.parametrize(
    ("sum_", "output"),
    [
        ("d = Cast<to=1>(c)  y = Add(x, d)  z = Tanh(d)", f", {WIDE} z"),  # the cast is read elsewhere too
        ("d = Cast<to=1>(c)  y = Add(e, d)", ""),  # of another shape
    ],
)
def test_other_sums_with_images_stay(sum_: str, output: str) -> None:
    graph = f"g ({WIDE} x, float[1,16,6,6] e) => ({WIDE} y{output}) {{ {FLOAT}  {sum_} }}"
    assert own(model_of(graph)) == {"Conv": 1, "GroupNorm": 1}


ROWS = f"""g ({IMAGE} x) => (float16[N,16,6,6] y) <int64[3] flat = {{0, 16, 36}}, int64[4] back = {{0, 16, 6, 6}}>
    {{ a = {CONV}(x, w)  v = Reshape(a, flat)  r = Transpose<perm=[0,2,1]>(v)  s = Tanh(r)
       u = Transpose<perm=[0,2,1]>(s)  i = Reshape(u, back)  y = {CONV}(i, w) }}"""


def test_rows_of_pixels_are_images_with_channels_last_under_another_shape() -> None:
    model = model_of(ROWS)
    assert own(model) == {"Conv": 2}
    assert kept(model) == {"Transpose": 2, "Reshape": 2, "Tanh": 1}


def test_rows_of_free_sizes_are_turned_back() -> None:
    graph = f"""g (float16[N,16,H,W] x) => (float16[N,16,H,W] y)
        {{ a = {CONV}(x, w)  k = Shape(a)  flat = Constant<value_ints = [0, 16, -1]>()  v = Reshape(a, flat)
           r = Transpose<perm=[0,2,1]>(v)  s = Tanh(r)  u = Transpose<perm=[0,2,1]>(s)
           i = Reshape(u, k)  y = {CONV}(i, w) }}"""
    model = model_of(graph)
    assert own(model) == {"Conv": 2}
    assert kept(model)["Transpose"] >= 3  # of what comes, of what the rows were turned to, of what goes


def test_rows_in_another_order_are_none_of_an_image() -> None:
    turned = ROWS.replace("r = Transpose<perm=[0,2,1]>(v)", "r = Reshape(v, swapped)").replace(
        "int64[3] flat", "int64[3] swapped = {0, 36, 16}, int64[3] flat"
    )
    model = model_of(turned)
    assert own(model) == {"Conv": 2}
    assert kept(model)["Transpose"] == 3  # y's and x's, and a's back


def attention(
    inputs: str = "x, w, b", how: str = "num_heads=2", columns: int = 48, rows: int = 1 << 15, bias: float = 1.0
) -> ModelProto:
    graph = f"""g (float16[N,{rows},16] x, int32[N] mask) => (float16[N,{rows},{columns // 3}] y)
        {{ y = {CONTRIB}.Attention<{how}>({inputs}) }}"""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    for name, shape in {"w": (16, columns), "b": (columns,)}.items():
        array = (generator.standard_normal(shape) / 4 * (bias if name == "b" else 1)).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize(("bias", "product"), [(1.0, "Linear"), (0.0, "MatMul")])
def test_packed_attention_of_many_rows_becomes_three_products(bias: float, product: str) -> None:
    found = rewrite(attention(bias=bias), {})
    assert found is not None
    assert found.counts == Counter({"MultiHeadAttention": 1, "Linear": 3 if product == "Linear" else 0}) + Counter()
    *products, whole = found.model.graph.node
    assert [each.op_type for each in products] == [product] * 3
    assert whole.op_type == "MultiHeadAttention"
    assert [entry.name for entry in whole.attribute] == ["num_heads"]
    arrays = {each.name: numpy_helper.to_array(each) for each in found.model.graph.initializer}
    given = {each.name: numpy_helper.to_array(each) for each in attention(bias=bias).graph.initializer}
    parts = [arrays[each.input[1]] for each in products]
    joined = np.concatenate([each.T for each in parts] if product == "Linear" else parts, 1)
    np.testing.assert_array_equal(joined, given["w"])


@pytest.mark.parametrize(
    "model",
    [
        attention("x, w, b, mask"),
        attention("x, w"),
        attention(how="num_heads=2, unidirectional=1"),
        attention(columns=36),
        attention(rows=1 << 10),  # few rows
    ],
)
def test_attention_with_more_to_it_stays(model: ModelProto) -> None:
    assert rewrite(model, {}) is None


def test_split_gelu_and_bias_add() -> None:
    graph = f"""g (float16[2,5,16] x, float16[2,5,16] z) => (float16[2,5,16] y)
        {{ p = MatMul(x, a)  h = {CONTRIB}.BiasSplitGelu(p, b)  q = MatMul(h, c)  y = {CONTRIB}.BiasAdd(q, d, z) }}"""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    for name, shape in {"a": (16, 2560), "b": (2560,), "c": (1280, 16), "d": (16,)}.items():
        array = (generator.standard_normal(shape) / shape[0] ** 0.5).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    value = helper.make_tensor_value_info("q", TensorProto.FLOAT16, [2, 5, 16])
    model.graph.value_info.append(value)
    found = rewrite(model, {})
    assert found is not None
    assert found.counts == {"Gated": 1, "Linear": 1}
    assert error(model, found.model) < 2e-3


def test_packed_attention_stays_where_products_are_not_looked_for() -> None:
    assert rewrite(attention(), {}, products=False) is None
