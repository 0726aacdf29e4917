"""Shape arithmetic: the shapes that follow from sizes."""

import numpy as np
from onnx import ModelProto, numpy_helper, parser

from ampgraph.onnx_model import shape_constants
from ampgraph.onnx_model.shape_constants import infer_with_sizes, sizes_in
from ampgraph.onnx_model.shape_operators import LARGEST
from ampgraph.onnx_model.types import infer, types_in, weightless

I64 = np.int64


def i(*values: int) -> np.ndarray:
    return np.array(values, I64)


def shapes_of(text: str, **constants: np.ndarray) -> dict[str, tuple[int, ...] | None]:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return {name: known.shape for name, known in types_in(infer(model, {"x": (2, 3, 8, 8)}).graph).items()}


def test_computed_axes_keep_the_shapes_after_them() -> None:
    text = """(float[2,3,8,8] x) => (float[N,M,K,L] y) {
        axes = Reshape(list, minus)  m = ReduceSum<keepdims = 1>(x, axes)  y = Sub(x, m) }"""
    found = shapes_of(text, list=i(2, 3), minus=i(-1))
    assert found["m"] == (2, 3, 1, 1)
    assert found["y"] == (2, 3, 8, 8)


def test_sizes_taken_from_shapes_in_several_rounds() -> None:
    text = """(float[2,3,8,8] x) => (float[N,M] y) {
        s = Shape(x)  n = ReduceProd<keepdims = 1>(s, zero)  h = Reshape(x, n)
        t = Shape(h)  half = Div(t, two)  pair = Concat<axis = 0>(two, half)  y = Reshape(h, pair) }"""
    text = text.replace("(s, zero)", "(s)")
    assert shapes_of(text, two=i(2))["y"] == (2, 192)


def test_no_round_of_inference_is_for_nothing(monkeypatch) -> None:
    rounds = []
    once = shape_constants.infer_once
    monkeypatch.setattr(shape_constants, "infer_once", lambda light: rounds.append(1) or once(light))
    text = """(float[2,3,8,8] x) => (float[N,M] y) {
        two = Constant<value_ints = [2]>()  list = Constant<value_ints = [0]>()  axes = Reshape(list, minus)
        s = Shape(x)  n = ReduceProd<keepdims = 1>(s)  half = Div(n, two)  pair = Concat<axis = 0>(two, half)
        y = Reshape(x, pair) }"""
    assert shapes_of(text, minus=i(-1))["y"] == (2, 192)
    assert len(rounds) == 2


def test_bodies_use_what_is_known_around_them() -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3,8,8] x, bool c) => (float[N,M] y) {
        s = Shape(x)  n = Slice(s, one, two)
        y = If (c) <
            then_branch = t () => (float[P,Q] a) { p = Concat<axis = 0>(n, minus)  a = Reshape(x, p) },
            else_branch = f () => (float[P,Q] b) { q = Concat<axis = 0>(n, minus)  b = Reshape(x, q) }>
    }""")
    for name, array in {"one": i(1), "two": i(2), "minus": i(-1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    inferred = infer(model, {})
    assert types_in(inferred.graph.node[2].attribute[0].g)["a"].shape == (3, 128)
    assert types_in(inferred.graph)["y"].shape == (3, 128)


def test_what_is_large_or_impossible_is_left_alone() -> None:
    text = f"""(float[2,3,8,8] x) => (float[N] y) {{
        size = Constant<value_ints = [{LARGEST * 1000}]>()  big = ConstantOfShape(size)
        zero = Constant<value_int = 0>()  one = Constant<value_int = 1>()
        never = Div(one, zero)  line = Range(zero, huge, one)  y = Reshape(x, minus) }}"""
    found = shapes_of(text, huge=np.array(10**9), minus=i(-1))
    assert found["y"] == (384,)


def test_the_model_keeps_its_nodes() -> None:
    text = "(float[2,3] x) => (float[N] y) { s = Shape(x)  p = ReduceProd(s)  y = Reshape(x, p) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    inferred = infer_with_sizes(weightless(model))
    assert [node.op_type for node in inferred.graph.node] == ["Shape", "ReduceProd", "Reshape"]
    assert [node.output[0] for node in model.graph.node] == ["s", "p", "y"]


def test_group_normalization_stops_no_shapes():
    model = parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[n,4,h] x, float[4] s) => (float[n,4,h] y) {
            a = GroupNormalization<num_groups = 2>(x, s, s)  b = GroupNormalization<num_groups = 2>(a, s, s)
            y = Neg(b) }""")
    inferred = infer(model, {"x": (3, 4, 5)})
    assert types_in(inferred.graph)["b"].shape == (3, 4, 5)
    assert [node.op_type for node in inferred.graph.node] == ["GroupNormalization", "GroupNormalization", "Neg"]
    assert model.graph.node[0].op_type == "GroupNormalization"


def test_inference_goes_on_behind_fused_operators():
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[2,6,8] x, float[8] s, float[24] b, float[2,3,8] other) => (y)
        <float[8,24] w = {"""
        + ", ".join("0.5" for _ in range(192))
        + """}> {
            n, m, v, sum = com.microsoft.SkipLayerNormalization(x, x, s, s)
            a = com.microsoft.Attention<num_heads = 2>(n, w, b)
            h = com.microsoft.MultiHeadAttention<num_heads = 2>(a, other, other)
            g = com.microsoft.BiasGelu(h, s)  t = Transpose<perm = [0, 2, 1]>(g)
            o, k, l, all = com.microsoft.SkipSimplifiedLayerNormalization(g, sum, s)
            u = Transpose<perm = [0, 2, 1]>(all)  z = Add(t, u)  y = Neg(z) }"""
    )
    before = ModelProto.FromString(model.SerializeToString())
    inferred = infer_with_sizes(model)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in inferred.graph.value_info}
    assert {name: shapes[name] for name in "nahgt"} == dict.fromkeys("nahg", (2, 6, 8)) | {"t": (2, 8, 6)}
    assert (shapes["sum"], shapes["all"], shapes["u"], shapes["z"]) == ((2, 6, 8), (2, 6, 8), (2, 8, 6), (2, 8, 6))
    assert list(inferred.graph.node) == list(model.graph.node) == list(before.graph.node)


def test_an_attention_whose_weights_a_node_holds_is_as_wide():
    """As Paddle's exporter writes them."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[2,6,2] x, float[6] b) => (y) {
            w = Constant<value = float[2,6] {1,2,3,4,5,6,7,8,9,10,11,12}>()
            a = com.microsoft.Attention<num_heads = 1>(x, w, b)  t = Transpose<perm = [0, 2, 1]>(a)  y = Neg(t) }"""
    )
    shapes = {value.name: value.type.tensor_type.shape for value in infer_with_sizes(model).graph.value_info}
    assert [dim.dim_value for dim in shapes["t"].dim] == [2, 2, 6]


def test_an_attention_of_another_width_is_left_unknown():
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[2,6,8] x, float[12] b) => (y)
        <float[8,12] w = {"""
        + ", ".join("0.5" for _ in range(96))
        + """}> {
            a = com.microsoft.Attention<num_heads = 2>(x, w, b)  y = Neg(a) }"""
    )
    assert all(value.name != "a" for value in infer_with_sizes(model).graph.value_info)


def test_what_the_last_shapes_decide_is_computed_too() -> None:
    """No shape waits for the scale of an attention, which exporters take from the width of its heads."""
    text = """(float[2,16] x) => (float[2,16] y) {
        s = Shape(x)  w = Gather(s, one)  f = Cast<to = 1>(w)  r = Sqrt(f)  y = Div(x, r) }"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, I64), "one"))
    shapes, results = sizes_in(weightless(model))
    assert shapes["y"] == (2, 16)
    assert results["r"] == 4


def test_a_deep_model_at_an_old_opset_is_known_to_its_end() -> None:
    """Before opset 14 a reshape is inferred of constants alone: every layer waits for those of the one before it."""
    body, last = [], "x"
    for layer in range(30):
        body.append(f"s{layer} = Shape({last})  r{layer} = Reshape({last}, s{layer})  y{layer} = Relu(r{layer})")
        last = f"y{layer}"
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[2,3] x) => (float[a,b] y) '
    model = parser.parse_model(f"{text} {{ {'  '.join(body)}  y = Transpose({last}) }}")
    shapes, _ = sizes_in(weightless(model))
    assert shapes["y"] == (3, 2)
    assert shapes[last] == (2, 3)
