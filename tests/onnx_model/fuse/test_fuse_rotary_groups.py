"""Rotary embeddings of several heads are computed as of one where nothing else sees the order of their columns."""

import re
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, numpy_helper, parser

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.fuse.net import read
from ampgraph.onnx_model.fuse.recipes import Paired
from ampgraph.onnx_model.fuse.rotary_groups import fuse_rotary_groups
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session, run

TOKENS = 72
ENDS = """
  zero = Constant<value_ints = [0]>()  half = Constant<value_ints = [{half}]>()
  end = Constant<value_ints = [{size}]>()  last = Constant<value_ints = [3]>()
  split = Constant<value_ints = [0, 0, {heads}, {size}]>()  whole = Constant<value_ints = [0, 0, {width}]>()
  angle = Concat<axis = -1>(freq, freq)  c0 = Cos(angle)  s0 = Sin(angle)
  one = Constant<value_ints = [1]>()  cosine = Unsqueeze(c0, one)  sine = Unsqueeze(s0, one)
"""
PROJECTED = "{x}_p = MatMul({source}, w{x})  {x} = Add({x}_p, b{x})  "
ROTATED = """
  {x}s = Reshape({x}, split)  {x}h = Transpose<perm = [0, 2, 1, 3]>({x}s)
  {x}a = Slice({x}h, zero, half, last)  {x}b = Slice({x}h, half, end, last)
  {x}n = Neg({x}b)  {x}m = Concat<axis = -1>({x}n, {x}a)
  {x}1 = Mul({x}h, cosine)  {x}2 = Mul({x}m, sine)  {x}r = Add({x}1, {x}2)
"""
ATTENDED = """
  v_p = MatMul({source}, wv)  vs = Reshape(v_p, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  kt = Transpose<perm = [0, 1, 3, 2]>(kr)  s = MatMul(qr, kt)  d = Div(s, eight)  p = Softmax<axis = -1>(d)
  o = MatMul(p, vh)  ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  {target} = MatMul(om, wo)
"""


def layer_of(source: str, target: str, mark: str) -> str:
    """One layer; `mark` tells its values from those of another."""
    text = "".join(PROJECTED.format(x=x, source=source) + ROTATED.format(x=x) for x in "qk")
    text += ATTENDED.format(source=source, target=target)
    words = "q k q_p k_p v_p qs ks vs qh kh vh qa ka qb kb qn kn qm km kt q1 k1 q2 k2 qr kr s d p o ot om"
    return re.sub(rf"\b({'|'.join(words.split())})\b", rf"\1{mark}", text)


def model_of(body: str, heads: int = 4, size: int = 8, outputs: str = "") -> ModelProto:
    width = heads * size
    ends = ENDS.format(half=size // 2, size=size, heads=heads, width=width)
    text = f"g (float[n,72,{width}] x) => (float[n,72,{width}] y{outputs}) <float eight = {{8.0}}> {{ {ends} {body} }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    generator = np.random.default_rng(0)
    shapes = {f"w{x}": (width, width) for x in "qkvo"} | {f"b{x}": (width,) for x in "qk"}
    shapes["freq"] = (1, TOKENS, size // 2)
    for name, shape in shapes.items():
        values = generator.standard_normal(shape) / (np.sqrt(width) if len(shape) == 2 else 1)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return prepare(model)


def fused_of(model: ModelProto) -> ModelProto:
    """The fused model, its answers held against the model's own."""
    width = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    found = fuse(model, {"x": (2, TOKENS, width)})
    assert found is not None
    onnx.checker.check_model(found.model, full_check=True)
    feeds = {"x": np.random.default_rng(1).standard_normal((3, TOKENS, width)).astype(np.float32)}
    sessions = [open_session(each, provider=CPU, optimize="disabled") for each in (model, found.model)]
    expected, answers = (run(session, feeds) for session in sessions)
    for name, values in expected.items():
        # As a whole: of so many sums in float32 one or another is off by more than its share, on one CPU or another.
        assert np.linalg.norm(answers[name] - values) <= 5e-6 * np.linalg.norm(values), name
    return found.model


def rotaries(model: ModelProto) -> Iterator[tuple[int, int]]:
    """Whether pairs are adjacent and how many heads there are, for every rotary embedding."""
    for node in model.graph.node:
        if node.op_type == "RotaryEmbedding":
            said = {each.name: each.i for each in node.attribute}
            yield said.get("interleaved", 0), said["num_heads"]


def nodes_of(model: ModelProto, kind: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


@pytest.mark.parametrize(
    ("heads", "size", "expected"),
    [(4, 8, (1, 1)), (8, 16, (1, 2)), (6, 8, (1, 3)), (2, 512, (1, 1)), (4, 512, (1, 2)), (3, 8, (0, 3))],
)
def test_heads_are_turned_as_one(heads, size, expected):
    found = fused_of(model_of(layer_of("x", "y", ""), heads, size))
    assert list(rotaries(found)) == [expected] * 2
    assert len(nodes_of(found, "MultiHeadAttention")) == 1


def test_projections_without_a_bias_are_turned_too():
    body = layer_of("x", "y", "").replace("Add(q_p, bq)", "Identity(q_p)").replace("Add(k_p, bk)", "Identity(k_p)")
    assert list(rotaries(fused_of(model_of(body)))) == [(1, 1)] * 2


def test_rows_of_a_turned_weight_change_places():
    gemm = """
      rows = Constant<value_ints = [-1, 32]>()  flat = Reshape(x, rows)  q_p = Gemm<transB = 1>(flat, wq, bq)
      back = Constant<value_ints = [-1, 72, 32]>()  q = Reshape(q_p, back)
    """
    body = layer_of("x", "y", "").replace("q_p = MatMul(x, wq)  q = Add(q_p, bq)", gemm)
    found = fused_of(model_of(body))
    assert list(rotaries(found)) == [(1, 1)] * 2
    assert len(nodes_of(found, "FusedMatMul")) == 1


def test_values_of_unknown_shape_are_left_alone():
    body = layer_of("x", "y", "").replace("MatMul(x, wq)", "com.microsoft.FusedMatMul<transB = 1>(x, wq)")
    assert fuse(model_of(body), {"x": (2, TOKENS, 32)}) is None


def test_halves_may_be_split_and_tables_large_constants():
    body = layer_of("x", "y", "").replace("qa = Slice(qh, zero, half, last)", "qa, qb = Split<axis = 3>(qh)")
    body = body.replace("qb = Slice(qh, half, end, last)", "")
    model = model_of(body)
    angle = np.random.default_rng(3).standard_normal((1, TOKENS, 4)).repeat(4, 1)[:, :TOKENS].astype(np.float32)
    tables = {"cosine": np.cos(angle), "sine": np.sin(angle)}
    kept = [node for node in model.graph.node if node.output[0] not in tables]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    for name, table in tables.items():
        model.graph.initializer.append(numpy_helper.from_array(np.concatenate((table, table), -1)[:, None], name))
    assert list(rotaries(fused_of(prepare(model)))) == [(1, 1)] * 2


def test_layers_share_weights_and_tables():
    found = fused_of(model_of(layer_of("x", "z", "") + layer_of("z", "y", "_second")))
    assert list(rotaries(found)) == [(1, 1)] * 4
    assert len([node for node in nodes_of(found, "Concat") if len(node.input) == 4]) == 2


@pytest.mark.parametrize("seen", ["k", "q_p", "kr", "qh"])
def test_what_somebody_else_sees_keeps_its_order(seen):
    dims = {"kr": "n,4,72,8", "qh": "n,4,72,8"}.get(seen, "n,72,32")
    found = fused_of(model_of(layer_of("x", "y", ""), outputs=f", float[{dims}] {seen}"))
    assert list(rotaries(found)) == [(0, 4)] * 2


def test_a_key_that_no_projection_makes_keeps_both_as_they_are():
    body = layer_of("x", "y", "").replace("k = Add(k_p, bk)", "k = Sigmoid(k_p)")
    assert list(rotaries(fused_of(model_of(body)))) == [(0, 4)] * 2


def test_a_query_and_key_of_different_kinds_of_heads_stay():
    text = """g (float[2,72,32] x, float[2,72,32] v, float[72,4] c, float[72,4] s, float[72,8] c2, float[72,8] s2,
        int64[1] at) => (float[2,72,32] y) {
        p = MatMul(x, wq)  q = com.microsoft.RotaryEmbedding<num_heads = 4>(p, at, c, s)
        r = MatMul(x, wk)  k = com.microsoft.RotaryEmbedding<num_heads = 2>(r, at, c2, s2)
        y = com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v) }"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    zeros = np.zeros((32, 32), np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(zeros, name) for name in ("wq", "wk"))
    net = read(model, dict.fromkeys(("p", "r"), (2, 72, 32)), {})
    assert not fuse_rotary_groups(net).nodes


def test_adjacent_pairs_only_come_into_groups():
    text = """g (float[2,72,32] x, float[72,4] c, float[72,4] s, int64[1] at) => (float[2,72,32] y) {
        y = com.microsoft.RotaryEmbedding<num_heads = 4, interleaved = 1>(x, at, c, s) }"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    found = fuse_rotary_groups(read(model, {"x": (2, 72, 32)}, {}))
    assert [node.op_type for node in found.nodes] == ["Concat", "Concat", "RotaryEmbedding"]
    assert not found.merged


def test_halves_come_side_by_side():
    values = np.arange(8)[None] + np.array([[0], [100]])
    paired = Paired("w", heads=2, axis=1).array({"w": values})
    np.testing.assert_array_equal(paired[0], [0, 2, 1, 3, 4, 6, 5, 7])
    np.testing.assert_array_equal(Paired("w", heads=2, axis=0).array({"w": values.T}), paired.T)
