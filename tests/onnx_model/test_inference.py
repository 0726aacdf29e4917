"""Inference: it goes on behind operators that onnx has none for."""

from onnx import ModelProto, parser

from ampgraph.onnx_model.shape_constants import infer_with_sizes
from ampgraph.onnx_model.types import infer, types_in


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
