"""What is read off a model about the session that runs it fastest."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.preferences import (
    convolves_along_lines,
    has_biases_apart,
    has_low_convolutions,
    prefers_channels_last,
    prefers_tf32,
    takes_biases_inside,
)

HEADER = '<ir_version: 10, opset_import: ["" : 17]>'


def parse(graph: str) -> onnx.ModelProto:
    return parser.parse_model(f"{HEADER} {graph}")


def test_channels_last_is_for_low_weights() -> None:
    model = parse("g (float16[1,2,4,4] x, float16[1,2,4,4] w) => (float16[1,1,1,1] y) { y = Conv(x, w) }")
    assert not has_low_convolutions(model)
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 2, 4, 4), np.float16), "w"))
    assert has_low_convolutions(model)
    model.graph.initializer[0].data_type = onnx.TensorProto.FLOAT
    assert not has_low_convolutions(model)


def test_biases_of_grouped_and_transposed_convolutions_are_left_apart():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8,8] x, float[4,{}] w, float[4] b) => (y)
        {{ y = Conv{}(x, w, b) }}"""
    grouped, transposed = (
        text.format("1,3,3", " <group = 4> "),
        text.format("4,3,3", "").replace("Conv", "ConvTranspose"),
    )
    assert takes_biases_inside(parser.parse_model(text.format("4,3,3", "")))
    for each in (grouped, transposed):
        assert not takes_biases_inside(parser.parse_model(each))
        assert takes_biases_inside(parser.parse_model(each.replace(", b)", ")")))


def test_biases_that_fusing_took_apart_are_told_from_others():
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4,8,8] x, float[4,1,3,3] w, float[4,1,1] b) => (y) { c = Conv<group = 4>(x, w)  y = Add(c, b) }""")
    assert not has_biases_apart(model)
    model.graph.node[1].metadata_props.add(key=ORIGIN_KEY, value="conv")
    assert has_biases_apart(model)


@pytest.mark.parametrize(
    ("weight", "group", "tf32", "last"),
    [
        ("4,4,3,3", 1, True, True),
        ("4,4,3,3", 1, False, False),
        ("4,1,3,3", 4, True, False),
        ("4,4,3", 1, True, True),
        ("4,1,3", 4, True, True),
        ("4,4,3", 1, False, False),
    ],
    ids=["images", "no TF32", "groups", "signals", "signals in groups", "signals without TF32"],
)
def test_convolutions_of_images_in_tf32_prefer_channels_last(weight, group, tf32, last):
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8,8] x) => (y)
        <float[{weight}] w> {{ y = Conv<group = {group}>(x, w) }}""")
    model.graph.initializer.add(name="w", data_type=1, dims=map(int, weight.split(",")))
    assert prefers_channels_last(model, tf32) is last


@pytest.mark.parametrize(("channels", "count", "last"), [(58, 8, False), (64, 8, True), (58, 7, True)])
def test_low_convolutions_of_odd_channels_prefer_channels_first(channels, count, last):
    names = ["x", *(f"c{place}" for place in range(count + 3))]
    pairs = list(pairwise(names))
    body = " ".join(f"{new} = Conv({old}, {'w' if place < count else 'v'})" for place, (old, new) in enumerate(pairs))
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float16[1,{channels},8,8] x) => ({names[-1]}) {{ {body} }}""")
    for name, size in (("w", channels), ("v", 64)):
        model.graph.initializer.add(name=name, data_type=10, dims=[size, size, 1, 1])
    assert prefers_channels_last(model, tf32=True) is last


def test_convolutions_of_our_own_are_none_to_lay_out():
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17, "ampgraph" : 1]>
        g (float16[1,8,8,8] x) => (y) { y = ampgraph.Conv(x, w) }""")
    model.graph.initializer.add(name="w", data_type=10, dims=[8, 1, 1, 8])
    assert not prefers_channels_last(model, tf32=True)


SOUND = "c = Conv(x, w)"
IN_A_BRANCH = """c = If (b) <
    then_branch = t () => (float[1,4,8] u) { k = Constant<value = float[4,4,1] {1}>() u = Conv(x, k) },
    else_branch = e () => (float[1,4,8] v) { v = Identity(x) }>"""


def sound(body: str) -> onnx.ModelProto:
    model = parse(f"g (float[1,4,8] x, bool b) => (float[1,4,8] c) {{ {body} }}".replace("{1}", "{" + "1," * 15 + "1}"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4, 1), np.float32), "w"))
    return model


@pytest.mark.parametrize("body", [SOUND, IN_A_BRANCH], ids=["convolution", "in a branch"])
def test_models_of_sound_take_tf32_as_cuda_graphs_alone(body):
    assert convolves_along_lines(sound(body))
    assert prefers_tf32(sound(body), cuda_graph=True)
    assert not prefers_tf32(sound(body), cuda_graph=False)


def test_a_matrix_product_beside_it_takes_tf32():
    assert prefers_tf32(sound(f"{SOUND} m = MatMul(c, c)"), cuda_graph=False)


@pytest.mark.parametrize(("width", "tf32"), [(1, False), (2, True)])
def test_a_product_counts_by_its_weights(width, tf32):
    """A recurrent cell that is written out is small beside the convolutions; layers of a transformer are not."""
    model = sound(f"{SOUND} m = MatMul(c, v)")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, width), np.float32), "v"))
    assert prefers_tf32(model, cuda_graph=False) is tf32


def test_a_model_without_convolutions_takes_tf32():
    assert prefers_tf32(parse("g (float[2,2] x) => (float[2,2] y) { y = MatMul(x, x) }"), cuda_graph=False)
