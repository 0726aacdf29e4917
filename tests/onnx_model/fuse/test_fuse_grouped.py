"""Grouped-query attention: heads of keys and values that several query heads share, as exporters write it."""

from collections import Counter

import pytest

from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPE = (2, 72, 32)  # four heads of eight, two of keys and values
SPLIT = """
  four = Constant<value_ints = [0, 0, 4, 8]>()  two = Constant<value_ints = [0, 0, 2, 8]>()
  whole = Constant<value_ints = [0, 0, 32]>()  qs = Reshape(q, four)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, two)  kh = Transpose<perm = [0, 2, 1, 3]>(ks)
  vs = Reshape(v, two)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
"""
APART = "q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)"
TOGETHER = "a = MatMul(x, wa)  q, k, v = Split<axis = 2>(a, parts)"
REPEAT = """
  axis = Constant<value_ints = [2]>()  times = Constant<value_ints = [1, 1, 2, 1, 1]>()
  all = Constant<value_ints = [-1, 4, 72, 8]>()
  ku = Unsqueeze(kh, axis)  ke = Expand(ku, times)  kr = Reshape(ke, all)
  vu = Unsqueeze(vh, axis)  ve = Expand(vu, times)  vr = Reshape(ve, all)
"""
ATTEND = """
  kt = Transpose<perm = [0, 1, 3, 2]>(kr)  s = MatMul(qh, kt)  d = Div(s, eight)
  p = Softmax<axis = -1>(d)  o = MatMul(p, vr)
  ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  y = MatMul(om, wo)
"""
MASKED = ATTEND.replace("Softmax<axis = -1>(d)", "Softmax<axis = -1>(m)").replace("p = ", "m = Add(d, mask)  p = ")
WEIGHTS = {"wq": (32, 32), "wk": (32, 16), "wv": (32, 16), "wo": (32, 32)}


def fused_of(
    body: str, inputs: str = "", weights: dict[str, tuple[int, ...]] = WEIGHTS, **shapes: tuple[int, ...]
) -> Counter[str]:
    """Operators of the fused model, its answers held against the model's own."""
    text = f"""g (float[n,72,32] x{inputs}) => (float[n,72,32] y)
        <float eight = {{8.0}}, int64[3] parts = {{32, 16, 16}}> {{ {body} }}"""
    return counts_of(model_of(text, weights), {"x": SHAPE, **shapes})


def test_heads_of_a_group_share_keys_and_values():
    found = fused_of(APART + SPLIT + REPEAT + ATTEND)
    assert (found["MultiHeadAttention"], found["Expand"], found["MatMul"]) == (1, 2, 4)
    assert not found["Softmax"] + found["Transpose"]


def test_a_mask_on_grouped_heads_is_kept():
    found = fused_of(APART + SPLIT + REPEAT + MASKED, ", float[n,1,72,72] mask", mask=(2, 1, 72, 72))
    assert (found["MultiHeadAttention"], found["Softmax"]) == (1, 0)


def test_grouped_heads_of_one_projection_are_cut_out():
    found = fused_of(TOGETHER + SPLIT + REPEAT + ATTEND, weights={"wa": (32, 64), "wo": (32, 32)})
    assert (found["MultiHeadAttention"], found["Slice"], found["MatMul"]) == (1, 3, 2)


def test_grouped_heads_at_the_thirds_of_one_projection_are_no_packed_ones():
    """The rest of the second and the third third is nobody's."""
    parts = "q, k, m, v, n = Split<axis = 2>(a, fifths)"
    body = f"a = MatMul(x, wa)  {parts}" + SPLIT + REPEAT + ATTEND
    text = f"""g (float[n,72,32] x) => (float[n,72,32] y)
        <float eight = {{8.0}}, int64[5] fifths = {{32, 16, 16, 16, 16}}> {{ {body} }}"""
    found = counts_of(model_of(text, {"wa": (32, 96), "wo": (32, 32)}), {"x": SHAPE})
    assert (found["MultiHeadAttention"], found["Attention"], found["Expand"]) == (1, 0, 2)


def test_one_head_for_all_is_a_group_too():
    body = SPLIT.replace("[0, 0, 2, 8]", "[0, 0, 1, 8]") + REPEAT.replace("[1, 1, 2, 1, 1]", "[1, 1, 4, 1, 1]") + ATTEND
    found = fused_of(APART + body, weights={**WEIGHTS, "wk": (32, 8), "wv": (32, 8)})
    assert (found["MultiHeadAttention"], found["Softmax"]) == (1, 0)


def normalized(heads: str) -> str:
    """`<heads>g`: the heads' values by their root mean square, of `<heads>s`."""
    return """
      {x}_p = Pow({x}s, exponent)  {x}_m = ReduceMean<axes = [-1], keepdims = 1>({x}_p)  {x}_e = Add({x}_m, little)
      {x}_r = Sqrt({x}_e)  {x}_i = Reciprocal({x}_r)  {x}_n = Mul({x}s, {x}_i)  {x}g = Mul(scale, {x}_n)
    """.replace("{x}", heads)


def test_heads_that_are_normalized_are_attended_to_all_the_same():
    """As Qwen3's queries and keys are; their normalizations are one kernel each, though two sizes are free."""
    split = SPLIT.replace("(qs)", "(qg)").replace("(ks)", "(kg)")
    split = split.replace("qh =", f"{normalized('q')} qh =").replace("kh =", f"{normalized('k')} kh =")
    numbers = "exponent = Constant<value_float = 2.0>()  little = Constant<value_float = 0.001>()"
    body = APART + numbers + split + REPEAT.replace("[-1, 4, 72, 8]", "[0, 4, -1, 8]") + ATTEND
    text = f"g (float[n,t,32] x) => (float[n,t,32] y) <float eight = {{8.0}}> {{ {body} }}"
    found = counts_of(model_of(text, {**WEIGHTS, "scale": (8,)}), {"x": SHAPE})
    assert (found["MultiHeadAttention"], found["SkipSimplifiedLayerNormalization"]) == (1, 2)
    assert not found["Pow"] + found["Softmax"]


def test_heads_cut_out_of_one_projection_are_turned():
    """As Phi-3's are: rotary embeddings of parts of a product's rows."""
    turn = """
      angle = Concat<axis = -1>(freq, freq)  c0 = Cos(angle)  s0 = Sin(angle)  one = Constant<value_ints = [1]>()
      cosine = Unsqueeze(c0, one)  sine = Unsqueeze(s0, one)  ends = Constant<value_ints = [4, 4]>()
      qa, qb = Split<axis = 3>(qh, ends)  qn = Neg(qb)  qr = Concat<axis = -1>(qn, qa)
      q2 = Mul(qh, cosine)  q3 = Mul(qr, sine)  q4 = Add(q2, q3)
      ka, kb = Split<axis = 3>(kh, ends)  kn = Neg(kb)  kc = Concat<axis = -1>(kn, ka)
      k2 = Mul(kh, cosine)  k3 = Mul(kc, sine)  k4 = Add(k2, k3)
    """
    repeat, attend = (
        REPEAT.replace("Unsqueeze(kh,", "Unsqueeze(k4,"),
        ATTEND.replace("MatMul(qh, kt)", "MatMul(q4, kt)"),
    )
    weights = {"wa": (32, 64), "wo": (32, 32), "freq": (1, 72, 4)}
    found = fused_of(TOGETHER + SPLIT + turn + repeat + attend, weights=weights)
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"], found["Neg"]) == (1, 2, 0)


@pytest.mark.parametrize(
    "repeat",
    [
        REPEAT.replace("[2]>", "[1]>").replace("[1, 1, 2, 1, 1]", "[1, 2, 1, 1, 1]"),
        REPEAT.replace("ke = Expand(ku, times)", "kx = Expand(ku, times)  ke = Relu(kx)"),
    ],
    ids=["heads in turn", "worked on"],
)
def test_other_repetitions_stay(repeat: str):
    """Where heads of a group are no neighbours, or something else is attended to than what was repeated."""
    assert not fused_of(APART + SPLIT + repeat + ATTEND)["MultiHeadAttention"]


SHARED = """
  a = MatMul(x, wa)  six = Constant<value_ints = [0, 0, 6, 8]>()  h = Reshape(a, six)
  whole = Constant<value_ints = [0, 0, 32]>()
  nought = Constant<value_ints = [0]>()  four = Constant<value_ints = [4]>()  axis = Constant<value_ints = [2]>()
  last = Constant<value_ints = [-1]>()  second = Constant<value_ints = [-2]>()  at = Unsqueeze(last, nought)
  before = Unsqueeze(second, nought)  qs = Slice(h, nought, four, axis)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  first = Transpose<perm = [2, 0, 1, 3]>(h)  kg = GatherND(first, before)  vg = GatherND(first, at)
  kr = Transpose<perm = [1, 0, 2, 3]>(kg)  vr = Transpose<perm = [1, 0, 2, 3]>(vg)
"""


def test_one_head_that_products_broadcast_is_one_for_all():
    """As Falcon's are: the last two heads of one projection are every query head's key and value."""
    found = fused_of(SHARED + ATTEND, weights={"wa": (32, 48), "wo": (32, 32)})
    assert (found["MultiHeadAttention"], found["Expand"], found["MatMul"]) == (1, 2, 2)
    assert not found["Softmax"] + found["Transpose"] + found["GatherND"]


def test_heads_picked_together_are_no_one_head():
    both = "pair = Concat<axis = 0>(before, at)  kg0 = GatherND(first, pair)  kg = Slice(kg0, nought, four, nought)"
    body = SHARED.replace("kg = GatherND(first, before)", both).replace("(kg)", "(kf)")
    body = body.replace("kr =", "one0 = Constant<value_ints = [1]>()  kf = Slice(kg0, nought, one0, nought)  kr =")
    assert not fused_of(body + ATTEND, weights={"wa": (32, 48), "wo": (32, 32)})["MultiHeadAttention"]
