import itertools
import math
import re
import time
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ampgraph.graph import Op, PrecisionGraph, Scope, Slot, Value
from ampgraph.onnx_model.lift import lift
from ampgraph.ranges import Interval, propagate
from tests.clock import fresh_heap

INF = math.inf
LOWEST = -3.4028234663852886e38
HALF = 2.0**127  # of which two leave float32


def graph_of(body: str, inputs: str = "float[N,4] x", outputs: str = "float[N,4] y", opset: int = 17) -> PrecisionGraph:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({inputs}) => ({outputs}) {body}'
    return lift(onnx.parser.parse_model(text), shapes={"x": (2, 4)})


def interval_of(body: str, inputs: str = "float[N,4] x", value: str = "y", opset: int = 17) -> Interval | None:
    return propagate(graph_of(body, inputs, opset=opset)).get(value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{ y = Softmax(x) }", Interval(0, 1)),
        ("{ y = Sigmoid(x) }", Interval(0, 1)),
        ("{ y = Tanh(x) }", Interval(-1, 1)),
        ("{ y = Sin(x) }", Interval(-1, 1)),
        ("{ y = Relu(x) }", Interval(0, INF, unbounded=True)),
        ("{ y = Exp(x) }", Interval(0, INF, unbounded=True)),
        ("{ y = Mul(x, x) }", Interval(0, INF, unbounded=True)),
        ("{ t = Tanh(x) y = Mul(t, t) }", Interval(0, 1)),
        ("<float[1] e = {0.125}> { s = Mul(x, x) y = Add(s, e) }", Interval(0.125, INF, unbounded=True)),
        ("<float a = {0}, float h = {6}> { y = Clip(x, a, h) }", Interval(0, 6, integer=False)),
        ("<float h = {6}> { y = Clip(x, , h) }", Interval(-INF, 6, unbounded=True)),
        (
            "<float a = {-3.4028234663852886e38}, float h = {6}> { y = Clip(x, a, h) }",
            Interval(-INF, 6, unbounded=True),
        ),
        ("<float c = {20}> { t = Tanh(x) y = Mul(t, c) }", Interval(-20, 20)),
        ("<float c = {2}> { t = Sigmoid(x) y = Sub(c, t) }", Interval(1, 2)),
        ("<float c = {4}> { t = Sigmoid(x) s = Add(t, c) y = Div(t, s) }", Interval(0, 0.25)),
        ("<float c = {2}> { y = Pow(x, c) }", Interval(0, INF, unbounded=True)),
        ("<float c = {3}> { t = Tanh(x) y = Pow(t, c) }", None),
        ("<float c = {0.5}> { t = Sigmoid(x) y = Pow(t, c) }", Interval(0, 1)),
        ("<float c = {4}> { t = Tanh(x) y = Pow(t, c) }", Interval(0, 1)),
        ("<float c = {3}> { y = Max(x, c) }", Interval(3, INF, unbounded=True)),
        ("<float c = {3}> { y = Min(x, c) }", Interval(-INF, 3, unbounded=True)),
        ("<float[2] c = {-2, 5}> { y = Where(b, c, c) }", Interval(-2, 5)),
        ("<int64[2] c = {0, 511}> { i = Gather(c, k) y = Cast<to=1>(i) }", Interval(0, 511, integer=True)),
        ("{ y = Cast<to=1>(b) }", Interval(0, 1, integer=True)),
        ("{ y = Cast<to=1>(u) }", Interval(0, 255, integer=True)),
        ("<float s = {0.5}, uint8 z = {128}> { y = DequantizeLinear(u, s, z) }", Interval(-64, 63.5)),
        ("{ t = Tanh(x) y = ReduceMean<axes=[1]>(t) }", Interval(-1, 1)),
        (f"<float c = {{-{HALF}}}> {{ y = Mean(c, c) }}", Interval(-INF, -HALF, unbounded=True)),
        (
            f"<float c = {{{HALF}}}, float n = {{-{HALF}}}> {{ y = Sum(c, c, n) }}",
            Interval(HALF, INF, integer=True, unbounded=True),
        ),
        ("<float c = {20}> { t = Tanh(x) y = Mean(t, c, c, c) }", Interval(14.75, 15.25)),
        ("{ s = Shape(x) y = Cast<to=1>(s) }", Interval(0, INF, integer=True, unbounded=True)),
        ("<int64[2] s = {4, 4}> { y = ConstantOfShape<value: tensor = float[1] {7.5}>(s) }", Interval(7.5, 7.5)),
        ("<int64[2] s = {4, 4}> { y = ConstantOfShape(s) }", Interval(0, 0, integer=True)),
        (
            "<int64 a = {0}, int64 l = {5000}, int64 d = {1}> { r = Range(a, l, d) y = Cast<to=1>(r) }",
            Interval(0, 4999, integer=True),
        ),
        (
            "<int64 a = {10}, int64 l = {0}, int64 d = {-3}> { r = Range(a, l, d) y = Cast<to=1>(r) }",
            Interval(1, 10, integer=True),
        ),
        (
            "<int64 a = {0}, int64 d = {1}> { r = Range(a, k, d) y = Cast<to=1>(r) }",
            Interval(0, INF, integer=True, unbounded=True),
        ),
        ("{ y = Gelu(x) }", Interval(-0.17005, INF, unbounded=True)),
        ("{ t = Tanh(x) y = Neg(t) }", Interval(-1, 1)),
        ("<float c = {-inf}> { y = Identity(c) }", Interval(-INF, INF)),
        ("<float c = {nan}> { y = Identity(c) }", None),
        ("{ y = Relu(x) z = Sub(y, y) }", Interval(0, INF, unbounded=True)),
        ("{ y = MatMul(x, x) }", None),
        ("{ t = Sigmoid(x) y = Reciprocal(t) }", None),
        ("{ y = Identity(x) }", None),
    ],
)
def test_one_operator_at_a_time(body, expected):
    inputs = "float[2,4] x, bool[2,4] b, int64 k, uint8[2,4] u"
    opset = 20 if "Gelu" in body else 17
    assert interval_of(body, inputs, opset=opset) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{ y = Where(b, m, x) }", Interval(LOWEST, LOWEST, complete=False)),
        ("{ y = Concat<axis=0>(m2, x) }", Interval(LOWEST, LOWEST, complete=False)),
        ("{ w = Where(b, m, x) y = Add(w, x) }", Interval(LOWEST, LOWEST, complete=False)),
        ("{ w = Where(b, m, x) y = Mul(w, half) }", Interval(LOWEST / 2, LOWEST / 2, complete=False)),
        ("{ w = Where(b, m, x) y = Add(w, w) }", Interval(LOWEST, LOWEST, complete=False)),
        ("{ f = Cast<to=1>(b) n = Sub(one, f) w = Mul(n, m) y = Add(w, x) }", Interval(LOWEST, 0, complete=False)),
        ("{ w = Where(b, m, x) y = Softmax(w) }", Interval(0, 1)),
        ("{ w = Where(b, m, x) y = Mul(w, x) }", None),
        ("{ w = Where(b, m, x) y = MatMul(w, x) }", None),
        # No infinity is reached here, only no bound known.
        ("{ r = Relu(x) y = Concat<axis=0>(r, x) }", Interval(0, 0, complete=False)),
    ],
)
def test_a_mask_constant_leaves_evidence(body, expected):
    constants = f"<float m = {{{LOWEST}}}, float[1,4] m2 = {{0,0,0,0}}, float half = {{0.5}}, float one = {{1}}>"
    constants = constants.replace("{0,0,0,0}", "{" + ", ".join([str(LOWEST)] * 4) + "}")
    found = interval_of(constants + body, "float[4,4] x, bool[4,4] b")
    assert (found and replace(found, integer=False)) == expected


def test_a_sum_of_many_is_evidence_because_shapes_are_modelled():
    found = interval_of(
        "<int64[1] n = {100000}> { o = ConstantOfShape<value: tensor = float[1] {1.0}>(n) y = ReduceSum(o) }"
    )
    assert found == Interval(100000, 100000, complete=False, integer=True)
    assert interval_of("{ s = Softmax(x) y = ReduceSum(s) }") == Interval(0, 8, complete=False)
    assert interval_of("{ s = Mul(x, x) y = ReduceSum(s) }") == Interval(0, INF, unbounded=True)
    assert interval_of("<int64 a = {1}> { s = Sigmoid(x) y = CumSum(s, a) }") == Interval(0, 4, complete=False)
    assert interval_of("{ y = ArgMax<axis=1>(x) }") == Interval(0, 3, complete=False, integer=True)


def test_an_integer_that_may_wrap_is_unknown():
    small = "<uint8 c = {2}> { n = Add(u, c) y = Cast<to=1>(n) }"
    assert interval_of(small, "uint8[4] u") == Interval(0, 255, integer=True)
    large = "<int32 c = {2000000000}> { n = Add(c, c) y = Cast<to=1>(n) }"
    assert interval_of(large) is None
    assert interval_of("{ r = Relu(x) n = Cast<to=7>(r) y = Cast<to=1>(n) }") is None


def test_float_overflow_loses_the_bound():
    found = interval_of("<float c = {3e38}> { t = Tanh(x) s = Mul(t, c) y = Add(s, s) }")
    assert found is None
    found = interval_of("<float c = {3e38}> { t = Sigmoid(x) s = Mul(t, c) y = Add(s, s) }")
    assert found == Interval(0, INF, unbounded=True)


def test_a_result_that_flushes_to_zero_is_not_proven_positive():
    assert interval_of("<float c = {1e-30}> { y = Mul(c, c) }").lo == 0


BRANCHES = """{{ y = If (b) <
    then_branch = t () => (float[N,4] p) {{ p = Sigmoid(x) }},
    else_branch = e () => (float[N,4] q) {{ q = {other}(x) }}> }}"""


def test_a_branch_is_one_of_both():
    inputs = "float[N,4] x, bool b"
    assert interval_of(BRANCHES.format(other="Tanh"), inputs) == Interval(-1, 1)
    assert interval_of(BRANCHES.format(other="Floor"), inputs) == Interval(0, 1, complete=False)


def test_loop_states_are_their_start_or_the_body_s_result():
    body = """<int64 n = {3}, float[1,4] start = {5, 5, 5, 5}> { y, z = Loop (n, , start) <
        body = l (int64 i, bool c, float[1,4] s) => (bool d, float[1,4] t, float[1,4] u) {
            d = Identity(c) t = Tanh(s) u = Sigmoid(s) }> }"""
    graph = graph_of(body, outputs="float[1,4] y, float[3,1,4] z")
    found = propagate(graph)
    assert found["y"] == Interval(-1, 5)
    assert found["z"] == Interval(0, 1)


def test_scan_states_and_outputs():
    body = """<float[4] start = {2, 2, 2, 2}> { y, z = Scan <num_scan_inputs = 1,
        body = s (float[4] a, float[4] b) => (float[4] c, float[4] d) { c = Sigmoid(a) d = Tanh(b) }> (start, x) }"""
    graph = graph_of(body, outputs="float[4] y, float[N,4] z")
    found = propagate(graph)
    assert found["y"] == Interval(0, 2)
    assert found["z"] == Interval(-1, 1)


def test_given_ranges_go_first_and_flow_on():
    graph = graph_of("{ s = Relu(x) y = Add(s, s) }")
    found = propagate(graph, {"x": Interval(-3, 70000, complete=False), "s": Interval(0, 10)})
    assert (found["s"], found["y"]) == (Interval(0, 10), Interval(0, 20))
    assert propagate(graph, {"x": Interval(-3, 70000, complete=False)})["y"] == Interval(0, 140000, complete=False)


def test_recurrent_cells_are_bounded():
    body = """<float[1,16,4] w = {%s}, float[1,16,4] r = {%s}> { y = LSTM<hidden_size=4>(x, w, r) }"""
    zeros = ", ".join(["0"] * 64)
    assert interval_of(body % (zeros, zeros), "float[2,1,4] x") == Interval(-1, 1)


def test_torch_names_are_known_too():
    values = {name: Value(name, name, "", "float32") for name in ("x", "y", "z")}
    ops = {
        "a": Op("a", "a", "aten._softmax", 0, "", (Slot("x", "x"),), (Slot("y", "y"),)),
        "b": Op("b", "b", "aten.mul", 0, "", (Slot("y", "y"), Slot("y", "y")), (Slot("z", "z"),)),
    }
    graph = PrecisionGraph("torch.fx", {}, {"": Scope("", None, "", 1.0)}, values, ops, {}, ())
    assert propagate(graph)["z"] == Interval(0, 1)


def chain(length: int) -> PrecisionGraph:
    values = {"v0": Value("v0", "v0", "", "float32")} | {
        f"v{i}": Value(f"v{i}", f"v{i}", "", "float32", op=str(i)) for i in range(1, length + 1)
    }
    types = ("Sigmoid", "Mul", "Relu", "Add", "MatMul")
    ops = {
        str(i): Op(
            str(i),
            "",
            types[i % 5],
            13,
            "",
            (Slot(f"v{i}", "A"), Slot(f"v{max(i - 1, 0)}", "B")),
            (Slot(f"v{i + 1}", "C"),),
        )
        for i in range(length)
    }
    return PrecisionGraph("onnx", {}, {"": Scope("", None, "", 1.0)}, values, ops, {}, ())


def test_time_is_linear_and_small():
    graph = chain(50_000)
    best = INF
    with fresh_heap():
        for _ in range(3):
            started = time.perf_counter()
            propagate(graph)
            best = min(best, time.perf_counter() - started)
    assert best < 0.9, f"{best:.2f} s; 0.3 s on an idle core"


# The law: no run leaves a complete interval.

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.3, 2.0, 3.0, 1e-3, 1e-12, 30.0, -100.0, 2048.0, 70000.0, -1e30, LOWEST, 1e-40]
UNARY = [
    "Softmax", "Sigmoid", "HardSigmoid", "Tanh", "Erf", "Sin", "Cos", "Softsign", "Relu", "Abs", "Sqrt", "Exp",
    "Neg", "Reciprocal", "Floor", "Ceil", "Round", "Log", "Softplus", "Identity", "Elu", "Selu", "Celu",
    "LeakyRelu", "HardSwish", "Mish", "ThresholdedRelu", "LogSoftmax", "Sign", "Atan", "Sinh", "Asinh", "Acosh",
    "Transpose", "Flatten", "Dropout", "Gelu",
]  # fmt: skip
BINARY = ["Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "Pow"]
REDUCTIONS = ["ReduceMax", "ReduceMin", "ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2"]


@st.composite
def programs(draw):
    """Lines of ONNX text over 4x4 floats, and the names that they define."""
    floats = ["x", "y", *["f", "t", "k"] * 4] + [f"c{i}" for i in range(len(NUMBERS))]
    lines, names = ["f = Cast<to=1>(u)", "t = Tanh(x)", "k = Clip(y, s5, s10)"], ["f", "t", "k"]
    for index in range(draw(st.integers(1, 7))):
        a, b, c = (draw(st.sampled_from(floats)) for _ in range(3))
        kind = draw(
            st.sampled_from(("unary", "binary", "binary", "reduce", "where", "clip", "integers", "running", "mod"))
        )
        name = f"v{index}"
        if kind == "unary":
            line = f"{{}} = {draw(st.sampled_from(UNARY))}({a})"
        elif kind == "binary":
            line = f"{{}} = {draw(st.sampled_from(BINARY))}({a}, {b})"
        elif kind == "reduce":
            line = f"{{}} = {draw(st.sampled_from(REDUCTIONS))}<keepdims=1>({a}, axes)"
        elif kind == "where":
            line = f"{{}} = Where(m, {a}, {b})"
        elif kind == "clip":
            low, high = (draw(st.sampled_from(["", *(f"s{i}" for i in range(len(NUMBERS)))])) for _ in range(2))
            line = f"{{}} = Clip({a}, {low}, {high})"
        elif kind == "integers":
            line = f"{name}i = Clip({a}, s5, s10) {name}j = Cast<to=7>({name}i) {name}k = Mul({name}j, {name}j)"
            line += " {} = Cast<to=1>(" + name + "k)"
        elif kind == "mod":
            line = f"{{}} = Mod<fmod=1>({a}, {b})"
        else:
            line = f"{name}c = Sum({a}, {b}, {c}) {{}} = CumSum({name}c, axis)"
        lines.append(line.format(name))
        names.append(name)
        floats.extend([name] * 4)
    return lines, names


ELEMENTS = st.sampled_from([*NUMBERS, INF, -INF]) | st.floats(-50, 50, width=32)


@given(programs(), st.lists(ELEMENTS, min_size=32, max_size=32), st.integers(0, 2**32 - 1))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_run_leaves_a_proven_interval(program, elements, seed):
    lines, names = program
    model = model_of(lines, names)
    graph = lift(model)
    found = propagate(graph)
    slack = slacks(graph, found)
    random = np.random.default_rng(seed)
    x, y = np.array(elements, np.float32).reshape(2, 4, 4)
    feeds = {"x": x, "y": y, "u": random.integers(0, 256, (4, 4), np.uint8), "m": random.random((4, 4)) < 0.5}
    results = dict(zip(names, session_of(model).run(None, feeds), strict=True))
    for name in itertools.takewhile(lambda name: not np.isnan(results[name]).any(), names):
        interval = found.get(name)
        if interval is not None and interval.complete:
            assert_inside(results[name], interval, slack[name])


def model_of(lines, names):
    body = " ".join(lines)
    constants = [f"float[4,4] c{i} = {{{', '.join([repr(c)] * 16)}}}" for i, c in enumerate(NUMBERS)]
    constants += [f"float s{i} = {{{c!r}}}" for i, c in enumerate(NUMBERS)]
    constants += ["int64 axis = {0}", "int64[1] axes = {1}"]
    used = ", ".join(each for each in constants if re.search(rf"\b{each.split()[1]}\b", body))
    outputs = ", ".join(f"float[?,?] {name}" for name in names)
    inputs = "float[4,4] x, float[4,4] y, uint8[4,4] u, bool[4,4] m"
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 20]> g ({inputs}) => ({outputs}) <{used}> {{ {body} }}'
    )


def session_of(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def slacks(graph, found):
    """Rounding: a part of the largest end that a value's interval was computed from."""
    scale = {name: largest_end(interval) for name, interval in found.items()}
    for op in graph.ops.values():
        for slot in op.outputs:
            if slot.value in found:
                scale[slot.value] = max(scale.get(value, 0) for value in (slot.value, *(i.value for i in op.inputs)))
    return {name: 1e-5 * end for name, end in scale.items()}


def largest_end(interval):
    return max((abs(end) for end in (interval.lo, interval.hi) if math.isfinite(end)), default=0)


def assert_inside(result, interval, slack):
    result = result.astype(np.float64)
    assert (result >= interval.lo - slack).all(), (result.min(), interval)
    assert (result <= interval.hi + slack).all(), (result.max(), interval)
    if interval.integer:
        finite = result[np.isfinite(result)]
        assert (finite == np.round(finite)).all()
