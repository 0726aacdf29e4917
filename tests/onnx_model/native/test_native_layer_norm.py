"""Layer and root mean square normalization of rows, with the sums before it."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper, parser
from own import error, kept, own

import ampgraph
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.run import CPU, best_provider

CONTRIB = "com.microsoft"
SKIP, SIMPLE = f"{CONTRIB}.SkipLayerNormalization", f"{CONTRIB}.SkipSimplifiedLayerNormalization"
ROWS = "float16[N,5,16]"


def model_of(graph: str, width: int = 16, dtype: Any = np.float16, opset: int = 20, ir: int = 10) -> ModelProto:
    """Of a graph's text, with rows to scale, to shift and to add."""
    model = parser.parse_model(f'<ir_version: {ir}, opset_import: ["": {opset}, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    for name in ("gamma", "beta", "bias"):
        row = (generator.standard_normal(width) + (name == "gamma")).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(row, name))
    return model


def attributes_of(model: ModelProto) -> dict[str, Any]:
    rewritten = rewrite(model, {})
    assert rewritten is not None
    (norm,) = (each for each in rewritten.model.graph.node if each.op_type == "LayerNorm")
    return {entry.name: helper.get_attribute_value(entry) for entry in norm.attribute}


def inputs_of(model: ModelProto) -> list[str]:
    rewritten = rewrite(model, {})
    assert rewritten is not None
    return next(list(each.input) for each in rewritten.model.graph.node if each.op_type == "LayerNorm")


@pytest.mark.parametrize(
    ("call", "given", "simple"),
    [
        (f"{SKIP}(x, z, gamma, beta, bias)", ["x", "gamma", "beta", "z", "bias"], False),
        (f"{SKIP}(x, z, gamma, beta)", ["x", "gamma", "beta", "z"], False),
        (f'{SKIP}(x, z, gamma, "", bias)', ["x", "gamma", "", "z", "bias"], False),
        (f"{SIMPLE}(x, z, gamma, bias)", ["x", "gamma", "", "z", "bias"], True),
        (f"{SIMPLE}(x, z, gamma)", ["x", "gamma", "", "z"], True),
    ],
)
def test_sums_and_their_normalization(call: str, given: list[str], simple: bool) -> None:
    model = model_of(f"g ({ROWS} x, {ROWS} z) => ({ROWS} y) {{ y = {call.replace('(', '<epsilon=1e-3>(', 1)} }}")
    assert own(model) == {"LayerNorm": 1}
    assert inputs_of(model) == given
    assert attributes_of(model) == {"epsilon": pytest.approx(1e-3), **({"simple": 1} if simple else {})}


@pytest.mark.parametrize("kind", [SKIP, SIMPLE])
def test_without_an_epsilon_it_is_the_operators_own(kind: str) -> None:
    model = model_of(f"g ({ROWS} x, {ROWS} z) => ({ROWS} y) {{ y = {kind}(x, z, gamma) }}")
    assert attributes_of(model)["epsilon"] == pytest.approx(1e-12)


@pytest.mark.parametrize("kind", [SKIP, SIMPLE])
@pytest.mark.parametrize("where", ["read", "given", "both"])
def test_a_sum_that_is_needed_is_made_beside(kind: str, where: str) -> None:
    further = "" if where == "given" else "w = Tanh(s)"
    outputs = {"read": f"{ROWS} w", "given": f"{ROWS} s", "both": f"{ROWS} s, {ROWS} w"}[where]
    graph = f"g ({ROWS} x, {ROWS} z) => ({ROWS} y, {outputs}) {{ y, , , s = {kind}(x, z, gamma)  {further} }}"
    model = model_of(graph)
    assert own(model) == {"LayerNorm": 1}


def test_a_sum_that_only_a_body_reads_is_made_beside() -> None:
    one, other = (f"{name} () => ({ROWS} {name}) {{ {name} = {op}(s) }}" for name, op in (("a", "Tanh"), ("b", "Neg")))
    graph = f"""g ({ROWS} x, {ROWS} z, bool c) => ({ROWS} y, {ROWS} w)
        {{ y, , , s = {SKIP}(x, z, gamma, beta)  w = If(c) <then_branch = {one}, else_branch = {other}> }}"""
    model = model_of(graph)
    rewritten = rewrite(model, {})
    assert rewritten is not None
    assert [name for each in rewritten.model.graph.node for name in each.output if each.domain] == ["y", "s"]
    assert error(model, rewritten.model) < 2e-3


def test_a_sum_that_nobody_needs_is_not_made() -> None:
    model = model_of(f"g ({ROWS} x, {ROWS} z) => ({ROWS} y) {{ y, , , s = {SKIP}(x, z, gamma, beta) }}")
    rewritten = rewrite(model, {})
    assert rewritten is not None
    assert [list(each.output) for each in rewritten.model.graph.node] == [["y"]]


@pytest.mark.parametrize("shape", ["1,5,16", "5,16"])
def test_a_sum_with_one_for_the_whole_batch(shape: str) -> None:
    graph = f"g (float16[3,5,16] x, float16[{shape}] z) => (float16[3,5,16] y) {{ y = {SKIP}(x, z, gamma, beta) }}"
    assert own(model_of(graph)) == {"LayerNorm": 1}


@pytest.mark.parametrize(("value", "given"), [("0.0", ["x", "gamma"]), ("-0.5", ["x", "gamma", "", "z"])])
def test_zeros_are_not_added(value: str, given: list[str]) -> None:
    graph = f"g ({ROWS} x) => ({ROWS} y) {{ y = {SKIP}(x, z, gamma) }}"
    model = model_of(graph)
    zeros = np.full((1, 5, 16), float(value), np.float16)
    model.graph.initializer.append(numpy_helper.from_array(zeros, "z"))
    assert own(model) == {"LayerNorm": 1}
    assert inputs_of(model) == given


@pytest.mark.parametrize(
    ("call", "opset", "ir", "simple"),
    [
        ("LayerNormalization(x, gamma, beta)", 20, 10, False),
        ("LayerNormalization<axis=2, epsilon=1e-5>(x, gamma)", 17, 8, False),
        ("LayerNormalization<axis=-1, stash_type=1>(x, gamma, beta)", 20, 10, False),
        ("SimplifiedLayerNormalization<axis=-1, epsilon=1e-5, stash_type=1>(x, gamma)", 20, 10, True),
        ("RMSNormalization<axis=-1, epsilon=1e-5>(x, gamma)", 23, 11, True),
    ],
)
def test_normalizations_of_what_is_no_sum(call: str, opset: int, ir: int, simple: bool) -> None:
    model = model_of(f"g ({ROWS} x) => ({ROWS} y) {{ y = {call} }}", opset=opset, ir=ir)
    if opset >= 18:  # what the reference is made of
        assert own(model) == {"LayerNorm": 1}
    assert attributes_of(model) == {"epsilon": pytest.approx(1e-5), **({"simple": 1} if simple else {})}


WIDE, DEEP = "float[N,5,16]", "float16[N,16,16]"


@pytest.mark.parametrize(
    "model",
    [
        model_of(f"g ({WIDE} x, {WIDE} z) => ({WIDE} y) {{ y = {SKIP}(x, z, gamma, beta) }}", dtype=np.float32),
        model_of("g (float16[N,5,12] x, float16[N,5,12] z) => (float16[N,5,12] y)"
                 f" {{ y = {SKIP}(x, z, gamma, beta) }}", 12),  # no whole vectors
        model_of("g (float16[N,5,10248] x, float16[N,5,10248] z) => (float16[N,5,10248] y)"
                 f" {{ y = {SKIP}(x, z, gamma, beta) }}", 10248),  # too wide
        model_of(f"g ({ROWS} x, {ROWS} z, float16[16] row) => ({ROWS} y) {{ y = {SKIP}(x, z, row, beta) }}"),
        model_of(f"g ({ROWS} x, {ROWS} z, float16[16] row) => ({ROWS} y) {{ y = {SKIP}(x, z, gamma, row) }}"),
        model_of(f"g ({ROWS} x, {ROWS} z, float16[16] row) => ({ROWS} y) {{ y = {SKIP}(x, z, gamma, beta, row) }}"),
        model_of(f"g ({ROWS} x, {ROWS} z) => ({ROWS} y, float[N,5,1] m) {{ y, m = {SKIP}(x, z, gamma, beta) }}"),
        model_of(f"g ({ROWS} x) => ({ROWS} y, float[N,5,1] m) {{ y, m = LayerNormalization(x, gamma, beta) }}"),
        model_of(f"g ({ROWS} x) => ({ROWS} y) {{ y = LayerNormalization<axis=1>(x, gamma, beta) }}"),
        model_of(f"g ({DEEP} x) => ({DEEP} y) {{ y = LayerNormalization<axis=-2>(x, gamma, beta) }}"),
        model_of(f"g ({ROWS} x) => ({ROWS} y) {{ y = LayerNormalization<stash_type=10>(x, gamma, beta) }}"),
        model_of(f"g ({WIDE} x) => ({WIDE} y) {{ y = LayerNormalization(x, gamma, beta) }}", dtype=np.float32),
        model_of(f"g ({WIDE} x) => ({ROWS} y) {{ y = SimplifiedLayerNormalization<axis=-1>(x, gamma) }}"),
    ],
)  # fmt: skip
def test_normalizations_with_more_to_them_stay(model: ModelProto) -> None:
    assert rewrite(model, {}) is None


def test_one_along_the_rows_of_an_image_reads_it_as_it_was() -> None:
    """Kernels of ours leave images with channels last; this one takes values as they are."""
    graph = """g (float16[2,8,6,16] x) => (float16[2,8,6,16] y)
        { c = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w)  y = LayerNormalization(c, gamma, beta) }"""
    model = model_of(graph)
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float16)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    assert own(model) == {"Conv": 1, "LayerNorm": 1}
    assert kept(model) == {"Transpose": 2}


@pytest.mark.skipif(best_provider() == CPU, reason="no GPU here")
@pytest.mark.parametrize("width", [16, 96, 192, 320, 384, 512, 768, 1024, 1536, 4096])
@pytest.mark.parametrize("rows", [1, 77, 3000])
@pytest.mark.parametrize("kind", [SKIP, SIMPLE])
def test_on_the_gpu_it_is_as_near_float64_as_rounding(
    width: int, rows: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ampgraph.onnx_model.native.search.gains", lambda *_: True)
    shift = "beta, " if kind == SKIP else ""
    like, call = f"float16[{rows},1,{width}]", f"{kind}<epsilon=1e-5>(x, z, gamma, {shift}bias)"
    model = model_of(f"g ({like} x, {like} z) => ({like} y, {like} s) {{ y, , , s = {call} }}", width)
    generator = np.random.default_rng(rows + width)
    x, z = ((generator.standard_normal((rows, 1, width)) + 4).astype(np.float16) for _ in range(2))
    session = ampgraph.Session(model, native=True)
    assert session.native
    found = session.run({"x": x, "z": z})
    gamma, beta, bias = (numpy_helper.to_array(each).astype(np.float64) for each in model.graph.initializer)
    total = x.astype(np.float64) + z + bias
    centred = total - (total.mean(-1, keepdims=True) if shift else 0)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + (beta if shift else 0)
    for name, wanted in (("y", expected), ("s", total)):
        ulp = np.spacing(np.abs(wanted).astype(np.float16)).astype(np.float64)
        assert (np.abs(found[name] - wanted) <= 0.51 * ulp + 2e-6 * np.abs(wanted).max()).all()


@pytest.mark.parametrize(
    ("width", "rows", "kind", "taken"),
    [
        (512, 8192, SKIP, False),
        (384, 6272, SKIP, True),
        (96, 3136, SKIP, True),
        (192, 784, SKIP, False),
        (1024, 2048, SIMPLE, False),
        (192, 2048, SIMPLE, True),
    ],
    ids=[
        "wide rows",
        "narrow rows",
        "narrower rows",
        "few of them",
        "root mean squares of wide rows",
        "of narrow rows",
    ],
)
@pytest.mark.usefixtures("real_sizes")
def test_what_the_runtime_is_as_fast_at_stays(width: int, rows: int, kind: str, taken: bool) -> None:
    shift = "beta" if kind == SKIP else "bias"
    like, call = f"float16[N,{width}]", f"{kind}(x, z, gamma, {shift})"
    model = model_of(f"g ({like} x, {like} z) => ({like} y) {{ y = {call} }}", width)
    assert (rewrite(model, {"x": (rows, width), "z": (rows, width)}) is not None) is taken


def test_the_type_of_what_it_makes_is_followed() -> None:
    graph = f"""g ({ROWS} x, {ROWS} z) => (float16[N,2,16] y, {ROWS} w) <int64[2] places = {{3, 0}}>
        {{ n = {SKIP}(x, z, gamma, beta)  y = Gather<axis=1>(n, places)  w = Neg(n) }}"""
    model = model_of(graph)
    model.graph.value_info.append(helper.make_tensor_value_info("n", TensorProto.FLOAT16, ["N", 5, 16]))
    assert own(model) == {"LayerNorm": 1, "Rows": 1}


def test_alone_it_is_left_where_launches_are_to_be_saved() -> None:
    like = "float16[N,192]"
    model = model_of(f"g ({like} x, {like} z) => ({like} y) {{ y = {SKIP}(x, z, gamma, beta) }}", 192)
    assert rewrite(model, {}) is not None
    assert rewrite(model, {}, norms=False) is None
