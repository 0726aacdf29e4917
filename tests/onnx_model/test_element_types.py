"""Element types, against onnx's inference where it reaches and by hand past contrib ops."""

import onnx
import onnx_ir as ir
import pytest
from onnx import parser
from onnx_ir import traversal

from ampgraph.onnx_model.element_types import fill_element_types

HEADER = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'


def types_of(text: str) -> dict[str, str]:
    model = ir.from_proto(parser.parse_model(text))
    for node in traversal.RecursiveGraphIterator(model.graph):
        for output in node.outputs:
            output.type = None
    fill_element_types(model)
    nodes = traversal.RecursiveGraphIterator(model.graph)
    return {str(value.name): str(value.type) for node in nodes for value in node.outputs if value.name}


@pytest.mark.parametrize(
    "body",
    [
        "a = Cast<to = 16>(x) b = Shape(a) c = CastLike(b, x) y = Add(c, x)",
        "s = Shape(x) a = ConstantOfShape(s) b = ConstantOfShape<value = int32[1] {3}>(s) y = Identity(a)",
        'a = Constant<value_float = 1.0>() b = Constant<value_ints = [1]>() c = Constant<value_string = "k">() '
        "y = Add(x, a)",
        "a = RandomNormalLike<dtype = 11>(x) b = EyeLike(x) c = Bernoulli(x) d = Multinomial(x) y = Identity(b)",
        "v, i = TopK(x, k) q, s, z = DynamicQuantizeLinear(v) d = DequantizeLinear(q, s, z) y = Identity(d)",
        "q = SplitToSequence(x) e = SequenceAt(q, n) r = SequenceInsert(q, e) l = SequenceLength(r) "
        "c = ConcatFromSequence<axis = 0>(r) y = Identity(c)",
        "o = Optional(x) h = OptionalHasElement(o) y = OptionalGetElement(o)",
        "a, b, c = LayerNormalization(x, g) y = Identity(a)",
        "p = Less(x, x) w = Where(p, x, x) q = QuantizeLinear<output_dtype = 3>(w, n1) y = Identity(w)",
        "y = If(t) <then_branch = p () => (float[N, M] u) { u = Neg(x) }, "
        "else_branch = e () => (float[N, M] v) { h = Cast<to = 10>(x) v = Cast<to = 1>(h) }>",
        "last, all = Loop(n, t, x) <body = b (int64 i, bool c, float[N, M] s) => (bool d, float[N, M] r, "
        "float16[N, M] o) { d = Identity(c) r = Neg(s) o = Cast<to = 10>(r) }> y = Identity(last)",
        "q = SplitToSequence(x) m = SequenceMap(q) <body = b (float[A, B] s) => (float16[A, B] o) "
        "{ o = Cast<to = 10>(s) }> y = Identity(x)",
    ],
)  # fmt: skip
def test_agrees_with_onnx(body: str) -> None:
    inputs = "float[N, M] x, int64[1] k, int64 n, bool t, float[M] g, float n1"
    text = f"{HEADER} g ({inputs}) => (float[N, M] y) {{ {body} }}"
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(text), strict_mode=True))
    nodes = traversal.RecursiveGraphIterator(inferred.graph)
    expected = {str(value.name): str(value.type) for node in nodes for value in node.outputs if value.name}
    assert types_of(text) == expected


def test_goes_on_past_contrib_ops() -> None:
    found = types_of(f"""{HEADER} g (float16[1, 2, 4] x, float16[4] w) => (float[N] y) {{
        n, m, v, s = com.microsoft.SkipLayerNormalization(x, x, w)
        g = com.microsoft.FastGelu(s) h = Mul(g, n) y = Cast<to = 1>(h) }}""")
    assert {name: kind for name, kind in found.items() if name != "y"} == {
        "n": "FLOAT16", "m": "FLOAT", "v": "FLOAT", "s": "FLOAT16",
        "g": "FLOAT16", "h": "FLOAT16",
    }  # fmt: skip


@pytest.mark.parametrize(("zero", "scale", "kind"), [("qz", "s", "INT8"), ("", "", "FLOAT")])
def test_a_quantized_product_is_of_its_zero_points_type(zero: str, scale: str, kind: str) -> None:
    more = f", bias, {scale}, {zero}" if zero else ""
    found = types_of(f"""{HEADER} g (int8[2, 4] a, int8[4, 3] b, float s, int8 z, int32[3] bias, int8 qz)
        => (float[N] y) {{ q = com.microsoft.QGemm(a, s, z, b, s, z{more}) y = Cast<to = 1>(q) }}""")
    assert found["q"] == kind


def test_what_is_quantized_without_a_zero_point_is_uint8() -> None:
    """onnx's own inference says so too."""
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[2] x, float s) => (uint8[2] q) '
    assert types_of(text + "{ q = QuantizeLinear(x, s) }") == {"q": "UINT8"}


def test_an_op_without_a_schema_stays_unknown() -> None:
    found = types_of('<ir_version: 10, opset_import: ["" : 21, "own" : 1]> g (float[2] x) => (float[2] y) '
                     "{ h = own.Thing(x) y = Cast<to = 1>(h) }")  # fmt: skip
    assert found == {"h": "None", "y": "FLOAT"}
