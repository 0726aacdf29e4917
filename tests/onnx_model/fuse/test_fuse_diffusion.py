"""Group normalization and GEGLU become the kernels that only CUDA has; their answers are held in standard operators."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from ampgraph.onnx_model.fuse import accept
from ampgraph.onnx_model.fuse.accept import difference
from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.run import CPU
from tests.onnx_model.fuse.answers import counts_of, model_of

IMAGE = {"x": (2, 24, 6, 10)}
ROWS = {"x": (2, 3, 40)}

SPELLED = """
  rows = Constant<value_ints = [0, 4, -1]>()  r = Reshape(x, rows)
  i = InstanceNormalization<epsilon = 0.003>(r, ones, zeros)  size = Shape(x)  n = Reshape(i, size)
"""
AFFINE = SPELLED + "m = Mul(n, gamma)  g = Add(m, beta)"
SILU = "  e = Sigmoid(g)  y = Mul(g, e)"


def image_model(body: str, opset: int = 17, groups: int = 4, affine: tuple[int, ...] = (24, 1, 1)) -> ModelProto:
    model = model_of(f"g (float[n,24,h,w] x) => (float[n,24,h,w] y) {{ {body} }}", opset=opset)
    values = {"ones": np.ones(groups), "zeros": np.zeros(groups)}
    generator = np.random.default_rng(3)
    values |= {name: generator.standard_normal(affine) for name in ("gamma", "beta")}
    for name, array in values.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


def kernel_of(model: ModelProto, shapes: dict[str, tuple[int, ...]], op: str) -> dict[str, object]:
    """The attributes of the only kernel of a kind in the fused model."""
    found = fuse(model, shapes)
    assert found is not None
    (kernel,) = (each for each in found.model.graph.node if each.op_type == op)
    return {each.name: onnx.helper.get_attribute_value(each) for each in kernel.attribute}


@pytest.mark.parametrize(
    "body",
    [
        AFFINE + SILU,
        AFFINE + "  e = Sigmoid(g)  y = Mul(e, g)",
        SPELLED + "m = Mul(gamma, n)  g = Add(beta, m)" + SILU,
    ],
)
def test_group_normalization_with_silu_becomes_one_operator(body):
    model = image_model(body)
    assert counts_of(model, IMAGE) == {"Transpose": 2, "GroupNorm": 1}
    said = kernel_of(model, IMAGE, "GroupNorm")
    assert (said["groups"], said["activation"], said["channels_last"]) == (4, 1, 1)
    assert said["epsilon"] == pytest.approx(0.003)


@pytest.mark.parametrize("affine", [(24, 1, 1), (1, 24, 1, 1), (1, 1, 1), (1,)], ids=str)
def test_scale_and_shift_are_vectors_whatever_their_shape(affine):
    assert counts_of(image_model(AFFINE + SILU, affine=affine), IMAGE)["GroupNorm"] == 1


def test_scale_and_shift_in_another_file_are_read_when_the_model_is_opened(tmp_path, monkeypatch):
    model = image_model(AFFINE + SILU)
    whole = ModelProto()
    whole.CopyFrom(model)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights", size_threshold=80)
    apart = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    monkeypatch.chdir(tmp_path.parent)
    found = fuse(apart, IMAGE)
    assert found is not None
    assert not difference(whole, found.model, IMAGE, tmp_path)
    assert found.counts == {"GroupNorm": 1}


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (AFFINE + "  y = Relu(g)", "Relu"),
        (SPELLED + "y = Mul(n, gamma)", ""),
        (SPELLED + "y = Add(n, beta)", ""),
        (SPELLED + "y = Relu(n)", "Relu"),
        (AFFINE + "  e = Sigmoid(g)  s = Mul(g, e)  y = Add(s, g)", "Sigmoid"),
    ],
)
def test_what_is_missing_or_read_by_others_is_not_part_of_the_operator(body, left):
    found = counts_of(image_model(body), IMAGE)
    assert found["GroupNorm"] == 1
    assert not left or found[left]
    assert kernel_of(image_model(body), IMAGE, "GroupNorm")["activation"] == 0


@pytest.mark.parametrize(("opset", "taken"), [(18, 0), (21, 1)])
def test_the_standard_operator_counts_where_it_scales_by_channel(opset, taken):
    body = "g = GroupNormalization<num_groups = 4, epsilon = 0.003>(x, gamma, beta)" + SILU
    model = image_model(body, opset, affine=(24,) if taken else (4,))
    assert counts_of(model, IMAGE)["GroupNorm"] == taken


def test_swish_is_silu():
    body = "g = GroupNormalization<num_groups = 4>(x, gamma, beta)  y = Swish(g)"
    found = fuse(image_model(body, 24, affine=(24,)), IMAGE)
    assert found is not None
    assert [each.op_type for each in found.model.graph.node] == ["Transpose", "GroupNorm", "Transpose"]


@pytest.mark.parametrize(
    "body",
    [
        AFFINE.replace("ones, zeros", "zeros, zeros") + SILU,
        AFFINE.replace("ones, zeros", "ones, ones") + SILU,
        SPELLED.replace("[0, 4, -1]", "[-1, 4, 60]") + "y = Identity(n)",
    ],
    ids=["scaled", "shifted", "other rows"],
)
def test_other_normalizations_are_left_alone(body):
    assert not counts_of(image_model(body), IMAGE)


@pytest.mark.parametrize(
    ("groups", "dims"),
    [(8, ["n", 24, 6, 10]), (4, ["n", 24, 6]), (4, ["n", 24, 3, 6, 10])],
    ids=["odd groups", "a line", "a volume"],
)
def test_what_the_kernel_refuses_is_left_alone(groups, dims):
    model = image_model(
        AFFINE.replace("[0, 4,", f"[0, {groups},") + SILU, groups=groups, affine=(24,) + (1,) * (len(dims) - 2)
    )
    for value in (model.graph.input[0], model.graph.output[0]):
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, dims))
    assert not counts_of(model, {"x": (2, *dims[1:])})


# GEGLU

CUT = "half = Constant<value_ints = [{half}, {half}]>()  l, r = Split<axis = -1>(h, half)"
SLICED = """
  zero = Constant<value_ints = [0]>()  mid = Constant<value_ints = [{half}]>()  end = Constant<value_ints = [{width}]>()
  axis = Constant<value_ints = [-1]>()  l = Slice(h, zero, mid, axis)  r = Slice(h, mid, end, axis)
"""
PROJECTED, BIASED = "h = MatMul(x, w)", "p = MatMul(x, w)  h = Add(p, b)"
GELU = """
  root = Constant<value_float = 1.4142135>()  one = Constant<value_float = 1.0>()
  half_ = Constant<value_float = 0.5>()
  d = Div(r, root)  e = Erf(d)  a = Add(e, one)  m = Mul(r, a)  u = Mul(m, half_)
"""


def gated_model(*parts: str, width: int = 2560, opset: int = 17, rank: str = "n,3") -> ModelProto:
    body = "  ".join(parts).replace("{half}", str(width // 2)).replace("{width}", str(width))
    text = f"g (float[{rank},40] x) => (float[{rank},{width // 2}] y) {{ {body} }}"
    return model_of(text, {"w": (40, width), "b": (width,)}, opset=opset)


@pytest.mark.parametrize("cut", [CUT, SLICED], ids=["split", "slices"])
@pytest.mark.parametrize("projected", [PROJECTED, BIASED], ids=["plain", "biased"])
@pytest.mark.parametrize("times", ["y = Mul(l, u)", "y = Mul(u, l)"])
def test_a_gated_gelu_becomes_one_operator(cut, projected, times):
    assert counts_of(gated_model(projected, cut, GELU, times), ROWS) == {"MatMul": 1, "BiasSplitGelu": 1}


@pytest.mark.parametrize("width", [5120, 10240])
def test_a_gelu_operator_and_the_other_widths_of_the_kernel_count_too(width):
    model = gated_model(BIASED, CUT, "u = Gelu(r)  y = Mul(l, u)", width=width, opset=20)
    assert counts_of(model, ROWS) == {"MatMul": 1, "BiasSplitGelu": 1}


@pytest.mark.parametrize(
    "parts",
    [
        (BIASED, CUT.replace("l, r =", "r, l ="), "u = Gelu(r)  y = Mul(l, u)"),
        (BIASED, CUT, 'u = Gelu<approximate = "tanh">(r)  y = Mul(l, u)'),
        (BIASED, CUT, "u = Gelu(r)  v = Mul(l, u)  y = Add(v, r)"),
        (BIASED, CUT, "u = Gelu(r)  v = Mul(r, u)  y = Add(v, l)"),
        (BIASED, SLICED.replace("Slice(h, mid, end", "Slice(h, zero, mid"), "u = Gelu(r)  y = Mul(l, u)"),
    ],
    ids=["left is gated", "tanh", "right is read", "both right", "same half"],
)
def test_other_gates_are_left_alone(parts):
    assert not counts_of(gated_model(*parts, opset=20), ROWS)["BiasSplitGelu"]


def test_other_widths_and_ranks_are_left_alone():
    parts = (BIASED, CUT, "u = Gelu(r)  y = Mul(l, u)")
    assert not counts_of(gated_model(*parts, width=2048, opset=20), ROWS)["BiasSplitGelu"]
    assert not counts_of(gated_model(*parts, opset=20, rank="n"), {"x": (6, 40)})["BiasSplitGelu"]


def test_a_sum_that_others_read_stays_and_the_kernel_adds_zeros():
    model = gated_model(BIASED, CUT, "u = Gelu(r)  y = Mul(l, u)", opset=20)
    model.graph.output.append(onnx.helper.make_tensor_value_info("h", 1, ["n", 3, 2560]))
    assert counts_of(model, ROWS) == {"MatMul": 1, "Add": 1, "BiasSplitGelu": 1}


# a bias and a residual

RESIDUAL = "  v = MatMul(y_, o)  c = Add(v, k)  y = Add(c, x)"


def residual_model(gate: str, more: str = RESIDUAL) -> ModelProto:
    text = f"""g (float[n,3,40] x) => (float[n,3,40] y) {{
        p = MatMul(x, w)  h = Add(p, b)  {CUT.replace("{half}", "1280")}  u = Gelu(r)  y_ = {gate}(l, u)  {more} }}"""
    return model_of(text, {"w": (40, 2560), "b": (2560,), "o": (1280, 40), "k": (40,), "g": (40,)}, opset=20)


def test_a_bias_and_a_residual_become_one_operator_where_only_cuda_opens_the_model():
    assert counts_of(residual_model("Mul"), ROWS) == {"MatMul": 2, "BiasSplitGelu": 1, "BiasAdd": 1}
    assert not counts_of(residual_model("Add"), ROWS)["BiasAdd"]


def test_a_normalization_has_the_sum_first():
    more = RESIDUAL.replace("y = Add", "t = Add") + "  y = LayerNormalization(t, g, k)"
    found = counts_of(residual_model("Mul", more), ROWS)
    assert found == {"MatMul": 2, "BiasSplitGelu": 1, "SkipLayerNormalization": 1}


# accepted by its answers


@pytest.mark.parametrize(
    ("name", "value"), [("epsilon", 0.3), ("groups", 2), ("activation", 0)], ids=["epsilon", "groups", "activation"]
)
def test_a_wrong_attribute_is_seen_without_a_gpu(name, value, monkeypatch):
    monkeypatch.setattr(accept, "best_provider", lambda: CPU)
    model = image_model(AFFINE + SILU)
    found = fuse(model, IMAGE)
    assert found is not None
    assert not difference(model, found.model, IMAGE, None)
    (kernel,) = (each for each in found.model.graph.node if each.op_type == "GroupNorm")
    kept = [each for each in kernel.attribute if each.name != name]
    del kernel.attribute[:]
    kernel.attribute.extend((*kept, onnx.helper.make_attribute(name, value)))
    assert "answers differently" in difference(model, found.model, IMAGE, None)
