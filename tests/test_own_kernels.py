"""What a graph's own kernels are, beside what the rewrite of the converted model takes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper, parser

import ampgraph
from ampgraph.cost import price
from ampgraph.devices import device_named
from ampgraph.errors import OptionError
from ampgraph.judge import judge
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.native.opening import by_rule, counts_on_kernels
from ampgraph.options import Options, make_options
from ampgraph.own_kernels import NONE, OwnKernels, own_kernels
from ampgraph.precision import Precision
from ampgraph.ranges import propagate
from ampgraph.rulebook import load_builtin

NATIVE = make_options(cuda_graph=True, native=True)
PLAIN = "w, b"


def images(body: str, weights: dict[str, tuple[int, ...]], channels: int = 16) -> ModelProto:
    """A model of images of 16 x 16 in float32."""
    text = (
        f'<ir_version: 10, opset_import: ["" : 17]> g (float[2,{channels},16,16] x) => (float[A,B,C,D] y) {{ {body} }}'
    )
    model = parser.parse_model(text)
    generator = np.random.default_rng(0)
    for name, shape in weights.items():
        values = (generator.standard_normal(shape) / 8).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def found(model: ModelProto, options: Options = NATIVE) -> OwnKernels:
    graph = lift(model)
    return own_kernels(graph, judge(graph, load_builtin(), propagate(graph), options.precision), options)


def kinds(model: ModelProto) -> tuple[list[str], list[str]]:
    """Types of the ops that are ours, and of those that go with them."""
    ours, ops = found(model), lift(model).ops
    return sorted(ops[id].type for id in ours.convolutions), sorted(ops[id].type for id in ours.carried)


SAME = "pads = [1, 1, 1, 1]"
NUMBERS: dict[str, tuple[int, ...]] = {"r": (1, 16, 1, 1), "n": (1,), "columns": (16, 1)}
CONVOLUTIONS = {
    "dense": (f"y = Conv<{SAME}>(x, w, b)", (24, 16, 3, 3), True),
    "odd channels made": (f"y = Conv<{SAME}>(x, w, b)", (12, 16, 3, 3), False),
    "depthwise": (f"y = Conv<{SAME}, group = 16>(x, w, b)", (16, 1, 3, 3), True),
    "depthwise, stride 2": (f"y = Conv<{SAME}, group = 16, strides = [2, 2]>(x, w, b)", (16, 1, 3, 3), True),
    "depthwise, strides of two kinds": (
        f"y = Conv<{SAME}, group = 16, strides = [2, 1]>(x, w, b)",
        (16, 1, 3, 3),
        True,
    ),
    "depthwise, stride 3": (f"y = Conv<{SAME}, group = 16, strides = [3, 1]>(x, w, b)", (16, 1, 3, 3), False),
    "depthwise, wide": ("y = Conv<pads = [4, 4, 4, 4], group = 16>(x, w, b)", (16, 1, 9, 9), False),
    "depthwise, dilated": (f"y = Conv<{SAME}, group = 16, dilations = [2, 3]>(x, w, b)", (16, 1, 3, 3), True),
    "depthwise, dilated with strides": (
        f"y = Conv<{SAME}, group = 16, dilations = [2, 2], strides = [2, 2]>(x, w, b)",
        (16, 1, 3, 3),
        False,
    ),
    "in groups": (f"y = Conv<{SAME}, group = 2>(x, w, b)", (16, 8, 3, 3), True),
    "padded by a word": ('y = Conv<auto_pad = "SAME_UPPER">(x, w, b)', (16, 16, 3, 3), False),
    "transposed": ("y = ConvTranspose<strides = [2, 2]>(x, w, b)", (16, 24, 2, 2), True),
    "transposed, odd channels": ("y = ConvTranspose<strides = [2, 2]>(x, w, b)", (16, 12, 2, 2), False),
}


@pytest.mark.parametrize(
    ("middle", "ours"),
    [
        ("d = Relu(c)", 2),
        ("s = Sigmoid(c) d = Mul(c, s)", 2),
        ("a = Add(c, r) d = HardSwish(a)", 2),
        ("d = Clip(c, zero, six)", 0),
        ("d = Softmax<axis = 1>(c)", 0),
        ("d = BatchNormalization(c, n, n, n, n)", 0),
        ("d = Add(c, c)", 0),
    ],
)
def test_channels_between_convolutions_are_made_whole(middle: str, ours: int) -> None:
    weights = {"w": (12, 16, 3, 3), "v": (24, 12, 1, 1), "r": (1, 12, 1, 1), "n": (12,)}
    model = images(f"c = Conv<{SAME}>(x, w) {middle} y = Conv(d, v)", weights)
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in BOUNDS.items())
    for tensor in model.graph.initializer:
        if tensor.name == "n":
            tensor.raw_data = np.abs(np.frombuffer(tensor.raw_data, np.float32)).tobytes()
    assert len(found(model).convolutions) == ours
    low = ampgraph.convert(model, objective="coverage", fuse=False).model
    rewritten = by_rule(low, {}, cuda_graph=True)
    assert (rewritten.counts["Conv"] if rewritten is not None else 0) == ours


BOUNDS = {"zero": 0, "six": 6}
ALONG_ONE_AXIS = {
    "dense": ("y = Conv<pads = [1, 1], strides = [2]>(x, w, b)", (24, 16, 3), True),
    "odd channels made": ("y = Conv(x, w, b)", (12, 16, 3), False),
    "odd channels between": ("c = Conv(x, w, b) y = Conv(c, v)", (12, 16, 3), False),
    "depthwise": ("y = Conv<group = 16>(x, w, b)", (16, 1, 3), False),
    "in groups": ("y = Conv<group = 2>(x, w, b)", (16, 8, 3), True),
    "transposed": ("y = ConvTranspose<strides = [2]>(x, w, b)", (16, 24, 2), True),
}


@pytest.mark.parametrize("name", ALONG_ONE_AXIS)
def test_those_along_one_axis_likewise(name: str) -> None:
    body, weight, ours = ALONG_ONE_AXIS[name]
    made = weight[1] if name == "transposed" else weight[0]
    model = images(body, {"w": weight, "b": (made,), "v": (24, 12, 1)})
    model.graph.input[0].type.tensor_type.shape.dim.pop()
    model.graph.output[0].type.tensor_type.shape.dim.pop()
    assert bool(found(model).convolutions) is ours
    low = ampgraph.convert(model, objective="coverage").model
    assert (by_rule(low, {}, cuda_graph=True) is not None) is ours


def test_a_row_goes_with_one_along_one_axis() -> None:
    model = images("c = Conv<pads = [1, 1]>(x, w)  d = Add(c, b)  y = Gelu(d)", {"w": (16, 16, 3), "b": (1, 16, 1)})
    model.graph.input[0].type.tensor_type.shape.dim.pop()
    model.graph.output[0].type.tensor_type.shape.dim.pop()
    model.opset_import[0].version = 20
    assert kinds(model) == (["Conv"], ["Add", "Gelu"])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_those_of_a_graph_are_those_of_the_converted_model(name: str) -> None:
    body, weight, ours = CONVOLUTIONS[name]
    made = weight[1] if name.startswith("transposed") else weight[0]
    model = images(body, {"w": weight, "b": (made,)})
    assert bool(found(model).convolutions) is ours
    low = ampgraph.convert(model, objective="coverage").model
    assert (by_rule(low, {}, cuda_graph=True) is not None) is ours


def test_an_image_of_few_channels_is_ours() -> None:
    model = images(f"y = Conv<{SAME}, strides = [2, 2]>(x, w)", {"w": (8, 3, 3, 3)}, channels=3)
    assert kinds(model) == (["Conv"], [])


@pytest.mark.parametrize(
    ("tail", "carried"),
    [
        ("y = Relu(c)", ["Relu"]),
        ("s = Sigmoid(c) y = Mul(c, s)", ["Mul", "Sigmoid"]),
        ("s = HardSigmoid<alpha = 0.16666667>(c) y = Mul(c, s)", ["HardSigmoid", "Mul"]),
        ("s = HardSigmoid(c) y = Mul(c, s)", []),
        ("d = Add(c, x) y = Relu(d)", ["Add", "Relu"]),
        ("d = Relu(c) y = Add(d, x)", ["Add", "Relu"]),
        ("s = Sigmoid(c) d = Mul(c, s) y = Add(x, d)", ["Add", "Mul", "Sigmoid"]),
        ("d = Add(c, x) e = Relu(d) y = Add(e, x)", ["Add", "Relu"]),
        ("d = Tanh(c) y = Add(d, x)", []),
        ("y = Tanh(c)", []),
        ("s = Sigmoid(c) y = Mul(x, s)", []),
        ("d = Relu(c) e = Tanh(c) y = Add(d, e)", []),
        ("y = Add(c, c)", []),
        ("d = Relu(c) y = Add(d, r)", ["Add", "Relu"]),
        ("d = Relu(c) y = Add(d, n)", ["Add", "Relu"]),
        ("d = Relu(c) y = Add(d, columns)", ["Relu"]),
        ("d = Relu(c) y = Mul(d, r)", ["Relu"]),
        ("d = Add(c, x) e = Relu(d) y = Add(e, r)", ["Add", "Relu"]),
    ],
)
def test_what_follows_goes_with_a_convolution_that_it_alone_reads(tail: str, carried: list[str]) -> None:
    model = images(f"c = Conv<{SAME}>(x, w) {tail}", {"w": (16, 16, 3, 3), **NUMBERS})
    assert kinds(model) == (["Conv"], carried)


@pytest.mark.parametrize(
    ("tail", "carried"),
    [
        ("d = Relu(c) y = Add(d, r)", ["Add", "Relu"]),
        ("d = Relu(c) y = Mul(d, n)", ["Mul", "Relu"]),
        ("d = Relu(c) e = Mul(n, d) y = Add(r, e)", ["Add", "Mul", "Relu"]),
        ("d = Relu(c) e = Add(r, d) y = Mul(e, n)", ["Add", "Relu"]),
        ("d = Relu(c) y = Mul(d, columns)", ["Relu"]),
    ],
)
def test_numbers_go_with_a_depthwise_one(tail: str, carried: list[str]) -> None:
    model = images(f"c = Conv<{SAME}, group = 16>(x, w) {tail}", {"w": (16, 1, 3, 3), **NUMBERS})
    assert kinds(model) == (["Conv"], carried)


def test_a_bias_of_its_own_goes_before_the_sum_with_an_image() -> None:
    model = images(f"c = Conv<{SAME}>(x, w) d = Add(c, b) y = Add(d, x)", {"w": (16, 16, 3, 3), "b": (1, 16, 1, 1)})
    assert kinds(model) == (["Conv"], ["Add", "Add"])
    depthwise = images(f"c = Conv<{SAME}, group = 16>(x, w) y = Add(c, x)", {"w": (16, 1, 3, 3)})
    assert kinds(depthwise) == (["Conv"], [])


def test_one_convolution_of_others_leaves_all_to_them_but_one_pixel_does_not() -> None:
    weights = {"w": (16, 16, 3, 3), "v": (12, 16, 1, 1)}
    mixed = images(f"c = Conv<{SAME}>(x, w) y = Conv(c, v)", weights)
    assert found(mixed) == NONE
    pixel = images(f"c = Conv<{SAME}>(x, w) p = GlobalAveragePool(c) y = Conv(p, v)", weights)
    assert kinds(pixel) == (["Conv"], [])
    kept = images(f"c = Conv<{SAME}>(x, w) y = Conv(c, v)", weights)
    kept.graph.node[1].name = "kept"
    graph, options = lift(kept), NATIVE
    judgement = judge(graph, load_builtin(), propagate(graph), options.precision)
    assert own_kernels(graph, judgement, options) == NONE


@pytest.mark.parametrize("count", [11, 12])
def test_beside_one_of_others_a_dozen_are_ours(count: int) -> None:
    names = ["x", *(f"c{place}" for place in range(count))]
    chain = " ".join(f"{new} = Conv<{SAME}>({old}, w)" for old, new in pairwise(names))
    model = images(f"{chain} y = Conv({names[-1]}, v)", {"w": (16, 16, 3, 3), "v": (12, 16, 1, 1)})
    assert len(found(model).convolutions) == (count if count >= 12 else 0)


def test_they_are_counted_on_in_float16_where_asked_for_alone() -> None:
    model = images(f"y = Conv<{SAME}>(x, w)", {"w": (16, 16, 3, 3)})
    assert found(model, make_options(cuda_graph=True)) == NONE
    assert found(model, make_options(precision="bfloat16", cuda_graph=True, native=True)) == NONE
    with pytest.raises(OptionError, match="add --cuda-graph"):
        make_options(native=True)


def test_what_goes_with_a_convolution_takes_no_time_of_its_own_and_the_rest_as_before() -> None:
    model = images(f"c = Conv<{SAME}>(x, w, b) r = Relu(c) y = Tanh(r)", {"w": (16, 16, 3, 3), "b": (16,)})
    graph, device = lift(model), device_named("h100", cuda_graph=True)
    plain = price(graph, "speed", device, Precision.FLOAT16)
    own = price(graph, "speed", device, Precision.FLOAT16, own=found(model))
    at = {
        graph.ops[each.op].type: each.id for each in graph.decisions.values() if each.principal and each.op in graph.ops
    }
    assert own.high == plain.high
    assert own.low[at["Relu"]] == 0
    assert own.low[at["Tanh"]] == plain.low[at["Tanh"]]
    assert own.low[at["Conv"]] < plain.low[at["Conv"]]


def swish_net(depth: int = 6) -> ModelProto:
    """Depthwise and dense convolutions of small images by turns, each with its Silu."""
    lines, weights, value = [], {}, "x"
    for index in range(depth):
        group = "group = 16, " if index % 2 else ""
        lines.append(f"c{index} = Conv<{group}{SAME}>({value}, w{index}, b{index})")
        lines.append(
            f"s{index} = Sigmoid(c{index}) {'y' if index == depth - 1 else f'm{index}'} = Mul(c{index}, s{index})"
        )
        weights |= {f"w{index}": (16, 1 if index % 2 else 16, 3, 3), f"b{index}": (16,)}
        value = f"m{index}"
    return images(" ".join(lines), weights)


def test_a_small_network_that_is_left_alone_becomes_low_for_our_kernels() -> None:
    alone = ampgraph.convert(swish_net(), cuda_graph=True)
    assert alone.planned.changes_nothing
    result = ampgraph.convert(swish_net(), cuda_graph=True, native=True)
    assert result.report.nodes["float32"] == 0
    assert counts_on_kernels(result.model)
    assert not counts_on_kernels(alone.model)
    rewritten = by_rule(result.model, {}, cuda_graph=True)
    assert rewritten is not None
    assert rewritten.counts == {"Conv": 3, "DepthwiseConv": 3}


def test_a_plan_may_have_what_goes_with_a_convolution_otherwise(tmp_path: Path) -> None:
    """Ties are of prices: they bind what is decided, not what somebody asks for."""
    plan = tmp_path / "plan.json"
    ampgraph.convert(swish_net(), cuda_graph=True, native=True, save_plan=plan)
    content = json.loads(plan.read_text())
    key = next(id for id in content["decisions"] if id.startswith("Sigmoid"))
    content["decisions"][key]["precision"] = "float32"
    plan.write_text(json.dumps(content))
    assert ampgraph.convert(swish_net(), cuda_graph=True, native=True, plan=plan).report.nodes["float32"] == 1


def test_the_option_is_in_the_digest_where_it_is_given(tmp_path: Path) -> None:
    assert make_options(cuda_graph=True).digest() != NATIVE.digest()
    path = tmp_path / "model.onnx"
    onnx.save(swish_net(), path)
    made = ampgraph.convert(path, tmp_path / "low.onnx", cuda_graph=True, native=True)
    again = ampgraph.convert(tmp_path / "low.onnx", cuda_graph=True, native=True)
    assert again.report.already_converted
    assert made.report.nodes["float32"] == 0
