"""Which convolutions kernels of our own take, and what goes with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, numpy_helper, parser
from own import ROUNDED, error, kept, model_of, own

from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.native.step import DOMAIN

W, B = {"w": (16, 8, 3, 3)}, {"w": (16, 8, 3, 3), "b": (16,)}
CONV = "Conv<pads=[1,1,1,1], kernel_shape=[3,3]>"


def attributes(graph: str, weights: dict[str, tuple[int, ...]]) -> list[dict[str, object]]:
    found = rewrite(model_of(graph, weights), {})
    assert found is not None
    nodes = [node for node in found.model.graph.node if node.op_type == "Conv"]
    return [{"inputs": [bool(name) for name in node.input], "act": _act(node)} for node in nodes]


def _act(node: object) -> str:
    return next((entry.s.decode() for entry in node.attribute if entry.name == "activation"), "")


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ("y = Relu(c)", "Relu"),
        ("s = Sigmoid(c)  y = Mul(c, s)", "Silu"),
        ("s = Sigmoid(c)  y = Mul(s, c)", "Silu"),
        ("y = HardSwish(c)", "HardSwish"),
        ("s = HardSigmoid<alpha=0.16666667>(c)  y = Mul(c, s)", "HardSwish"),
        ("s = HardSigmoid(c)  y = Mul(c, s)", ""),
        ("y = Tanh(c)", ""),
    ],
)
def test_an_activation_that_alone_reads_a_convolution_goes_with_it(after: str, kind: str) -> None:
    graph = f"g (float16[N,8,6,6] x) => (float16[N,16,6,6] y) {{ c = {CONV}(x, w, b) {after} }}"
    assert attributes(graph, B) == [{"inputs": [True] * 3, "act": kind}]
    assert own(model_of(graph, B)) == {"Conv": 1}


def cut(least: float, most: float, opset: int = 20) -> ModelProto:
    """A convolution and what cuts off its result, with bounds as attributes before opset 11."""
    bounds = "Clip(c, least, most)" if opset > 10 else f"Clip<min={least}, max={most}>(c)"
    text = f"g (float16[N,8,6,6] x) => (float16[N,16,6,6] y) {{ c = {CONV}(x, w, b) y = {bounds} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> {text}')
    like = model_of(f"g (float16[N,8,6,6] x) => (float16[N,16,6,6] y) {{ y = {CONV}(x, w, b) }}", B)
    arrays = [numpy_helper.from_array(np.float16(bound), name) for name, bound in (("least", least), ("most", most))]
    model.graph.initializer.extend([*like.graph.initializer, *arrays])
    return model


@pytest.mark.parametrize(
    ("model", "kind"), [(cut(0, 6), "Relu6"), (cut(0.0, 6.0, opset=10), "Relu6"), (cut(0, 1), ""), (cut(-1, 6), "")]
)
def test_a_relu_that_ends_at_six_goes_with_it(model: ModelProto, kind: str) -> None:
    found = rewrite(model, {})
    assert found is not None
    assert [_act(node) for node in found.model.graph.node if node.domain == DOMAIN] == [kind]
    if model.opset_import[0].version > 10:
        assert own(model) == {"Conv": 1}


@pytest.mark.parametrize("row", [(16, 1, 1), (1, 16, 1, 1)])
@pytest.mark.parametrize("order", ["c, r", "r, c"])
def test_a_row_added_is_the_bias(row: tuple[int, ...], order: str) -> None:
    graph = f"g (float16[N,8,6,6] x) => (float16[N,16,6,6] y) {{ c = {CONV}(x, w) a = Add({order}) y = Relu(a) }}"
    assert own(model_of(graph, {**W, "r": row})) == {"Conv": 1}
    assert "Add" not in kept(model_of(graph, {**W, "r": row}))


def test_a_residual_of_the_same_shape_goes_with_it_and_the_later_convolution_keeps_its_own_output() -> None:
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,16,6,6] y)
        {{ c = {CONV}(x, w, b)  d = {CONV}(x, v, b)  a = Add(c, d)  y = Relu(a) }}"""
    found = attributes(graph, {**B, "v": (16, 8, 3, 3)})
    assert sorted(len(each["inputs"]) for each in found) == [3, 4]
    assert sorted(each["act"] for each in found) == ["", "Relu"]
    assert own(model_of(graph, {**B, "v": (16, 8, 3, 3)})) == {"Conv": 2}


@pytest.mark.parametrize("order", ["r, z", "z, r"])
@pytest.mark.parametrize("active", ["r = Relu(c)", "s = Sigmoid(c)  r = Mul(s, c)", "r = Gelu(c)"])
def test_a_sum_after_the_activation_goes_with_it(active: str, order: str) -> None:
    graph = f"""g (float16[N,8,6,6] x, float16[N,16,6,6] z) => (float16[N,16,6,6] y)
        {{ c = {CONV}(x, w, b)  {active}  y = Add({order}) }}"""
    model = model_of(graph, B)
    assert own(model) == {"Conv": 1}
    assert set(kept(model)) == {"Transpose"}


def test_a_second_sum_stays_and_so_does_one_after_a_depthwise_convolution() -> None:
    graph = f"""g (float16[N,8,6,6] x, float16[N,16,6,6] z) => (float16[N,16,6,6] y)
        {{ c = {CONV}(x, w, b)  d = Add(c, z)  r = Relu(d)  y = Add(r, z) }}"""
    assert kept(model_of(graph, B))["Add"] == 1
    depthwise = """g (float16[N,16,6,6] x) => (float16[N,16,6,6] y)
        { c = Conv<group=16, kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  y = Add(r, x) }"""
    model = model_of(depthwise, {"w": (16, 1, 3, 3), "b": (16,)})
    assert own(model) == {"DepthwiseConv": 1}
    assert kept(model)["Add"] == 1


@pytest.mark.parametrize("row", [(16, 1, 1), (1, 16, 1, 1), (1,), (), (1, 1, 1, 1)])
@pytest.mark.parametrize("order", ["r, z", "z, r"])
@pytest.mark.parametrize("active", ["r = Relu(c)", "s = HardSigmoid<alpha=0.16666667>(c)  r = Mul(s, c)"])
def test_numbers_added_after_the_activation_go_with_it(active: str, order: str, row: tuple[int, ...]) -> None:
    graph = f"g (float16[N,8,6,6] x) => (float16[N,16,6,6] y) {{ c = {CONV}(x, w, b)  {active}  y = Add({order}) }}"
    model = model_of(graph, {**B, "z": row})
    assert own(model) == {"Conv": 1}
    assert set(kept(model)) == {"Transpose"}


@pytest.mark.parametrize(
    ("tail", "beside"),
    [("y = Add(r, z)", {}), ("y = Mul(z, r)", {}), ("p = Mul(r, z)  y = Add(o, p)", {}),
     ("p = Add(r, z)  y = Mul(o, p)", {"Mul": 1}),
     ("p = Mul(r, z)  q = Mul(p, o)  y = Sub(q, o)", {"Mul": 1, "Sub": 1})],
)  # fmt: skip
@pytest.mark.parametrize("row", [(16, 1, 1), (1,)])
def test_numbers_after_a_depthwise_convolution_go_with_it(
    tail: str, beside: dict[str, int], row: tuple[int, ...]
) -> None:
    graph = f"""g (float16[N,16,6,6] x) => (float16[N,16,6,6] y)
        {{ c = Conv<group=16, kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  r = Relu(c)  {tail} }}"""
    model = model_of(graph, {"w": (16, 1, 3, 3), "b": (16,), "z": row, "o": (16, 1, 1)})
    assert own(model) == {"DepthwiseConv": 1}
    assert {kind: count for kind, count in kept(model).items() if kind != "Transpose"} == beside


def test_numbers_stay_without_an_activation_beside_another_sum_or_along_an_image() -> None:
    image = "(float16[N,8,6,6] x, float16[N,16,6,6] i) => (float16[N,16,6,6] y)"
    graph = f"g {image} {{ c = {CONV}(x, w, b)  y = Add(c, z) }}"
    assert kept(model_of(graph, {**B, "z": (16, 1, 1)}))["Add"] == 1
    graph = f"g {image} {{ c = {CONV}(x, w, b)  d = Add(c, i)  r = Relu(d)  y = Add(r, z) }}"
    assert kept(model_of(graph, {**B, "z": (16, 1, 1)}))["Add"] == 1
    graph = f"g {image} {{ c = {CONV}(x, w, b)  r = Relu(c)  y = Add(r, z) }}"
    assert kept(model_of(graph, {**B, "z": (6, 1)}))["Add"] == 1


@pytest.mark.parametrize("how", ["", '<approximate="tanh">'])
@pytest.mark.parametrize("conv", [CONV, "Conv<group=8, kernel_shape=[3,3], pads=[1,1,1,1]>"])
def test_gelu_goes_with_it_but_for_the_one_by_tanh(conv: str, how: str) -> None:
    channels, weights = (8, {"w": (8, 1, 3, 3), "b": (8,)}) if "group" in conv else (16, B)
    graph = f"g (float16[N,8,6,6] x) => (float16[N,{channels},6,6] y) {{ c = {conv}(x, w, b)  y = Gelu{how}(c) }}"
    assert kept(model_of(graph, weights))["Gelu"] == bool(how)


@pytest.mark.parametrize(
    ("inputs", "nodes", "stays"),
    [
        ("float16[N,16,1,1] z", "a = Add(c, z)  y = Relu(a)", "Add"),  # one number a channel and image, not a residual
        ("float16[1,16,6,6] z", "a = Add(c, z)  y = Relu(a)", "Add"),  # of another batch
        ("float16[N,16,6,6] z", "a = Add(c, z)  r = Relu(a)  y = Mul(r, a)", "Relu"),  # two read the sum
        ("float16[N,16,6,6] z", "r = Relu(c)  a = Add(c, z)  y = Add(r, a)", "Relu"),  # two read the convolution
    ],
)
def test_what_cannot_go_with_it_stays(inputs: str, nodes: str, stays: str) -> None:
    graph = f"g (float16[N,8,6,6] x, {inputs}) => (float16[N,16,6,6] y) {{ c = {CONV}(x, w, b) {nodes} }}"
    model = model_of(graph, B)
    assert own(model) == {"Conv": 1}
    assert kept(model)[stays] == 1


def test_an_output_in_the_middle_stays_an_output() -> None:
    graph = f"""g (float16[N,8,6,6] x) => (float16[N,16,6,6] c, float16[N,16,6,6] y)
        {{ c = {CONV}(x, w, b)  y = Relu(c) }}"""
    model = model_of(graph, B)
    assert own(model) == {"Conv": 1}
    assert kept(model) == {"Transpose": 2, "Relu": 1}


@pytest.mark.parametrize(
    ("channels", "attributes", "shape"),
    [
        (12, "kernel_shape=[3,3]", (16, 12, 3, 3)),  # no whole vectors
        (8, "kernel_shape=[3,3]", (12, 8, 3, 3)),
        (12, "group=2, kernel_shape=[3,3]", (16, 6, 3, 3)),
        (8, 'auto_pad="SAME_UPPER", kernel_shape=[3,3]', (16, 8, 3, 3)),
        (16, "group=16, kernel_shape=[3,3]", (32, 1, 3, 3)),  # two filters a channel
        (16, "group=16, kernel_shape=[1,3]", (16, 1, 1, 3)),
        (16, "group=16, kernel_shape=[3,3], dilations=[2,2], strides=[2,2]", (16, 1, 3, 3)),
        (16, "group=16, kernel_shape=[3,3], strides=[3,1]", (16, 1, 3, 3)),
        (16, "group=16, kernel_shape=[9,9], pads=[4,4,4,4]", (16, 1, 9, 9)),
    ],
)
def test_what_no_kernel_computes_is_left_alone(channels: int, attributes: str, shape: tuple[int, ...]) -> None:
    graph = f"g (float16[N,{channels},12,12] x) => (float16[N,a,b,c] y) {{ y = Conv<{attributes}>(x, w) }}"
    assert rewrite(model_of(graph, {"w": shape}), {}) is None


def test_float32_is_left_alone_and_so_are_weights_that_are_no_constants() -> None:
    graph = f"g (float[N,8,6,6] x) => (float[N,16,6,6] y) {{ y = {CONV}(x, w, b) }}"
    assert rewrite(model_of(graph, B, np.float32), {}) is None
    graph = f"g (float16[N,8,6,6] x, float16[16,8,3,3] w) => (float16[N,16,6,6] y) {{ y = {CONV}(x, w) }}"
    assert rewrite(model_of(graph, {}), {}) is None


def test_weights_in_a_file_of_their_own_are_left_alone() -> None:
    model = model_of(f"g (float16[N,8,6,6] x) => (float16[N,16,6,6] y) {{ y = {CONV}(x, w, b) }}", B)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    assert rewrite(model, {}) is None


@pytest.mark.parametrize(
    ("how", "kernel", "size"),
    [
        ("strides=[2,2]", (2, 2), 12),
        ("strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]", (3, 3), 12),
        ("pads=[1,1,1,1]", (3, 3), 6),
        ("strides=[2,1], pads=[0,1,0,0], dilations=[1,2]", (2, 3), "a,b"),
    ],
)
def test_transposed_convolutions_with_what_goes_with_them(how: str, kernel: tuple[int, int], size: int | str) -> None:
    sizes = size if isinstance(size, str) else f"{size},{size}"
    for tail in ("y = Relu(a)", "r = Relu(a)  y = Add(r, b)"):
        graph = f"""g (float16[N,16,6,6] x) => (float16[N,24,{sizes}] y)
            {{ c = ConvTranspose<{how}>(x, w)  a = Add(c, b)  {tail} }}"""
        model = model_of(graph, {"w": (16, 24, *kernel), "b": (1, 24, 1, 1)})
        assert own(model) == {"TransposedConv": 1}
        assert kept(model) == {"Transpose": 2}


@pytest.mark.parametrize("attributes", ["group=2, strides=[2,2]", "output_shape=[12,12], strides=[2,2]"])
def test_other_transposed_convolutions_stay(attributes: str) -> None:
    graph = f"g (float16[N,16,6,6] x) => (float16[N,16,12,12] y) {{ y = ConvTranspose<{attributes}>(x, w) }}"
    weight = (16, 8 if "group" in attributes else 16, 2, 2)
    assert rewrite(model_of(graph, {"w": weight}), {}) is None


@pytest.mark.parametrize("group", [2, 4])
def test_convolutions_in_groups_with_what_goes_with_them(group: int) -> None:
    for tail in ("a = Add(c, x)  y = Relu(a)", "r = Relu(c)  y = Add(n, r)"):
        graph = f"""g (float16[N,16,6,6] x) => (float16[N,16,6,6] y)
            {{ c = Conv<group={group}, kernel_shape=[3,3], pads=[1,1,1,1]>(x, w, b)  {tail} }}"""
        model = model_of(graph, {"w": (16, 16 // group, 3, 3), "b": (16,), "n": (1,)})
        assert own(model) == {"Conv": 1}
        assert kept(model) == {"Transpose": 2}


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("size", [9, 12])
def test_depthwise_convolutions(kernel: int, stride: int, down: int, size: int) -> None:
    how = f"group=8, kernel_shape=[{kernel},{kernel}], strides=[{down},{stride}], pads=[{', '.join('2222')}]"
    graph = f"""g (float16[N,8,{size},{size}] x) => (float16[N,8,b,c] y)
        {{ c = Conv<{how}>(x, w)  a = Add(c, r)  s = Sigmoid(a)  y = Mul(a, s) }}"""
    model = model_of(graph, {"w": (8, 1, kernel, kernel), "r": (1, 8, 1, 1)})
    assert own(model) == ({} if (kernel, stride) == (7, 2) else {"DepthwiseConv": 1})


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("gaps", [(2, 2), (3, 1), (2, 6)])
def test_depthwise_convolutions_with_gaps(kernel: int, gaps: tuple[int, int]) -> None:
    pads = [gap * (kernel // 2) for gap in gaps] * 2
    how = f"group=8, kernel_shape=[{kernel},{kernel}], dilations={[*gaps]}, pads={pads}"
    graph = f"g (float16[N,8,9,30] x) => (float16[N,8,9,30] y) {{ c = Conv<{how}>(x, w, b)  y = Relu(c) }}"
    assert own(model_of(graph, {"w": (8, 1, kernel, kernel), "b": (8,)})) == {"DepthwiseConv": 1}


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 7),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
)
def test_images_of_few_channels_are_padded_or_read_in_blocks_whatever_their_sizes(
    channels: int, kernel: tuple[int, int], pads: tuple[int, ...], stride: int, size: tuple[int, int]
) -> None:
    how = f"kernel_shape=[{kernel[0]},{kernel[1]}], strides=[{stride},{stride}], pads=[{', '.join(map(str, pads))}]"
    graph = f"""g (float[N,{channels},H,W] x) => (float16[N,8,b,c] y)
        {{ h = Cast<to=10>(x)  c = Conv<{how}>(h, w, r)  y = Relu(c) }}"""
    model = model_of(graph, {"w": (8, channels, *kernel), "r": (8,)})
    found = rewrite(model, {})
    assert found is not None
    assert found.counts == {"Image": 1, "Conv": 1}
    assert "Cast" not in {node.op_type for node in found.model.graph.node}
    assert error(model, found.model, {"x": (2, channels, *size)}) < ROUNDED


def test_the_first_layers_of_resnet_and_efficientnet_are_read_in_blocks() -> None:
    for kernel, pad in ((7, 3), (3, 1)):
        how = f"kernel_shape=[{kernel},{kernel}], strides=[2,2], pads=[{pad},{pad},{pad},{pad}]"
        graph = f"g (float16[N,3,32,32] x) => (float16[N,8,16,16] y) {{ y = Conv<{how}>(x, w) }}"
        found = rewrite(model_of(graph, {"w": (8, 3, kernel, kernel)}), {})
        assert found is not None
        image = next(node for node in found.model.graph.node if node.op_type == "Image")
        assert {entry.name: entry.i for entry in image.attribute} == {"block": 2, "channels": 3}
