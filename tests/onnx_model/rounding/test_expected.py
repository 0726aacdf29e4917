"""What channels are expected to hold is what they hold on average where the input is normal."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import ModelProto, numpy_helper

from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.rounding.expected import Expected, expected_inputs
from ampgraph.onnx_model.rounding.tables import tables
from ampgraph.onnx_model.run import CPU, open_session, run
from tests.models import parse

Array = npt.NDArray[np.float64]
CHANNELS, PIXELS = 4, 300


def model_of(body: str, opset: int = 20, **weights: tuple[int, ...]) -> ModelProto:
    """A graph of an image x whose value h a convolution reads."""
    model = parse(f"g (float[1,{CHANNELS},{PIXELS},{PIXELS}] x) => (y) {{ {body} y = Conv(h, last) }}", opset)
    generator = np.random.default_rng(0)
    for name, shape in {"last": (3, CHANNELS, 1, 1), **weights}.items():
        values = generator.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def expected(model: ModelProto) -> Expected | None:
    """Of the last convolution's input."""
    model = prepare(model)
    graph = lift(model)
    last = [op.id for op in graph.ops.values() if op.type == "Conv"][-1]
    return expected_inputs(graph, tables(model, Path())).get(last)


def measured(model: ModelProto) -> tuple[Array, Array]:
    """Mean and spread of each channel of h where x is normal."""
    whole = ModelProto()
    whole.CopyFrom(model)
    whole.graph.output.add(name="h")
    x = np.random.default_rng(1).standard_normal((1, CHANNELS, PIXELS, PIXELS)).astype(np.float32)
    h = run(open_session(whole, provider=CPU), {"x": x})["h"].astype(np.float64)
    return h.mean((0, 2, 3)), h.std((0, 2, 3))


def check(model: ModelProto, within: float = 0.03) -> None:
    found = expected(model)
    assert found is not None
    mean, spread = measured(model)
    scale = np.maximum(np.maximum(spread, np.abs(mean)), 0.1)
    assert np.all(np.abs(found.mean - mean) < within * scale)
    assert np.all(np.abs(found.spread - spread) < within * scale)


FUNCTIONS = [
    "Abs(a)", "Clip(a, low, high)", "Clip(a, low)", "Elu<alpha = 0.5>(a)", "Erf(a)", "Exp(a)", "Gelu(a)",
    'Gelu<approximate = "tanh">(a)', "HardSigmoid<alpha = 0.3, beta = 0.4>(a)", "HardSwish(a)", "LeakyRelu(a)",
    "LeakyRelu<alpha = 0.3>(a)", "Mish(a)", "Neg(a)", "PRelu(a, s)", "Relu(a)", "Sigmoid(a)", "Softplus(a)", "Tanh(a)",
    "Identity(a)", "Dropout(a)",
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_one_element(function: str) -> None:
    bounds = "low = Constant<value_float = -0.5>() high = Constant<value_float = 0.7>()"
    half = "half = Constant<value_float = 0.5>() n = Mul(x, half)"
    check(
        model_of(
            f"{bounds} {half} m = Mul(n, w) a = Add(m, b) h = {function}", w=(4, 1, 1), b=(1, 4, 1, 1), s=(4, 1, 1)
        )
    )


def test_bounds_are_attributes_before_opset_11() -> None:
    check(model_of("h = Clip<min = -0.5, max = 0.7>(x)", 10))


@pytest.mark.parametrize(
    "body",
    [
        "g = Sigmoid(a) h = Mul(a, g)",
        "g = HardSigmoid(a) h = Mul(g, a)",
        "three = Constant<value_float = 3.0>() six = Constant<value_float = 6.0>() zero = Constant<value_float = 0.0>()"
        " s = Add(a, three) c = Clip(s, zero, six) n = Mul(a, c) h = Div(n, six)",
        "t = Tanh(a) h = Add(a, t)",
        "t = Tanh(a) h = Sub(t, a)",
        "one = Constant<value_float = 1.0>() h = Sub(one, a)",
        "e = Exp(a) one = Constant<value_float = 1.0>() s = Add(e, one) h = Div(e, s)",
    ],
)
def test_what_comes_of_one_variable_is_exact(body: str) -> None:
    check(model_of(f"m = Mul(x, w) a = Add(b, m) {body}", w=(4, 1, 1), b=(4, 1, 1)))


BLOCK = "p = Conv(x, v) a = Relu(p) q = Conv(x, u) b = Sigmoid(q)"


@pytest.mark.parametrize("step", ["h = Add(a, b)", "h = Sub(a, b)", "h = Mul(a, b)"])
def test_two_variables_are_taken_for_independent(step: str) -> None:
    """Channels of their own inputs, so that they are."""
    model = model_of(f"{BLOCK} {step}", v=(4, 4, 1, 1), u=(4, 4, 1, 1))
    for tensor in model.graph.initializer[1:]:
        half = [0, 1] if tensor.name == "v" else [2, 3]
        values = numpy_helper.to_array(tensor).copy()
        values[:, [channel for channel in range(4) if channel not in half]] = 0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    check(model)


@pytest.mark.parametrize(
    ("step", "shapes"),
    [
        ("h = Conv(x, v, c)", {"v": (4, 4, 1, 1), "c": (4,)}),
        ("h = Conv<group = 2>(x, v)", {"v": (4, 2, 1, 1)}),
        ("h = Conv<group = 4>(x, v)", {"v": (4, 1, 1, 1)}),
        ("p = Conv<group = 2>(x, v) h = Relu(p)", {"v": (4, 2, 1, 1)}),
        ("h = ConvTranspose(x, v, c)", {"v": (4, 4, 1, 1), "c": (4,)}),
        ("h = ConvTranspose<group = 2>(x, v)", {"v": (4, 2, 1, 1)}),
    ],
)
def test_convolutions_of_one_tap_add_channels_up(step: str, shapes: dict[str, tuple[int, ...]]) -> None:
    check(model_of(step, **shapes))


@pytest.mark.parametrize(
    ("step", "shapes"),
    [
        ("h = Conv<pads = [1, 1, 1, 1]>(a, v, c)", {"v": (4, 4, 3, 3), "c": (4,)}),
        ("h = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(a, v, c)", {"v": (4, 4, 4, 4), "c": (4,)}),
    ],
)
def test_a_mean_meets_all_taps(step: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Of a spread half is from pixel to pixel, by assumption: only means are compared."""
    model = model_of(f"a = Relu(x) {step}", **shapes)
    found = expected(model)
    assert found is not None
    mean, spread = measured(model)
    assert np.all(np.abs(found.mean - mean) < 0.03 * np.maximum(spread, np.abs(mean)))


def test_channels_are_joined_and_split() -> None:
    sizes = "sizes = Constant<value_ints = [1, 3]>()"
    check(
        model_of(
            f"{sizes} one, three = Split<axis = 1>(x, sizes) r = Relu(three) t = Tanh(one) h = Concat<axis = 1>(r, t)"
        )
    )
    check(model_of("a, b = Split<axis = 1, num_outputs = 2>(x) r = Relu(a) h = Concat<axis = 1>(b, r)"))
    model = model_of("p = Conv(x, v) q = Relu(x) h = Concat<axis = 1>(p, q)", v=(4, 4, 1, 1), last=(3, 8, 1, 1))
    check(model)


def test_means_of_images_keep_means() -> None:
    for pool in ("GlobalAveragePool(a)", "ReduceMean(a, axes)"):
        found = expected(model_of(f"axes = Constant<value_ints = [-2, 3]>() a = Relu(x) h = {pool}"))
        assert found is not None
        np.testing.assert_allclose(found.mean, np.sqrt(1 / (2 * np.pi)), rtol=0.05)
        assert np.all(found.spread < 0.3)


def test_the_largest_of_a_window_is_larger() -> None:
    check(model_of("a = Abs(x) h = MaxPool<kernel_shape = [1, 1]>(a)"))
    found = expected(model_of("h = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)"))
    assert found is not None
    np.testing.assert_allclose(found.mean, 0.846, rtol=0.02)  # of three independent ones
    np.testing.assert_allclose(found.spread, 0.748, rtol=0.02)


def test_a_normalization_gives_what_it_learnt() -> None:
    model = model_of("u = ArgMax<axis = 1>(x) f = Cast<to = 1>(u) e = Add(f, x) h = BatchNormalization(e, s, b, b, s)",
                     s=(4,), b=(4,))  # fmt: skip
    found = expected(model)
    assert found is None  # nothing is known of what it reads, not even that there are channels
    model = model_of("h = BatchNormalization(x, s, b, m, v)", s=(4,), b=(4,), m=(4,), v=(4,))
    found = expected(model)
    scale, shift = (numpy_helper.to_array(model.graph.initializer[at]) for at in (1, 2))
    assert found is not None
    np.testing.assert_allclose(found.mean, shift, rtol=2e-3)
    np.testing.assert_allclose(found.spread, np.abs(scale), rtol=2e-3)


@pytest.mark.parametrize(
    "step",
    [
        "h = Transpose<perm = [0, 1, 3, 2]>(x)",  # no rule
        "s = Abs(w) h = Mul(x, s)",  # no constant
        "h = Mul(x, across)",  # by column
        "h = Div(w, x)",  # may be anything
        "p = MaxPool<kernel_shape = [1, 1]>(x) q = Softmax<axis = 1>(p) h = Add(q, x)",
    ],
)
def test_what_no_rule_knows_is_unknown(step: str) -> None:
    assert expected(model_of(step, w=(4, 1, 1), across=(PIXELS,))) is None


def test_what_has_very_many_rows_has_no_channels() -> None:
    model = parse("g (float[1,20000,3] x) => (y) { t = Abs(x) h = Transpose<perm = [0, 2, 1]>(t) y = Conv(h, last) }")
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 3, 1), np.float32), "last"))
    assert expected(model) is None
    few = parse("g (float[1,3,20000] x) => (y) { h = Abs(x) y = Conv(h, last) }")
    few.graph.initializer.append(model.graph.initializer[0])
    assert expected(few) is not None


def test_weights_that_can_be_overridden_are_unknown() -> None:
    model = model_of("h = Mul(x, w)", w=(4, 1, 1))
    assert expected(model) is not None
    model.graph.input.append(parse("g (float[4,1,1] w) => (float[4,1,1] v) { v = Abs(w) }").graph.input[0])
    assert expected(model) is None


def test_numbers_that_are_not_finite_are_unknown() -> None:
    model = model_of("h = Mul(x, w)", w=(4, 1, 1))
    values = np.array([1, np.inf, 1, 1], np.float32).reshape(4, 1, 1)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(values, "w"))
    assert expected(model) is None


def test_nothing_hangs_on_last_digits() -> None:
    found = expected(model_of("m = Mul(x, w) h = Relu(m)", w=(4, 1, 1)))
    assert found is not None
    for values in (found.mean, found.spread):
        bits = np.frexp(values)[0] * 2**10
        np.testing.assert_array_equal(bits, np.round(bits))
