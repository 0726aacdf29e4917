"""Convolutions along one axis, as those of images one pixel high."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own import ROUNDED, error, kept, model_of, own

from ampgraph.onnx_model.native.lines import has_lines
from ampgraph.onnx_model.native.opening import by_rule
from ampgraph.onnx_model.native.rewrite import rewrite

CONV = "Conv<kernel_shape=[3], pads=[1,1]>"
W = {"w": (16, 8, 3), "b": (16,), "v": (16, 16, 3), "r": (16, 1), "odd": (12, 8, 3)}


def line(body: str, output: str = "float16[N,16,L] y", length: str = "L") -> str:
    return f"g (float16[N,8,{length}] x) => ({output}) {{ {body} }}"


def test_a_stack_of_them_is_of_images_with_what_follows_each() -> None:
    model = model_of(line(f"c = {CONV}(x, w, b)  g = Gelu(c)  d = {CONV}(g, v)  y = Relu(d)"), W)
    assert own(model) == {"Conv": 2}
    assert kept(model) == {"Reshape": 2, "Transpose": 2}


@pytest.mark.parametrize(
    "middle",
    [
        "m = LeakyRelu<alpha=0.1>(c)",
        "m = Mul(c, r)",
        "s = Sigmoid(c)  t = Tanh(c)  m = Mul(s, t)",
        "k = Constant<value_float=0.5>()  h = Cast<to=10>(k)  m = Mul(h, c)",
        "a, z = Split<axis=1, num_outputs=2>(c)  m = Concat<axis=1>(z, a)",
        "m = BatchNormalization(c, scale, scale, scale, scale)",
        "p = Pad(c, ends)  m = Tanh(p)",
        'p = Pad<mode="reflect">(c, ends)  m = Tanh(p)',
        "m = MaxPool<kernel_shape=[3], strides=[2]>(c)",
        "m = AveragePool<kernel_shape=[2], pads=[0,1], count_include_pad=1>(c)",
        "m = PRelu(c, r)",
    ],
)
def test_what_computes_the_same_goes_between(middle: str) -> None:
    graph = f"""g (float16[N,8,30] x) => (float16[N,16,M] y) <int64[6] ends = {{0,0,2,0,0,1}}>
        {{ c = {CONV}(x, w, b)  {middle}  y = {CONV}(m, v) }}"""
    model = model_of(graph, {**W, "scale": (16,)})
    variance = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
    variance.raw_data = np.abs(np.frombuffer(variance.raw_data, np.float16)).tobytes()
    assert own(model)["Conv"] == 2
    assert kept(model)["Transpose"] == 2


@pytest.mark.parametrize(
    "middle", ["m = Softmax<axis=1>(c)", "t = Transpose<perm=[1,0,2]>(c)  m = Transpose<perm=[1,0,2]>(t)"]
)
def test_others_are_read_as_they_were(middle: str) -> None:
    model = model_of(line(f"c = {CONV}(x, w, b)  {middle}  y = {CONV}(m, v)"), W)
    assert own(model) == {"Conv": 2}
    assert kept(model)["Reshape"] == 4


@pytest.mark.parametrize(
    ("pad", "opset"),
    [
        ("Pad<pads=[0,0,2,0,0,1]>(c)", 10),  # pads are an attribute
        ("Pad(c, ends, nothing, axis)", 20),  # of one axis
    ],
)
def test_a_pad_that_does_not_say_all_axes_in_a_constant_stays(pad: str, opset: int) -> None:
    graph = f"""g (float16[N,8,30] x) => (float16[N,16,M] y)
        <int64[2] ends = {{2,1}}, float16 nothing = {{0}}, int64[1] axis = {{2}}>
        {{ c = {CONV}(x, w, b)  m = {pad}  y = {CONV}(m, v) }}"""
    model = model_of(graph, W, opset=opset)
    assert own(model) == {"Conv": 2}
    assert kept(model)["Pad"] == 1
    assert kept(model)["Reshape"] == 4


def test_rows_after_it_and_before_it_are_not_turned() -> None:
    body = f"""t = Transpose<perm=[0,2,1]>(x)  c = {CONV}(t, w, b)  g = Gelu(c)  u = Transpose<perm=[0,2,1]>(g)
        y = Tanh(u)"""
    model = model_of(f"g (float16[N,20,8] x) => (float16[N,20,16] y) {{ {body} }}", W)
    assert own(model) == {"Conv": 1}
    assert kept(model) == {"Reshape": 2, "Tanh": 1}


def test_what_is_an_output_stays_one_and_few_channels_are_padded() -> None:
    graph = """g (float[N,1,L] x) => (float16[N,16,M] c, float16[N,16,M] y)
        { h = Cast<to=10>(x)  c = Conv<kernel_shape=[10], strides=[5]>(h, w)  y = Relu(c) }"""
    model = model_of(graph, {"w": (16, 1, 10)})
    assert own(model) == {"Image": 1, "Conv": 1}


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ("kernel_shape=[3]", (12, 8, 3)),  # no whole vectors
        ("kernel_shape=[3], group=8", (8, 1, 3)),  # depthwise
        ('kernel_shape=[3], auto_pad="SAME_UPPER"', (16, 8, 3)),
    ],
)
def test_other_convolutions_along_one_axis_stay(how: str, shape: tuple[int, ...]) -> None:
    model = model_of(line(f"y = Conv<{how}>(x, w)", f"float16[N,{shape[0]},M] y"), {"w": shape})
    assert not has_lines(model)
    assert rewrite(model, {}) is None


def test_where_they_would_be_turned_time_and_again_the_rest_is_ours_without_them() -> None:
    """Whose products have kernels of ours, too."""
    names = ["x", *(f"s{place}" for place in range(6))]
    steps = "  ".join(f"c{new} = {CONV}({old}, w, b)  {new} = Softmax<axis=1>(c{new})" for old, new in pairwise(names))
    graph = f"g (float16[2,8,32] x) => (float16[2,8,16] y) {{ {steps}  p = MatMul({names[-1]}, m)  y = Add(p, k) }}"
    model = model_of(graph, {"w": (8, 8, 3), "b": (8,), "m": (32, 16), "k": (16,)})
    assert own(model)["Conv"] == 6
    found = by_rule(model, {}, cuda_graph=True)
    assert found is not None
    assert found.counts == {"Linear": 1}
    assert by_rule(model_of(line(f"y = {CONV}(x, w, b)"), W), {}, cuda_graph=False) is None


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    gap=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    group=st.sampled_from([1, 2, 4]),
    transposed=st.booleans(),
    length=st.integers(16, 21),
)
def test_whatever_the_window(
    kernel: int, stride: int, gap: int, pads: tuple[int, int], group: int, transposed: bool, length: int
) -> None:
    op, group = ("ConvTranspose", 1) if transposed else ("Conv", group)
    how = f"kernel_shape=[{kernel}], strides=[{stride}], dilations=[{gap}], pads={[*pads]}, group={group}"
    shape = (16, 16, kernel) if transposed else (16, 16 // group, kernel)
    graph = f"g (float16[N,16,L] x) => (float16[N,16,M] y) {{ c = {op}<{how}>(x, w, b)  y = Relu(c) }}"
    model = model_of(graph, {"w": shape, "b": (16,)})
    found = rewrite(model, {})
    assert found is not None
    assert found.counts == {"TransposedConv" if transposed else "Conv": 1}
    assert error(model, found.model, {"x": (2, 16, length)}) < ROUNDED
