"""The CPU evaluator of low precision, against arithmetic that numpy and ml_dtypes round themselves."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from ampgraph.onnx_model.run import Optimize, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider, simulate

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
LOW = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def evaluate(text: str, optimize: Optimize = "basic", **feeds):
    simulated = simulate(parser.parse_model(text))
    onnx.checker.check_model(simulated, full_check=True)
    return run(open_session(simulated, provider="CPUExecutionProvider", optimize=optimize), feeds)


def unary(body: str, x, low: str = "float16", shape: str = "N"):
    """Run `body`, low arithmetic from x to y, on float32 numbers."""
    to = {"float16": 10, "bfloat16": 16}[low]
    return evaluate(
        f"{HEADER} g (float[{shape}] a) => (float[M] b) {{ x = Cast<to = {to}>(a) {body} b = Cast<to = 1>(y) }}",
        a=np.asarray(x, np.float32),
    )["b"]


def bits(*values: float) -> str:
    """Numbers as the text format wants float16: the integers that their bits make."""
    return "{" + ", ".join(str(np.float16(value).view(np.uint16)) for value in values) + "}"


def rounded(values, low: str = "float16"):
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(values, np.float32).astype(LOW[low]).astype(np.float32)


EDGES = [1.0001, 65504, 65519, 65520, 1e9, -1e9, 6e-8, 2.9e-8, -1e-10, 3e-5, np.inf, -np.inf, np.nan, 2049, -0.0]


@pytest.mark.parametrize("low", LOW)
@pytest.mark.parametrize("optimize", ["disabled", "basic", "extended", "all"])
def test_a_users_cast_rounds_as_ieee_does(low: str, optimize: Optimize) -> None:
    to = {"float16": 10, "bfloat16": 16}[low]
    text = f"{HEADER} g (float[N] a) => (float[N] b) {{ x = Cast<to = {to}>(a) b = Cast<to = 1>(x) }}"
    found = evaluate(text, optimize, a=np.array(EDGES, np.float32))["b"]
    np.testing.assert_array_equal(found, rounded(EDGES, low))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(EDGES))


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(list(LOW)), st.lists(st.sampled_from(list(ARITHMETIC)), min_size=1, max_size=6))
def test_chains_of_arithmetic_round_after_every_op(data: st.DataObject, low: str, ops: list[str]) -> None:
    numbers = st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4)
    x, constants = rounded(data.draw(numbers), low), rounded(data.draw(numbers), low)
    constants[constants == 0] = 1
    lines, expected = [], x.astype(LOW[low])
    for index, op in enumerate(ops):
        constant = constants[index % 4]
        lines.append(f"c{index} = Constant<value = float {{{float(constant)!r}}}>()")
        lines.append(f"d{index} = Cast<to = {10 if low == 'float16' else 16}>(c{index})")
        lines.append(f"v{index + 1} = {op}(v{index}, d{index})")
        with np.errstate(all="ignore"):
            expected = ARITHMETIC[op](expected, constant.astype(LOW[low]))
    body = f"v0 = Identity(x) {' '.join(lines)} y = Identity(v{len(ops)})"
    np.testing.assert_array_equal(unary(body, x, low), expected.astype(np.float32))


def test_matrix_products_accumulate_in_float32() -> None:
    x, w = np.random.default_rng(0).standard_normal((2, 8, 8)).astype(np.float32)
    text = f"""{HEADER} g (float[8, 8] a, float[8, 8] w) => (float[8, 8] b)
        {{ x = Cast<to = 10>(a) v = Cast<to = 10>(w) y = MatMul(x, v) b = Cast<to = 1>(y) }}"""
    np.testing.assert_allclose(evaluate(text, a=x, w=w)["b"], rounded(rounded(x) @ rounded(w)), rtol=2**-10)


@pytest.mark.parametrize(
    ("body", "x", "expected"),
    [
        ("y = Exp(x)", [12.0, -18.0], [np.inf, 0.0]),
        ("y = ReduceSum(x)", np.ones(100_000), np.inf),
        ("y = ReduceMean(x)", np.full(100, 60_000), np.inf),
        ("y = ReduceMean(x)", np.full(100, 600), 600),
        ("y = ReduceLogSum(x)", np.full(100, 60_000), np.inf),
        ("y = ReduceSumSquare(x)", [300.0, 1.0], np.inf),
        ("y = ReduceL2(x)", [300.0, 400.0], 500.0),
        ("y = Sigmoid(x)", [-9.0, 9.0], [0.00012338161, 0.9998766]),
        ("y = HardSigmoid(x)", [-2.5, 1.0], [0.00012207031, 0.7001953]),
        ("y = LeakyRelu(x)", [-100.0, 2.0], [-1.0009766, 2.0]),
        ("y = Sum(x, x, x)", [683.0], [2050.0]),
        ("y = com.microsoft.QuickGelu(x)", [-6.0], [0.0]),
        ("y = Softplus(x)", [-8.0, 0.0], [0.0, 0.6933594]),
        ("y = Elu(x)", [-0.0001, 2.0], [0.0, 2.0]),
        ("y = Selu<alpha = 2.0, gamma = 3.0>(x)", [-20.0, 2.0], [-6.0, 6.0]),
        ("y = Softsign(x)", [3000.0], [1.0]),
        ('y = Gelu<approximate = "none">(x)', [-4.0, 2.0], [-0.00012668, 1.9541016]),
        ('y = Gelu<approximate = "tanh">(x)', [-6.0], [0.0]),
        ("n = Sub(x, x) y = com.microsoft.BiasGelu(x, n)", [-4.0], [0.0]),
        ("y = Celu<alpha = 1.0>(x)", [-0.0001, 2.0], [0.0, 2.0]),
        ("y = Mish(x)", [-9.0], [0.0]),
    ],
)
def test_kernels_that_round_between_their_steps_and_those_that_do_not(body, x, expected) -> None:
    np.testing.assert_allclose(unary(body, x), rounded(expected), rtol=2**-10, atol=0)


def test_instance_normalization_holds_its_variance_in_the_low_type() -> None:
    text = f"""{HEADER} g (float16[1, 1, 2, 2] x, float16[1] s, float16[1] b) => (float16[1, 1, 2, 2] y)
        {{ y = InstanceNormalization(x, s, b) }}"""
    one, two = np.ones(1, np.float16), np.full(1, 2, np.float16)
    x = np.array([-100, 100, -100, 100], np.float16).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(evaluate(text, x=x, s=one, b=two)["y"].ravel(), [1, 3, 1, 3])
    np.testing.assert_array_equal(evaluate(text, x=4 * x, s=one, b=two)["y"].ravel(), [2, 2, 2, 2])


def test_a_reduction_keeps_its_axes_when_it_is_expanded() -> None:
    body = "axes = Constant<value_ints = [1]>() y = ReduceSumSquare<keepdims = 0>(x, axes)"
    found = unary(body, [[1, 2], [3, 300]], shape="2, 2")
    np.testing.assert_array_equal(found, np.array([5, np.inf], np.float32))


def test_low_interface_and_names_are_kept() -> None:
    model = parser.parse_model(f"""{HEADER}
        g (float16[3] x, bfloat16[3] z, float[3] f) => (float16[3] y, float16[3] x2, bfloat16[3] z2, float[3] f2)
        <float16[3] w = {bits(1, 2, 3)}>
        {{ y = Mul(x, w) x2 = Add(y, y) z2 = Neg(z) yf = Cast<to = 1>(y) f2 = Add(f, yf) }}""")
    simulated = simulate(model)
    onnx.checker.check_model(simulated, full_check=True)
    assert [v.SerializeToString() for v in (*simulated.graph.input, *simulated.graph.output)] == [
        v.SerializeToString() for v in (*model.graph.input, *model.graph.output)
    ]
    x = np.array([1, 2, 60_000], np.float16)
    z = np.array([1, 2, 3], ml_dtypes.bfloat16)
    found = run(open_session(simulated), {"x": x, "z": z, "f": np.ones(3, np.float32)})
    np.testing.assert_array_equal(found["y"], np.array([1, 4, np.inf], np.float16))
    np.testing.assert_array_equal(found["x2"], np.array([2, 8, np.inf], np.float16))
    np.testing.assert_array_equal(found["z2"].astype(np.float32), np.array([-1, -2, -3], np.float32))
    assert found["z2"].dtype == ml_dtypes.bfloat16


def test_an_input_and_an_initializer_may_be_outputs() -> None:
    text = f"""{HEADER} g (float16[2] x, float16[2] o) => (float16[2] x, float16[2] w, float16[2] y)
        <float16[2] w = {bits(1, 2)}, float16[2] o = {bits(3, 4)}> {{ s = Add(x, o) y = Add(s, w) }}"""
    model = parser.parse_model(text)
    found = run(open_session(simulate(model)), {"x": np.array([2048, 1], np.float16)})
    np.testing.assert_array_equal(found["x"], np.array([2048, 1], np.float16))
    np.testing.assert_array_equal(found["w"], np.array([1, 2], np.float16))
    np.testing.assert_array_equal(found["y"], np.array([2052, 7], np.float16))  # 2051 is no float16


def test_loop_state_is_rounded_at_every_step() -> None:
    text = f"""{HEADER} g (float x0, int64 n) => (float last, float[N] trace) {{
        start = Cast<to = 10>(x0)
        step = Constant<value = float16 {bits(0.1)}>()
        on = Constant<value = bool {{1}}>()
        end, all = Loop(n, on, start) <body = b (int64 i, bool c, float16 s) => (bool c2, float16 t, float16 u)
            {{ c2 = Identity(c) t = Add(s, step) u = Identity(t) }}>
        last = Cast<to = 1>(end) trace = Cast<to = 1>(all) }}"""
    found = evaluate(text, x0=np.array(256, np.float32), n=np.array(5))
    state, expected = np.float16(256), []
    for _ in range(5):
        state = np.float16(state + np.float16(0.1))
        expected.append(state)
    assert found["last"] == np.float32(state)
    np.testing.assert_array_equal(found["trace"], np.array(expected, np.float32))


def test_branches_capture_low_values_from_outside() -> None:
    text = f"""{HEADER} g (float16[2] x, bool c) => (float[2] y) <float16[2] w = {bits(1, 1)}> {{
        big = Mul(x, x)
        z = If(c) <then_branch = t () => (float16[2] p) {{ p = Add(big, w) }},
                   else_branch = e () => (float16[2] q) <float16[2] v = {bits(2, 2)}> {{ q = Mul(x, v) }}>
        y = Cast<to = 1>(z) }}"""
    x = np.array([300, 46], np.float16)
    assert evaluate(text, x=x, c=np.array(True))["y"].tolist() == [np.inf, 2116]  # 2117 is no float16
    assert evaluate(text, x=x, c=np.array(False))["y"].tolist() == [600, 92]


def test_scan_and_sequences() -> None:
    text = f"""{HEADER} g (float16[3] x) => (float s, float16[3] back) {{
        zero = Constant<value = float16 {bits(2048)}>()
        last = Scan<num_scan_inputs = 1, body = b (float16 a, float16 e) => (float16 o) {{ o = Add(a, e) }}>(zero, x)
        s = Cast<to = 1>(last)
        parts = SplitToSequence(x)
        back = ConcatFromSequence<axis = 0>(parts) }}"""
    found = evaluate(text, x=np.ones(3, np.float16))
    assert found["s"] == 2048
    assert found["back"].dtype == np.float16


def test_model_local_functions_are_followed() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "f" : 1]> g (float[2] a) => (float[2] b)
        { x = Cast<to = 10>(a) y = f.twice(x) b = Cast<to = 1>(y) }
        <domain: "f", opset_import: ["" : 21]> twice (x) => (y) { s = Mul(x, x) y = Div(s, x) }"""
    np.testing.assert_array_equal(evaluate(text, a=np.array([2, 300], np.float32))["b"], [2, np.inf])


def test_contrib_ops_and_what_follows_them_are_rounded() -> None:
    text = f"""{HEADER} g (float16[1, 2, 4] x, float16[1, 2, 4] r, float16[4] w) => (float[1, 2, 4] b)
        {{ n, , , s = com.microsoft.SkipLayerNormalization(x, r, w)  d = Mul(s, s)  m = Add(d, n)
           b = Cast<to = 1>(m) }}"""
    x = np.full((1, 2, 4), 200, np.float16)
    w = np.ones(4, np.float16)
    assert np.isposinf(evaluate(text, x=x, r=x, w=w)["b"]).all()


def test_outputs_that_are_left_out_stay_out() -> None:
    text = f"""{HEADER} g (float16[1, 1, 2] x, float16[1, 8, 2] w, float16[1, 8, 2] r) => (float[1, 1, 2] b)
        {{ , h = LSTM<hidden_size = 2>(x, w, r) b = Cast<to = 1>(h) }}"""
    feeds = {"x": (1, 1, 2), "w": (1, 8, 2), "r": (1, 8, 2)}
    found = evaluate(text, **{name: np.ones(shape, np.float16) for name, shape in feeds.items()})["b"]
    np.testing.assert_array_equal(found, rounded(found))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = CastLike(z, x)", [1.0, 1.0]),
        ("s = Cast<to = 8>(x) z2 = Cast<to = 1>(s) y = Cast<to = 10>(z2)", [1.0, 1.0]),
        (f"s = Shape(x) y = ConstantOfShape<value = float16[1] {bits(0.1)}>(s)", [0.0999755859375, 0.0999755859375]),
        ("y = RandomUniformLike<low = 1.0, high = 1.0000001>(x)", [1.0, 1.0]),
        ("s = BitCast<to = 4>(x) y = BitCast<to = 10>(s)", [1.0, 1.0]),
    ],
)
def test_ops_that_carry_or_inspect_a_dtype(body: str, expected: list[float]) -> None:
    header = HEADER.replace("21", "26" if "BitCast" in body else "21")
    text = f"{header} g (float[2] z) => (float[2] b) {{ x = Cast<to = 10>(z) {body} b = Cast<to = 1>(y) }}"
    simulated = simulate(parser.parse_model(text))
    onnx.checker.check_model(simulated, full_check=True)
    if "BitCast" in body:
        return
    found = run(open_session(simulated), {"z": np.array([1.0001, 1.0001], np.float32)})["b"]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_a_float32_model_is_left_as_it_is() -> None:
    model = parser.parse_model(f"{HEADER} g (float[2] x) => (float[2] y) {{ h = Sigmoid(x) y = Mul(h, x) }}")
    assert [node.op_type for node in simulate(model).graph.node] == ["Sigmoid", "Mul"]


def normalized(x, scale, shift, groups, epsilon, silu):
    """Group normalization of channels-last images, as its definition says."""
    count, height, width, channels = x.shape
    rows = np.asarray(x, np.float64).reshape(count, height * width, groups, channels // groups)
    rows = (rows - rows.mean((1, 3), keepdims=True)) / np.sqrt(rows.var((1, 3), keepdims=True) + epsilon)
    found = rows.reshape(x.shape) * scale + shift
    return found / (1 + np.exp(-found)) if silu else found


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("low", [False, True])
def test_group_norm_is_computed_in_float32_and_rounded_once(low: bool, silu: bool) -> None:
    kind = "float16" if low else "float"
    text = f"""{HEADER} g ({kind}[N, 3, 2, 12] x, float[12] s, float[12] b) => ({kind}[N, 3, 2, 12] y)
        {{ y = com.microsoft.GroupNorm<groups = 3, activation = {int(silu)}, epsilon = 0.01>(x, s, b) }}"""
    generator = np.random.default_rng(0)
    scale, shift = generator.standard_normal((2, 12)).astype(np.float32)
    x = generator.standard_normal((2, 3, 2, 12)).astype(np.float16 if low else np.float32)
    expected = normalized(x, scale, shift, 3, 0.01, silu)
    found = evaluate(text, x=x, s=scale, b=shift)["y"]
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found, expected, rtol=2**-10 if low else 1e-4, atol=1e-5)


def test_a_group_that_is_all_one_number_is_shifted_alone() -> None:
    text = f"""{HEADER} g (float[1, 1, 2, 2] x, float[2] s, float[2] b) => (float[1, 1, 2, 2] y)
        {{ y = com.microsoft.GroupNorm<groups = 1, activation = 0>(x, s, b) }}"""
    two = np.full(2, 2, np.float32)
    np.testing.assert_array_equal(evaluate(text, x=np.ones((1, 1, 2, 2), np.float32), s=two, b=two)["y"], 2)


def test_a_gated_gelu_rounds_its_sum_and_its_product() -> None:
    text = f"""{HEADER} g (float16[1, 1, 4] x, float16[4] b) => (float16[1, 1, 2] y)
        {{ y = com.microsoft.BiasSplitGelu(x, b) }}"""
    x = np.array([2048, 3, 8, -8], np.float16).reshape(1, 1, 4)
    found = evaluate(text, x=x, b=np.array([1, 0.5, 0, 0], np.float16))["y"].ravel()
    np.testing.assert_array_equal(found, np.array([2048 * 8, -0.0], np.float16))  # 2049 is no float16


def test_three_are_added_one_after_the_other() -> None:
    text = f"""{HEADER} g (float16[1, 1, 2] x, float16[2] b, float16[1, 1, 2] s) => (float16[1, 1, 2] y)
        {{ y = com.microsoft.BiasAdd(x, b, s) }}"""
    x, one = np.full((1, 1, 2), 2048, np.float16), np.ones((1, 1, 2), np.float16)
    np.testing.assert_array_equal(evaluate(text, x=x, b=one.ravel(), s=one)["y"], x)


def test_only_what_needs_it_is_spelled_out_for_other_providers() -> None:
    plain = parser.parse_model(f"{HEADER} g (float16[4] x) => (float16[4] y) {{ y = Elu(x) }}")
    assert for_any_provider(plain) is plain
    body = "h = Elu(x)  y = com.microsoft.BiasAdd(h, b, h)"
    mixed = parser.parse_model(f"{HEADER} g (float16[1,2,4] x, float16[4] b) => (float16[1,2,4] y) {{ {body} }}")
    assert [node.op_type for node in for_any_provider(mixed).graph.node] == ["Elu", "Add", "Add"]
