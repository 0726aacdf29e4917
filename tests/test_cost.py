import time
from dataclasses import replace

import onnx
import pytest

from ampgraph.cost import count_measured, modelled_milliseconds, price
from ampgraph.costs import Costs
from ampgraph.decide import decide
from ampgraph.devices import device_named, load_devices
from ampgraph.graph import Decision, Op, PrecisionGraph, Scope, Slot, Use, Value
from ampgraph.judge import judge
from ampgraph.judgement import Category
from ampgraph.measured import CastCost, MeasuredCosts, class_of
from ampgraph.onnx_model.lift import lift
from ampgraph.precision import Precision
from ampgraph.ranges import propagate
from ampgraph.rulebook import load_builtin
from tests.clock import fresh_heap

FLOAT16, BFLOAT16 = Precision.FLOAT16, Precision.BFLOAT16
H100 = device_named("h100")


def graph_of(body: str, inputs: str, constants: str = "") -> PrecisionGraph:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[M] y) {constants} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return lift(model)


def product_of(size: int) -> PrecisionGraph:
    return graph_of("y = MatMul(x, w)", f"float[{size},{size}] x, float[{size},{size}] w")


def principal(graph: PrecisionGraph, kind: str) -> str:
    return next(each.id for each in graph.decisions.values() if each.principal and graph.ops[each.op].type == kind)


def test_a_large_product_takes_its_operations_over_the_rate():
    graph = product_of(8192)
    costs = price(graph, "speed", H100, FLOAT16)
    id = principal(graph, "MatMul")
    slow = 2 * 8192**3 / (494.5e12 * 0.5)
    fast = 2 * 8192**3 / (989.5e12 * 0.5)
    assert costs.unit == "picoseconds"
    assert costs.high[id] == pytest.approx((5e-6 + slow) * 1e12, abs=1)
    assert costs.low[id] == pytest.approx((5e-6 + slow - 0.8 * (slow - fast - 1e-6)) * 1e12, abs=1)


def test_elementwise_work_takes_its_bytes_over_the_bandwidth():
    graph = graph_of("y = Add(x, z)", "float[4096,4096] x, float[4096,4096] z")
    costs = price(graph, "speed", H100, FLOAT16)
    id = principal(graph, "Add")
    slow = 3 * 4096**2 * 4 / (3.35e12 * 0.8)
    assert costs.high[id] == pytest.approx((5e-6 + slow) * 1e12, abs=1)
    assert costs.low[id] == pytest.approx((5e-6 + slow - 0.8 * (slow / 2 - 1e-6)) * 1e12, abs=1)


def test_a_cast_takes_a_launch_and_six_bytes_an_element():
    graph = product_of(1024)
    costs = price(graph, "speed", H100, FLOAT16)
    expected = (5e-6 + 6 * 1024**2 / (3.35e12 * 0.8)) * 1e12
    assert costs.down["x"] == costs.up["x"] == pytest.approx(expected, abs=1)
    assert set(costs.down) == {"x", "w", "y"}


def test_constants_cost_no_cast():
    graph = graph_of("y = Add(x, c)", "float[4] x", "<float[4] c = {1, 2, 3, 4}>")
    assert "c" not in price(graph, "speed", H100, FLOAT16).down


def test_small_work_gains_nothing():
    for body in ("y = Relu(x)", "y = MatMul(x, x)", "y = Softmax(x)"):
        graph = graph_of(body, "float[64,64] x")
        costs = price(graph, "speed", H100, FLOAT16)
        assert costs.high == costs.low


def test_views_are_free():
    graph = graph_of("y = Flatten(x)", "float[64,64,64] x")
    for objective in ("speed", "memory"):
        costs = price(graph, objective, H100, FLOAT16)
        id = principal(graph, "Flatten")
        assert (costs.high.get(id, 0), costs.low.get(id, 0)) == (0, 0)


def test_large_convolutions_win_depthwise_ones_too():
    inputs = "float[16,{c},112,112] x, float[{o},{i},3,3] w"
    deep = graph_of("y = Conv<group=64, pads=[1,1,1,1]>(x, w)", inputs.format(c=64, o=64, i=1))
    dense = graph_of("y = Conv<pads=[1,1,1,1]>(x, w)", inputs.format(c=64, o=64, i=64))
    slow, fast = price(deep, "speed", H100, FLOAT16), price(dense, "speed", H100, FLOAT16)
    assert slow.low[principal(deep, "Conv")] < slow.high[principal(deep, "Conv")]
    assert fast.low[principal(dense, "Conv")] < fast.high[principal(dense, "Conv")]


@pytest.mark.parametrize("name", ["t4", "v100"])
def test_bfloat16_is_never_faster_where_it_is_emulated(name):
    for graph in (product_of(4096), graph_of("y = Relu(x)", "float[4096,4096] x")):
        costs = price(graph, "speed", device_named(name), BFLOAT16)
        assert all(costs.low[id] >= high for id, high in costs.high.items())
        half = price(graph, "speed", device_named(name), FLOAT16)
        assert all(half.low[id] < high for id, high in half.high.items())


@pytest.mark.parametrize("device", load_devices().values(), ids=str)
def test_gains_grow_with_size(device):
    gains = []
    for size in (64, 256, 1024, 4096):
        graph = product_of(size)
        costs = price(graph, "speed", device, FLOAT16)
        id = principal(graph, "MatMul")
        gains.append(costs.high[id] - costs.low[id])
    assert gains == sorted(gains)
    assert gains[0] == 0 < gains[-1]


def test_time_inside_a_loop_counts_as_often_as_it_runs():
    body = """y = Loop (n, , x) < body = l (int64 i, bool c, float[512,512] s) => (bool d, float[512,512] t) {
        d = Identity(c) t = Relu(s) }>"""
    looped = graph_of(body, "float[512,512] x", "<int64 n = {10}>")
    plain = graph_of("y = Relu(x)", "float[512,512] x")
    once = price(plain, "speed", H100, FLOAT16).high[principal(plain, "Relu")]
    costs = price(looped, "speed", H100, FLOAT16)
    assert costs.high[principal(looped, "Relu")] == pytest.approx(10 * once, abs=10)
    inner = next(id for id, value in looped.values.items() if value.name == "t")
    assert costs.down[inner] == costs.down["x"]


def test_memory_counts_values_copies_and_parameters():
    graph = graph_of("t = MatMul(x, c) y = Relu(t)", "float[4,2] x", "<float[2,3] c = {1, 2, 3, 4, 5, 6}>")
    costs = price(graph, "memory", H100, FLOAT16)
    product = principal(graph, "MatMul")
    assert costs.unit == "bytes"
    assert (costs.high[product], costs.low[product]) == (48, 24)
    assert (costs.high["input:x"], costs.low["input:x"]) == (32, 16)
    assert (costs.keep_high, costs.keep_low) == ({"c": 24}, {"c": 12})
    assert (costs.down["t"], costs.up["t"]) == (24, 48)


def test_an_empty_value_s_cast_is_not_free():
    graph = graph_of("y = Relu(x)", "float[0,2] x")
    costs = price(graph, "memory", H100, FLOAT16)
    assert (costs.down["x"], costs.up["x"]) == (1, 1)


def test_coverage_counts_what_is_left_high():
    graph = graph_of("t = MatMul(x, x) u = Softmax(t) y = Transpose(u)", "float[4,4] x")
    ids = {kind: principal(graph, kind) for kind in ("MatMul", "Softmax", "Transpose")}
    categories = {ids["MatMul"]: Category.ALLOW, ids["Softmax"]: Category.INFER, ids["Transpose"]: Category.CLEAR}
    costs = price(graph, "coverage", H100, FLOAT16, categories)
    assert costs.unit == "points"
    assert costs.high == {ids["MatMul"]: 100_000, ids["Softmax"]: 1_000}
    assert not costs.low
    assert set(costs.down.values()) == {8}


def test_no_number_of_casts_outweighs_a_decision_under_coverage():
    wide = ", ".join(f"float[2] x{i}" for i in range(300))
    graph = graph_of(f"y = Sum({', '.join(f'x{i}' for i in range(300))})", wide)
    id = principal(graph, "Sum")
    costs = price(graph, "coverage", H100, FLOAT16, {id: "infer"})
    assert costs.high[id] > sum(costs.down[f"x{i}"] for i in range(300))


def test_casts_in_nested_branches_still_count():
    costs = price(product_of(4), "coverage", H100, FLOAT16)
    assert costs.cast("x", to_low=True, frequency=0.125) == 1


def test_prices_are_whole_numbers():
    graph = graph_of("t = MatMul(x, x) y = Softmax(t)", "float[N,N] x")
    for objective in ("speed", "memory", "coverage"):
        costs = price(graph, objective, H100, FLOAT16, dict.fromkeys(graph.decisions, "allow"))
        for table in (costs.high, costs.low, costs.down, costs.up, costs.keep_high, costs.keep_low):
            assert all(type(figure) is int and figure >= 0 for figure in table.values())


def test_milliseconds_for_people():
    assert modelled_milliseconds(2_500_000_000) == 2.5


def chain(length: int) -> PrecisionGraph:
    admits = frozenset(Precision)
    types = ("Conv", "Relu", "MatMul", "Add", "Flatten")
    values = {"v0": Value("v0", "v0", "", "float32", shape=(8, 64), producer="input:v0")}
    ops, decisions, uses = {}, {}, []
    for i in range(length):
        op, id = f"o{i}", f"o{i}:T"
        sources = (f"v{i}", f"v{max(i - 1, 0)}")
        values[f"v{i + 1}"] = Value(f"v{i + 1}", "", "", "float32", shape=(8, 64), producer=id, op=op)
        slots = tuple(Slot(source, "", id) for source in sources)
        ops[op] = Op(op, "", types[i % 5], 13, "", slots, (Slot(f"v{i + 1}", "", id),))
        decisions[id] = Decision(id, op, "T", "op", Precision.FLOAT32, admits, principal=True)
        uses += [Use(source, id, op, slot, "") for slot, source in enumerate(sources)]
    return PrecisionGraph("onnx", {}, {"": Scope("", None, "", 1.0)}, values, ops, decisions, tuple(uses))


def best_of_three(graph: PrecisionGraph, objective: str) -> float:
    def once() -> float:
        started = time.perf_counter()
        found = price(graph, objective, H100, FLOAT16, categories)
        assert isinstance(found, Costs)
        return time.perf_counter() - started

    categories = dict.fromkeys(graph.decisions, "allow")
    with fresh_heap():
        return min(once() for _ in range(3))


@pytest.mark.parametrize("objective", ["speed", "memory", "coverage"])
def test_time_is_linear_and_small(objective):
    taken = best_of_three(chain(50_000), objective)
    assert taken < 1.2, f"{taken:.2f} s; 0.5 s on an idle core"


# measured times

CHAIN = "a = MatMul(x, w) b = Softmax(a) c = MatMul(b, w) y = Relu(c)"


def measured_chain() -> PrecisionGraph:
    return graph_of(CHAIN, "float[512,512] x, float[512,512] w")


def measured_of(graph: PrecisionGraph, float16: dict[str, float], launch: float = 0.0) -> MeasuredCosts:
    """Every op takes 100 microseconds in float32, 50 in float16 where nothing else is said."""
    entries = {class_of(op, graph): {Precision.FLOAT32: 1e-4, FLOAT16: 5e-5} for op in graph.ops.values()}
    for kind, seconds in float16.items():
        entries |= {each: {Precision.FLOAT32: 1e-4, FLOAT16: seconds} for each in entries if each.op == kind}
    return MeasuredCosts("H100", "CUDA", "onnxruntime 1", True, launch, CastCost(1e-6, 1e-12), entries)


def test_a_measured_time_stands_for_itself():
    graph = measured_chain()
    costs = price(graph, "speed", H100, FLOAT16, measured=measured_of(graph, {"Relu": 9e-5}))
    assert set(costs.high.values()) == {100_000_000}
    assert costs.low[principal(graph, "Softmax")] == 50_000_000
    assert costs.low[principal(graph, "Relu")] == 90_000_000
    assert costs.down["x"] == 1_000_000 + 6 * 512**2


def test_nothing_is_shorter_than_a_launch():
    graph = measured_chain()
    costs = price(graph, "speed", H100, FLOAT16, measured=measured_of(graph, {}, launch=8e-5))
    assert set(costs.low.values()) == {80_000_000}
    assert set(costs.down.values()) == {80_000_000}


def test_what_was_not_measured_keeps_the_roofline_s_time():
    graph = measured_chain()
    full = measured_of(graph, {})
    kept = {kind: times for kind, times in full.entries.items() if kind.op == "Relu"}
    partial = replace(full, entries=kept)
    modelled, mixed = price(graph, "speed", H100, FLOAT16), price(graph, "speed", H100, FLOAT16, measured=partial)
    product, relu = principal(graph, "MatMul"), principal(graph, "Relu")
    assert mixed.high[product] == modelled.high[product]
    assert mixed.low[relu] == 50_000_000 != modelled.low[relu]
    assert count_measured(graph, full) == (4, 4)
    assert count_measured(graph, partial) == (1, 4)


def test_a_precision_that_did_not_run_never_pays():
    graph = measured_chain()
    costs = price(graph, "speed", H100, BFLOAT16, measured=measured_of(graph, {}))
    assert all(costs.low[key] == 10 * high for key, high in costs.high.items())


def test_measured_times_are_no_matter_to_other_objectives():
    graph = measured_chain()
    for objective in ("memory", "coverage"):
        given = measured_of(graph, {})
        assert price(graph, objective, H100, FLOAT16, measured=given) == price(graph, objective, H100, FLOAT16)


def test_the_cut_spares_one_bad_kernel_and_keeps_the_rest_low():
    graph = measured_chain()
    costs = price(graph, "speed", H100, FLOAT16, measured=measured_of(graph, {"Softmax": 1e-3}))
    low = decide(graph, judge(graph, load_builtin(), propagate(graph), FLOAT16, None), costs)
    by_type = {graph.ops[graph.decisions[key].op].type: key in low for key in costs.high}
    assert by_type == {"MatMul": True, "Softmax": False, "Relu": True}


def test_what_a_convolution_absorbs_takes_no_time_among_measured_ones():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,8,8] x) => (float[1,4,8,8] y)
        <float[4,4,1,1] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}, float[4,1,1] b = {1,2,3,4}> {
        c = Conv(x, w) d = Add(c, b) y = Relu(d) }"""
    graph = lift(onnx.parser.parse_model(text))
    costs = price(graph, "speed", H100, FLOAT16, measured=measured_of(graph, {}))
    types = {graph.ops[graph.decisions[key].op].type for key in costs.high}
    assert types == {"Conv", "Relu"}
    assert count_measured(graph, measured_of(graph, {})) == (2, 2)
    assert principal(graph, "Add") in price(graph, "speed", H100, FLOAT16).high


def test_a_small_convolution_with_a_bias_gains_only_as_a_cuda_graph():
    """ResNet-50 at batch 1: launches of plain runs hide what it gains."""
    graph = graph_of("y = Conv(x, w, b)", "float[1,256,28,28] x, float[256,256,3,3] w, float[256] b")
    id = principal(graph, "Conv")
    plain = price(graph, "speed", H100, FLOAT16)
    assert plain.low[id] == plain.high[id]
    replayed = price(graph, "speed", device_named("h100", cuda_graph=True), FLOAT16)
    assert replayed.low[id] < replayed.high[id]


def test_many_short_sequences_take_the_time_of_their_heads():
    """2,048 windows in 3 heads take the 163 us that were measured, not the 33 of their bytes."""
    short = '[ "com.microsoft" : 1, "" : 17 ]'
    text = f"""<ir_version: 8, opset_import: {short}> g (float[2048,56,96] q, float[2048,56,96] k, float[2048,56,96] v)
      => (float[2048,56,96] y) {{ y = com.microsoft.MultiHeadAttention<num_heads = 3>(q, k, v) }}"""
    graph = lift(onnx.parser.parse_model(text))
    id = principal(graph, "com.microsoft.MultiHeadAttention")
    assert price(graph, "speed", H100, FLOAT16).low[id] >= 2048 * 3 * 26e-9 * 1e12
