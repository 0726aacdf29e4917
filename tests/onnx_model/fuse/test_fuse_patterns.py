"""Fused graphs give the float32 answers of the graphs they were made from, whichever way an exporter wrote those."""

from collections import Counter

import pytest
from onnx import ModelProto

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

BATCH, TOKENS, HEADS, SIZE = 2, 72, 4, 8
WIDTH = HEADS * SIZE
SHAPE = (BATCH, TOKENS, WIDTH)


def fused_of(model: ModelProto, shapes: dict[str, tuple[int, ...]] | None = None) -> Counter[str]:
    """Operators of the fused model, its answers held against the model's own."""
    return counts_of(model, shapes or {"x": SHAPE})


PROJECTIONS = """
  a = MatMul(x, wq)  q = Add(a, bq)  b = MatMul(x, wk)  k = Add(b, bk)  c = MatMul(x, wv)  v = Add(c, bv)
  split = Constant<value_ints = [0, 0, 4, 8]>()  whole = Constant<value_ints = [0, 0, 32]>()
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, split)  vs = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
"""
WEIGHTS = (
    {f"w{each}": (WIDTH, WIDTH) for each in "qkv"} | {f"b{each}": (WIDTH,) for each in "qkv"} | {"wo": (WIDTH, WIDTH)}
)
MERGE = "ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  y = MatMul(om, wo)"


def graph_of(body: str, inputs: str = "float[n,72,32] x") -> str:
    return f"g ({inputs}) => (float[n,72,32] y) <float eight = {{8.0}}, float root = {{0.6}}> {{ {body} }}"


TORCHSCRIPT = """
  kt = Transpose<perm = [0, 2, 3, 1]>(ks)  s = MatMul(qh, kt)  d = Div(s, eight)
  p = Softmax<axis = -1>(d)  o = MatMul(p, vh)
"""
DYNAMO = """
  kh = Transpose<perm = [0, 2, 1, 3]>(ks)  three = Constant<value_ints = [-1, 72, 8]>()  k3 = Reshape(kh, three)
  k3t = Transpose<perm = [0, 2, 1]>(k3)  four = Constant<value_ints = [-1, 4, 8, 72]>()  kt = Reshape(k3t, four)
  q1 = Mul(qh, root)  k1 = Mul(kt, root)  s = MatMul(q1, k1)  p0 = Softmax<axis = -1>(s)
  nan = IsNaN(p0)  zero = Constant<value_float = 0.0>()  p = Where(nan, zero, p0)  o = MatMul(p, vh)
"""


@pytest.mark.parametrize("spelling", [TORCHSCRIPT, DYNAMO], ids=["torchscript", "dynamo"])
def test_attention_with_projections_becomes_one_operator(spelling):
    found = fused_of(model_of(graph_of(PROJECTIONS + spelling + MERGE), WEIGHTS))
    assert found["Attention"] == 1
    assert found["MatMul"] == 1  # the last projection
    assert not found["Softmax"] + found["Transpose"]


MASKED = TORCHSCRIPT.replace("Softmax<axis = -1>(d)", "Softmax<axis = -1>(m)").replace("p = ", "m = Add(d, mask)  p = ")


@pytest.mark.parametrize(
    ("declared", "shape"),
    [
        ("n,1,72,72", (2, 1, 72, 72)),
        ("1,1,72,72", (1, 1, 72, 72)),
        ("n,4,72,72", (2, 4, 72, 72)),
        ("n,1,1,72", (2, 1, 1, 72)),
        ("72,72", (72, 72)),
    ],
)
def test_masks_of_every_shape_are_kept(declared, shape):
    inputs = f"float[n,72,32] x, float[{declared}] mask"
    found = fused_of(model_of(graph_of(PROJECTIONS + MASKED + MERGE, inputs), WEIGHTS), {"x": SHAPE, "mask": shape})
    assert found["Attention"] == 1


def test_keys_of_another_source_are_attended_to():
    body = PROJECTIONS.replace("MatMul(x, wk)", "MatMul(z, wk)").replace("MatMul(x, wv)", "MatMul(z, wv)")
    model = model_of(graph_of(body + TORCHSCRIPT + MERGE, "float[n,72,32] x, float[n,80,32] z"), WEIGHTS)
    found = fused_of(model, {"x": SHAPE, "z": (BATCH, 80, WIDTH)})
    assert found["MultiHeadAttention"] == 1


TOKENS_FIRST = """
  t = Transpose<perm = [1, 0, 2]>(x)  pm = MatMul(t, w)  pb = Add(pm, b)
  shape = Constant<value_ints = [72, -1, 3, 32]>()  packed = Reshape(pb, shape)
  axis = Constant<value_ints = [0]>()  un = Unsqueeze(packed, axis)  turned = Transpose<perm = [3, 1, 2, 0, 4]>(un)
  minus2 = Constant<value_ints = [3]>()  sq = Squeeze(turned, minus2)
  i0 = Constant<value_int = 0>()  i1 = Constant<value_int = 1>()  i2 = Constant<value_int = 2>()
  q0 = Gather<axis = 0>(sq, i0)  k0 = Gather<axis = 0>(sq, i1)  v0 = Gather<axis = 0>(sq, i2)
  folded = Constant<value_ints = [72, -1, 8]>()
  q1 = Reshape(q0, folded)  k1 = Reshape(k0, folded)  v1 = Reshape(v0, folded)
  qh = Transpose<perm = [1, 0, 2]>(q1)  kt = Transpose<perm = [1, 2, 0]>(k1)  vh = Transpose<perm = [1, 0, 2]>(v1)
  s0 = MatMul(qh, kt)  s = Mul(s0, root)  p = Softmax<axis = -1>(s)  o = MatMul(p, vh)
  ot = Transpose<perm = [1, 0, 2]>(o)  rows = Constant<value_ints = [-1, 32]>()  flat = Reshape(ot, rows)
  out = Gemm<transB = 1>(flat, wo, bo)  back = Constant<value_ints = [72, -1, 32]>()  r = Reshape(out, back)
  y = Transpose<perm = [1, 0, 2]>(r)
"""


def test_tokens_first_and_packed_projections_need_no_transpose():
    weights = {"w": (WIDTH, 3 * WIDTH), "b": (3 * WIDTH,), "wo": (WIDTH, WIDTH), "bo": (WIDTH,)}
    text = graph_of(TOKENS_FIRST).replace("y = Transpose", "z = Transpose").replace("(r)", "(r)  y = Relu(z)")
    found = fused_of(model_of(text, weights))
    assert found["Attention"] == 1
    assert found["FusedMatMul"] == 1
    assert not found["Transpose"] + found["Gemm"]


@pytest.mark.parametrize(
    "body",
    [
        TORCHSCRIPT.replace("axis = -1>(d)", "axis = 2>(d)"),
        TORCHSCRIPT.replace("Transpose<perm = [0, 2, 3, 1]>(ks)", "Transpose<perm = [0, 2, 3, 1]>(vs)").replace(
            "MatMul(p, vh)", "MatMul(d, vh)"
        ),
    ],
    ids=["softmax over queries", "no softmax"],
)
def test_what_is_no_attention_stays(body):
    found = fused_of(model_of(graph_of(PROJECTIONS + body + MERGE), WEIGHTS))
    assert not found["Attention"] + found["MultiHeadAttention"]


@pytest.mark.parametrize(
    ("batch", "tokens", "fused"), [(2, 49, True), (2, 9, True), (2, 3, False), (300, 49, False), (300, 72, True)]
)
def test_few_tokens_are_fused_where_launches_take_the_time(batch, tokens, fused):
    text = graph_of(PROJECTIONS + TORCHSCRIPT + MERGE).replace("72", str(tokens))
    found = fused_of(model_of(text, WEIGHTS), {"x": (batch, tokens, WIDTH)})
    assert found["Attention"] == fused


def test_weights_that_are_an_output_stay_right():
    text = graph_of(PROJECTIONS + TORCHSCRIPT + MERGE).replace(
        "float[n,72,32] y)", "float[n,72,32] y, float[n,4,72,72] p)"
    )
    fused_of(model_of(text, WEIGHTS))


def test_before_opset_13_a_softmax_that_names_no_axis_is_another():
    text = graph_of(PROJECTIONS + TORCHSCRIPT + MERGE).replace("Softmax<axis = -1>", "Softmax")
    assert not fused_of(model_of(text, WEIGHTS, opset=12))["Attention"]
    assert fused_of(model_of(text, WEIGHTS, opset=13))["Attention"] == 1


ROTARY = """
  kh = Transpose<perm = [0, 2, 1, 3]>(ks)
  angle = Concat<axis = -1>(freq, freq)  c0 = Cos(angle)  s0 = Sin(angle)
  one = Constant<value_ints = [1]>()  cosine = Unsqueeze(c0, one)  sine = Unsqueeze(s0, one)
  zero = Constant<value_ints = [0]>()  four = Constant<value_ints = [4]>()  end = Constant<value_ints = [8]>()
  last = Constant<value_ints = [3]>()
  qa = Slice(qh, zero, four, last)  qb = Slice(qh, four, end, last)  qn = Neg(qb)  qr = Concat<axis = -1>(qn, qa)
  q2 = Mul(qh, cosine)  q3 = Mul(qr, sine)  q4 = Add(q2, q3)
  ka = Slice(kh, zero, four, last)  kb = Slice(kh, four, end, last)  kn = Neg(kb)  kr = Concat<axis = -1>(kn, ka)
  k2 = Mul(kh, cosine)  k3 = Mul(kr, sine)  k4 = Add(k2, k3)
  kt = Transpose<perm = [0, 1, 3, 2]>(k4)  s = MatMul(q4, kt)  d = Div(s, eight)
  p = Softmax<axis = -1>(d)  o = MatMul(p, vh)
"""


def test_rotary_embeddings_are_one_operator_each():
    found = fused_of(model_of(graph_of(PROJECTIONS + ROTARY + MERGE), WEIGHTS | {"freq": (1, TOKENS, SIZE // 2)}))
    assert (found["RotaryEmbedding"], found["MultiHeadAttention"]) == (2, 1)
    assert not found["Neg"]


GELU = {
    "last": "d = Div(t, r2)  e = Erf(d)  f = Add(e, one)  m = Mul(t, f)  u = Mul(m, half)",
    "first": "d = Mul(t, s2)  e = Erf(d)  f = Add(one, e)  h = Mul(t, half)  u = Mul(h, f)",
    "between": "d = Div(t, r2)  e = Erf(d)  f = Add(e, one)  m = Mul(f, half)  u = Mul(m, t)",
}
NUMBERS = "<float r2 = {1.4142135}, float s2 = {0.70710677}, float one = {1.0}, float half = {0.5}>"


@pytest.mark.parametrize("spelling", GELU.values(), ids=GELU)
def test_gelu_takes_the_bias_before_it(spelling):
    body = f"a = MatMul(x, w)  t = Add(a, b)  {spelling}  y = MatMul(u, w)"
    text = f"g (float[n,72,32] x) => (float[n,72,32] y) {NUMBERS} {{ {body} }}"
    found = fused_of(model_of(text, {"w": (WIDTH, WIDTH), "b": (WIDTH,)}))
    assert found == {"MatMul": 2, "BiasGelu": 1}


def test_three_halves_are_no_gelu():
    text = GELU["last"].replace("half)", "one)")
    text = f"g (float[n,72,32] x) => (float[n,72,32] y) {NUMBERS} {{ t = MatMul(x, w)  {text}  y = MatMul(u, w) }}"
    assert not fused_of(model_of(text, {"w": (WIDTH, WIDTH)}))


NORM = {"layer": "l = LayerNormalization<epsilon = 0.00001>(t, g, h)"} | {
    name: f"two = Constant<value_float = 2.0>()  q = Pow(t, two)  mean = ReduceMean<axes = [-1]>(q)  "
    f"v = Add(mean, small)  r = Sqrt(v)  {division}  l = Mul(g, i)"
    for name, division in (
        ("rms by reciprocal", "c = Reciprocal(r)  i = Mul(t, c)"),
        ("rms by division", "i = Div(t, r)"),
        ("rms by one over", "one = Constant<value_float = 1.0>()  c = Div(one, r)  i = Mul(t, c)"),
    )
}


@pytest.mark.parametrize("norm", NORM.values(), ids=NORM)
@pytest.mark.parametrize("more", ["", ", float[n,72,32] t"], ids=["sum used", "sum is an output"])
def test_a_sum_joins_its_normalization(norm, more):
    text = f"""g (float[n,72,32] x) => (float[n,72,32] y{more}) <float small = {{0.00001}}> {{
        a = MatMul(x, w)  b = Add(a, bias)  t = Add(x, b)  {norm}  z = MatMul(l, w)  y = Add(t, z) }}"""
    weights = {"w": (WIDTH, WIDTH), "bias": (WIDTH,), "g": (WIDTH,), "h": (WIDTH,)}
    found = fused_of(model_of(text, weights))
    assert found["SkipLayerNormalization"] + found["SkipSimplifiedLayerNormalization"] == 1
    assert found["Add"] == 1


def test_a_sum_with_one_row_of_tokens_for_the_batch_joins_its_normalization():
    text = """g (float[n,72,32] x) => (float[n,72,32] y) {
        t = Add(x, p)  l = LayerNormalization(t, g, h)  y = MatMul(l, w) }"""
    weights = {"w": (WIDTH, WIDTH), "p": (1, TOKENS, WIDTH), "g": (WIDTH,), "h": (WIDTH,)}
    for batch in (1, 2):
        assert fused_of(model_of(text, weights), {"x": (batch, TOKENS, WIDTH)}) == {
            "SkipLayerNormalization": 1,
            "MatMul": 1,
        }


def test_overridable_weights_are_no_constants():
    text = graph_of(PROJECTIONS + TORCHSCRIPT + MERGE, "float[n,72,32] x, float[32,32] wq")
    found = fuse(model_of(text, WEIGHTS), {"x": SHAPE, "wq": (WIDTH, WIDTH)})
    assert found is None or "Attention" not in found.counts


def test_what_follows_from_a_modelled_size_alone_is_no_pattern():
    text = """g (float[n,m,32] x) => (float[n,m,32] y) {
        shape = Constant<value_ints = [-1, 72, 32]>()  z = Reshape(x, shape)  t = Add(z, x)
        l = LayerNormalization(t, g, h)  y = MatMul(l, w) }"""
    model = model_of(text, {"w": (WIDTH, WIDTH), "g": (WIDTH,), "h": (WIDTH,)})
    found = fuse(model, {"x": SHAPE})
    assert found is None or any(node.op_type == "Reshape" for node in found.model.graph.node)


def test_constants_that_the_model_computes_are_merged_too():
    body = PROJECTIONS.replace("q = Add(a, bq)", "b2 = Add(bq, bk)  q = Add(a, b2)")
    found = fused_of(model_of(graph_of(body + TORCHSCRIPT + MERGE), WEIGHTS))
    assert found["Attention"] == 1


def test_a_row_of_more_axes_than_the_base_stays():
    text = f"""g (float[6,32] x) => (float[6,32] y) {NUMBERS} {{
        deep = Constant<value_ints = [2, 3, 32]>()  flat = Constant<value_ints = [6, 32]>()
        a = Reshape(x, deep)  b = Add(a, row)  c = Reshape(b, flat)  t = MatMul(c, w)  {GELU["last"]}  y = Relu(u) }}"""
    found = fused_of(model_of(text, {"w": (WIDTH, WIDTH), "row": (1, 1, WIDTH)}), {"x": (6, WIDTH)})
    assert found["Gelu"] == 1


def test_a_factor_on_the_values_is_kept():
    body = PROJECTIONS.replace("v = Add(c, bv)", "v0 = Add(c, bv)  v = Mul(v0, root)")
    fused_of(model_of(graph_of(body + TORCHSCRIPT + MERGE), WEIGHTS))


def test_a_factor_after_the_mask_is_kept():
    body = TORCHSCRIPT.replace("d = Div(s, eight)", "e = Add(s, mask)  d = Div(e, eight)")
    inputs = "float[n,72,32] x, float[1,1,72,72] mask"
    shapes = {"x": SHAPE, "mask": (1, 1, TOKENS, TOKENS)}
    fused_of(model_of(graph_of(PROJECTIONS + body + MERGE, inputs), WEIGHTS), shapes)


def test_transposed_weights_and_copies_hide_no_attention():
    """As torch.onnx writes linear layers, and dropout in evaluation, when it does not optimize."""
    projections = PROJECTIONS
    for each in "qkv":
        projections = projections.replace(f"w{each})", f"t{each})")
    turned = " ".join(f"t{each} = Transpose<perm = [1, 0]>(w{each})" for each in "qkv")
    spelt = TORCHSCRIPT.replace("o = MatMul(p, vh)", "pc = Identity(p)  o = MatMul(pc, vh)")
    found = fused_of(model_of(graph_of(turned + projections + spelt + MERGE), WEIGHTS))
    assert found["Attention"] == 1
    assert not found["Transpose"] + found["Identity"]


def test_a_model_is_fused_at_the_most_positions_it_has():
    """As BERT is: no more tokens can be modelled, and at that many the slice of its table leaves out nothing."""
    positions = """
      tokens = Shape<start = 1, end = 2>(x0)  zero = Constant<value_ints = [0]>()  one = Constant<value_ints = [1]>()
      some = Slice(places, zero, tokens, one)  rows = Gather<axis = 0>(table, some)
      placed = Add(x0, rows)  x = LayerNormalization(placed, scale, shift)
    """
    text = graph_of(positions + PROJECTIONS + TORCHSCRIPT + MERGE, "float[n,72,32] x0").replace("n,72,32", "n,t,32")
    places = ", ".join(map(str, range(TOKENS)))
    text = text.replace("<float eight", f"<int64[1,72] places = {{{places}}}, float eight", 1)
    model = model_of(text, {**WEIGHTS, "table": (TOKENS, WIDTH), "scale": (WIDTH,), "shift": (WIDTH,)})
    for tokens in (TOKENS, TOKENS - 8):
        found = fused_of(model, {"x0": (BATCH, tokens, WIDTH)})
        assert (found["Attention"], found["SkipLayerNormalization"]) == (1, 1)
