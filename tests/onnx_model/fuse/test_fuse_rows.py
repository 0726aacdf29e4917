"""Normalizations of rows, patches as products, and scales in weights: the float32 answers stay."""

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

ROW = {"g": (16,), "h": (16,)}


def test_a_normalization_of_no_sum_takes_the_kernel_for_sums():
    text = "g (float[n,6,16] x) => (float[n,6,16] y) { a = MatMul(x, w)  y = LayerNormalization(a, g, h) }"
    found = counts_of(model_of(text, {"w": (16, 16), **ROW}), {"x": (2, 6, 16)})
    assert found == {"MatMul": 1, "Reshape": 2, "SkipLayerNormalization": 1}


def test_a_root_mean_square_of_what_is_no_sum_is_one_too():
    """The first one of a decoder, of its embedding."""
    text = """g (float[n,6,16] x) => (float[n,6,16] y) <float small = {0.001}, float two = {2.0}> {
        a = MatMul(x, w)  q = Pow(a, two)  m = ReduceMean<axes = [-1]>(q)  v = Add(m, small)  r = Sqrt(v)
        c = Reciprocal(r)  i = Mul(a, c)  y = Mul(g, i) }"""
    found = counts_of(model_of(text, {"w": (16, 16), **ROW}), {"x": (2, 6, 16)})
    assert found == {"MatMul": 1, "Reshape": 2, "SkipSimplifiedLayerNormalization": 1}


PARTS = """m = ReduceMean<axes = [-1]>(t)  d = Sub(t, m)  q = Pow(d, two)  n = ReduceMean<axes = [-1]>(q)
    v = Add(n, small)  r = Sqrt(v)  e = Div(d, r)  i = Mul(e, g)"""


def in_parts(before: str, parts: str, after: str) -> ModelProto:
    """A layer normalization as exporters before opset 17 write it."""
    text = f"""g (float[n,6,16] x) => (float[n,6,16] y) <float small = {{0.001}}, float two = {{2.0}}> {{
        {before} {parts} {after} }}"""
    return model_of(text, {"w": (16, 16), **ROW}, opset=16)


def test_a_layer_normalization_in_parts_is_one():
    shapes = {"x": (2, 6, 16)}
    alone = counts_of(in_parts("t = MatMul(x, w)", PARTS, "y = Add(i, h)"), shapes)
    assert alone == {"MatMul": 1, "Reshape": 2, "SkipLayerNormalization": 1}
    sums = counts_of(in_parts("a = MatMul(x, w)  t = Add(x, a)", PARTS, "y = Add(h, i)"), shapes)
    assert sums == {"MatMul": 1, "SkipLayerNormalization": 1}


@pytest.mark.parametrize("after", ["y = Add(i, x)", "y = Relu(i)", "p = MatMul(i, w)  y = Add(p, h)"])
def test_a_layer_normalization_in_parts_may_lack_its_shift(after: str):
    """It is in the bias of what reads it in PP-OCR's recognition, after another fusion."""
    shapes = {"x": (2, 6, 16)}
    alone = counts_of(in_parts("t = MatMul(x, w)", PARTS, after), shapes)
    assert (alone["SkipLayerNormalization"], alone["ReduceMean"]) == (1, 0)
    sums = counts_of(in_parts("a = MatMul(x, w)  t = Add(x, a)", PARTS, after), shapes)
    assert (sums["SkipLayerNormalization"], sums["ReduceMean"], sums["Reshape"]) == (1, 0, 0)


def test_a_normalization_without_a_shift_takes_the_kernel_for_sums():
    text = "g (float[n,6,16] x) => (float[n,6,16] y) { a = MatMul(x, w)  y = LayerNormalization(a, g) }"
    found = counts_of(model_of(text, {"w": (16, 16), **ROW}), {"x": (2, 6, 16)})
    assert found == {"MatMul": 1, "Reshape": 2, "SkipLayerNormalization": 1}
    added = "g (float[n,6,16] x) => (float[n,6,16] y) { a = MatMul(x, w)  s = Add(a, x)  y = LayerNormalization(s, g) }"
    assert counts_of(model_of(added, {"w": (16, 16), **ROW}), {"x": (2, 6, 16)})["SkipLayerNormalization"] == 1


@pytest.mark.parametrize(
    ("parts", "after"),
    [
        (PARTS, "s = Add(i, h)  y = Add(s, m)"),  # the mean is read
        (PARTS, "s = Add(i, h)  y = Mul(s, d)"),
        (PARTS.replace("Sub(t, m)", "Sub(x, m)"), "y = Add(i, h)"),  # of something else
        (PARTS.replace("m = ReduceMean<axes = [-1]>", "m = ReduceMean<axes = [1]>"), "y = Add(i, h)"),
    ],
)
def test_what_takes_off_something_else_is_no_layer_normalization(parts: str, after: str):
    counts = counts_of(in_parts("t = MatMul(x, w)", parts, after), {"x": (2, 6, 16)})
    assert counts["SkipLayerNormalization"] == 0
    assert counts["SkipSimplifiedLayerNormalization"] == 1


def test_it_takes_the_bias_before_it_along():
    text = """g (float[n,6,16] x) => (float[n,6,16] y) {
        a = MatMul(x, w)  b = Add(r, a)  y = LayerNormalization<epsilon = 0.001>(b, g, h) }"""
    found = counts_of(model_of(text, {"w": (16, 16), "r": (16,), **ROW}), {"x": (2, 6, 16)})
    assert found == {"MatMul": 1, "Reshape": 2, "SkipLayerNormalization": 1}


def test_a_bias_that_others_read_stays():
    text = """g (float[n,6,16] x) => (float[n,6,16] y, float[n,6,16] b) {
        a = MatMul(x, w)  b = Add(a, r)  y = LayerNormalization(b, g, h) }"""
    found = counts_of(model_of(text, {"w": (16, 16), "r": (16,), **ROW}), {"x": (2, 6, 16)})
    assert found["Add"] == 1
    assert found["SkipLayerNormalization"] == 1


def test_two_free_dimensions_cannot_be_brought_back():
    text = "g (float[n,t,16] x) => (float[n,t,16] y) { y = LayerNormalization(x, g, h) }"
    assert not counts_of(model_of(text, ROW), {"x": (2, 6, 16)})


@pytest.mark.parametrize("last", ["axis = 1", "axis = -2"])
def test_other_axes_are_left(last):
    text = f"g (float[n,6,16] x) => (float[n,6,16] y) {{ y = LayerNormalization<{last}>(x, g, h) }}"
    assert not counts_of(model_of(text, {"g": (6, 16), "h": (6, 16)}), {"x": (2, 6, 16)})


def test_sums_of_four_axes_are_normalized_in_rows():
    text = """g (float[n,4,4,16] x) => (float[n,4,4,16] y) {
        a = MatMul(x, w)  b = Add(a, r)  t = Add(x, b)  l = LayerNormalization(t, g, h)  c = MatMul(l, w)
        y = Add(t, c) }"""
    found = counts_of(model_of(text, {"w": (16, 16), "r": (16,), **ROW}), {"x": (2, 4, 4, 16)})
    assert found == {"MatMul": 2, "Reshape": 4, "SkipLayerNormalization": 1, "Add": 1}


GROUPED = """g (float[n,16,5,5] x) => (float[n,5,5,16] y) {
    c = Conv<group = 16, pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, k, r)
    t = Transpose<perm = [0, 2, 3, 1]>(c)  y = LayerNormalization(t, g, h) }"""


def test_a_normalization_takes_the_bias_of_a_convolution_in_groups():
    model = model_of(GROUPED, {"k": (16, 1, 3, 3), "r": (16,), **ROW})
    found = fuse(model, {"x": (2, 16, 5, 5)})
    assert counts_of(model, {"x": (2, 16, 5, 5)})["SkipLayerNormalization"] == 1
    assert [len(node.input) for node in found.model.graph.node if node.op_type == "Conv"] == [2]


def test_other_convolutions_keep_their_bias():
    text = GROUPED.replace("group = 16", "group = 1")
    found = fuse(model_of(text, {"k": (16, 16, 3, 3), "r": (16,), **ROW}), {"x": (2, 16, 5, 5)})
    assert [len(node.input) for node in found.model.graph.node if node.op_type == "Conv"] == [3]


PATCHES = "c = Conv<strides = [4, 4], kernel_shape = [4, 4]>(x, k, r)"
TOKENS = f"""g (float[n,3,8,8] x) => (float[n,4,16] y) {{
    {PATCHES}  s = Constant<value_ints = [0, 16, 4]>()  f = Reshape(c, s)  t = Transpose<perm = [0, 2, 1]>(f)
    y = LayerNormalization(t, g, h) }}"""
LAST = f"""g (float[n,3,8,8] x) => (float[n,2,2,16] y) {{
    {PATCHES}  t = Transpose<perm = [0, 2, 3, 1]>(c)  y = LayerNormalization(t, g, h) }}"""
KEPT = f"g (float[n,3,8,8] x) => (float[n,16,2,2] y) {{ {PATCHES}  y = LayerNormalization(c, two, half) }}"


@pytest.mark.parametrize(("text", "turns"), [(TOKENS, 1), (LAST, 1), (KEPT, 2)], ids=["tokens", "last", "kept"])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_convolution_of_patches_is_a_product(text, turns, batch):
    weights = {"k": (16, 3, 4, 4), "r": (16,), **({"two": (2,), "half": (2,)} if "two" in text else ROW)}
    found = counts_of(model_of(text, weights), {"x": (batch, 3, 8, 8)})
    assert (found["Conv"], found["MatMul"], found["Transpose"]) == (0, 1, turns)


@pytest.mark.parametrize(
    ("changed", "kernel"),
    [
        ("strides = [2, 4]", (16, 3, 4, 4)),
        ("strides = [4, 4], pads = [0, 0, 1, 0]", (16, 3, 4, 4)),
        ("strides = [4, 4], dilations = [2, 2]", (16, 3, 4, 4)),
        ("strides = [4, 4], group = 3", (15, 1, 4, 4)),
    ],
)
def test_windows_that_overlap_or_leave_their_image_stay_a_convolution(changed, kernel):
    made = f"c = Conv<{changed}, kernel_shape = [4, 4]>(x, k)  e = Erf(c)"
    model = model_of(f"g (float[n,3,9,9] x) => (float y) {{ {made}  y = Add(c, e) }}", {"k": kernel})
    assert not counts_of(model, {"x": (2, 3, 9, 9)})["MatMul"]


SCALED = """g (float[n,5,16] x) => (float[n,16,5] y) {
    l = LayerNormalization(x, g, h)  a = MatMul(l, w)  b = Add(a, r)  t = Transpose<perm = [0, 2, 1]>(b)
    s = Mul(z, t)  e = Transpose<perm = [0, 2, 1]>(x)  y = Add(s, e) }"""


def test_a_scale_per_channel_goes_into_the_weights():
    found = counts_of(model_of(SCALED, {"w": (16, 16), "r": (16,), "z": (16, 1), **ROW}), {"x": (2, 5, 16)})
    assert found["Mul"] == 0
    assert found["MatMul"] == 1


@pytest.mark.parametrize("scale", [(1, 5), (16, 5), (1, 1)])
def test_a_scale_along_another_axis_stays(scale):
    model = model_of(SCALED, {"w": (16, 16), "r": (16,), "z": scale, **ROW})
    assert counts_of(model, {"x": (2, 5, 16)})["Mul"] == 1


def test_a_scale_that_would_take_weights_below_float16_stays():
    model = model_of(SCALED, {"w": (16, 16), "r": (16,), "z": (16, 1), **ROW})
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "z")
    scale.CopyFrom(numpy_helper.from_array(np.full((16, 1), 1e-6, np.float32), "z"))
    assert counts_of(model, {"x": (2, 5, 16)})["Mul"] == 1


def test_a_product_that_others_read_unscaled_stays():
    text = SCALED.replace("y = Add(s, e)", "f = Erf(t)  o = Add(s, f)  y = Add(o, e)")
    model = model_of(text, {"w": (16, 16), "r": (16,), "z": (16, 1), **ROW})
    assert counts_of(model, {"x": (2, 5, 16)})["Mul"] == 1


def test_at_batch_one_the_same_is_found_as_at_any_other():
    text = """g (float[n,4,4,16] x) => (float[n,4,4,16] y) {
        a = MatMul(x, w)  t = Add(x, a)  y = LayerNormalization(t, g, h) }"""
    model = model_of(text, {"w": (16, 16), **ROW})
    found = [fuse(model, {"x": (batch, 4, 4, 16)}) for batch in (1, 2, 7)]
    assert found[0].model == found[1].model == found[2].model
    assert [each.shapes[next(iter(each.shapes))] for each in found] == [(16, 1, 16), (32, 1, 16), (112, 1, 16)]


def test_what_halves_and_doubles_its_image_is_looked_at_in_whole_steps():
    grouped = "Conv<group = 8, pads = [1, 1, 1, 1], kernel_shape = [3, 3]>"
    text = f"""g (float[n,8,h,w] x) => (float[n,8,h,w] y) {{
        c = {grouped}(x, k, b)  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        d = ConvTranspose<kernel_shape = [2, 2], strides = [2, 2]>(p, t)  a = Add(c, d)  y = {grouped}(a, k, b) }}"""
    model = model_of(text, {"k": (8, 1, 3, 3), "b": (8,), "t": (8, 8, 2, 2)})
    assert fuse(model, {"x": (2, 8, 16, 16)}).counts == {"bias apart": 2}


def test_biases_of_grouped_convolutions_become_sums():
    text = """g (float[n,8,6,6] x) => (float[n,8,6,6] y) {
        c = Conv<group = 8, pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, k, b)  y = Relu(c) }"""
    assert counts_of(model_of(text, {"k": (8, 1, 3, 3), "b": (8,)}), {"x": (2, 8, 6, 6)}) == {
        "Conv": 1,
        "Add": 1,
        "Relu": 1,
    }


def test_convolutions_of_one_pixel_keep_their_bias():
    """Those of squeeze and excite: a sum would be another launch."""
    text = """g (float[n,8,6,6] x) => (float[n,8,6,6] y) {
        c = Conv<group = 8, pads = [1, 1, 1, 1], kernel_shape = [3, 3]>(x, k, b)
        p = GlobalAveragePool(c)  q = Conv<group = 8, kernel_shape = [1, 1]>(p, t, b)  y = Mul(c, q) }"""
    found = counts_of(model_of(text, {"k": (8, 1, 3, 3), "t": (8, 1, 1, 1), "b": (8,)}), {"x": (2, 8, 6, 6)})
    assert (found["Conv"], found["Add"]) == (2, 1)


@pytest.mark.parametrize(("axes", "pools"), [("[2, 3]", 1), ("[-1, -2]", 1), ("[1, 2]", 0), ("[2]", 0)])
def test_the_mean_of_an_image_is_a_pool(axes, pools):
    text = f"""g (float[n,8,6,6] x) => (float[n,p,q,r] y) {{
        c = Conv<group = 8, kernel_shape = [3, 3]>(x, k, b)  y = ReduceMean<axes = {axes}, keepdims = 1>(c) }}"""
    found = counts_of(model_of(text, {"k": (8, 1, 3, 3), "b": (8,)}), {"x": (2, 8, 6, 6)})
    assert found["GlobalAveragePool"] == pools
