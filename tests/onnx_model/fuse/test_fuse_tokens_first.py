"""Attention in models that have tokens before sequences, as torch's own modules do without `batch_first`."""

from collections import Counter

import pytest

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

X, MEMORY = (72, 2, 32), (80, 2, 32)  # tokens, sequences; four heads of eight
CONSTANTS = """
  <float root = {8.0}, int64[1] last = {-1}, int64[1] front = {0}, int64[1] behind = {-2}>
"""
# nn.MultiheadAttention: one projection, its thirds moved to the front, heads and sequences in one axis for a moment
THIRDS = """
  pm = MatMul(x, w)  p = Add(pm, b)  three = Constant<value_ints = [0, 0, 3, 32]>()  ps = Reshape(p, three)
  pu = Unsqueeze(ps, front)  pt = Transpose<perm = [3, 1, 2, 0, 4]>(pu)  pq = Squeeze(pt, behind)
  zero = Constant<value_int = 0>()  one = Constant<value_int = 1>()  two = Constant<value_int = 2>()
  q = Gather<axis = 0>(pq, zero)  k = Gather<axis = 0>(pq, one)  v = Gather<axis = 0>(pq, two)
"""
APART = "q = MatMul(x, wq)  k = MatMul({memory}, wk)  v = MatMul({memory}, wv)"
TURNED = "eights = Constant<value_ints = [0, -1, 8]>()  " + "  ".join(
    f"{x}f = Reshape({x}, eights)  {x}t = Transpose<perm = [1, 0, 2]>({x}f)" for x in "qkv"
)
BY_HEAD = "  ".join(
    f"{x}n = Shape<start = 0, end = 1>({x})  {x}d = Concat<axis = 0>(batch, fourth, {x}n, eighth)"
    f"  {x}h = Reshape({x}t, {x}d)"
    for x in "qkv"
)
SIZES = """
  batch = Shape<start = 1, end = 2>(x)  fourth = Constant<value_ints = [4]>()  eighth = Constant<value_ints = [8]>()
"""
IN_FOUR_AXES = f"""
  {TURNED} {SIZES} {BY_HEAD}
  kk = Transpose<perm = [0, 1, 3, 2]>(kh)  s = MatMul(qh, kk)  sd = Div(s, root)  {{masked}}
  p_ = Softmax<axis = -1>({{scores}})  o = MatMul(p_, vh)
  ot = Transpose<perm = [2, 0, 1, 3]>(o)  flat = Constant<value_ints = [-1, 32]>()  om = Reshape(ot, flat)
"""
IN_THREE_AXES = f"""
  {TURNED} {SIZES} qd = Div(qt, root)
  kk = Transpose<perm = [0, 2, 1]>(kt)  s = MatMul(qd, kk)  p_ = Softmax<axis = -1>(s)  o = MatMul(p_, vt)
  ot = Transpose<perm = [1, 0, 2]>(o)  flat = Constant<value_ints = [-1, 32]>()  om = Reshape(ot, flat)
"""
SEQUENCES_FIRST = f"""
  {SIZES}  heads = Constant<value_ints = [0, 0, 4, 8]>()
  {"  ".join(f"{x}s = Reshape({x}, heads)  {x}h = Transpose<perm = [0, 2, 1, 3]>({x}s)" for x in "qkv")}
  kk = Transpose<perm = [0, 1, 3, 2]>(kh)  s = MatMul(qh, kk)  sd = Div(s, root)  {{masked}}
  p_ = Softmax<axis = -1>({{scores}})  o = MatMul(p_, vh)
  ot = Transpose<perm = [0, 2, 1, 3]>(o)  flat = Constant<value_ints = [-1, 32]>()  om = Reshape(ot, flat)
"""
OUT = """
  g = Gemm<transB = 1>(om, wo, bo)  there = Concat<axis = 0>(last, batch, wide)
  wide = Constant<value_ints = [32]>()  gr = Reshape(g, there)  y = Add(gr, x)
"""
WEIGHTS = {"w": (32, 96), "b": (96,), **{f"w{each}": (32, 32) for each in "qkvo"}, "bo": (32,)}


def fused_of(body: str, inputs: dict[str, tuple[int, ...]], dims: str = "t,n,32") -> Counter[str]:
    """Operators of the fused model, its answers held against the model's own."""
    named = ", ".join(f"float[{dims if name == 'x' else dims.replace('t', 'm')}] {name}" for name in inputs)
    text = f"g ({named}) => (float[{dims}] y) {CONSTANTS} {{ {body} {OUT} }}"
    return counts_of(model_of(text, WEIGHTS), inputs)


@pytest.mark.parametrize("dims", ["t,n,32", "72,n,32", "t,2,32", "72,2,32"])
def test_one_projection(dims: str):
    """Its input is turned, which is a third of what it makes."""
    found = fused_of(THIRDS + IN_FOUR_AXES.format(masked="", scores="sd"), {"x": X}, dims)
    assert (found["Attention"], found["Transpose"]) == (1, 2)
    assert not found["Softmax"] + found["Gather"]


@pytest.mark.parametrize("attend", [IN_FOUR_AXES.format(masked="", scores="sd"), IN_THREE_AXES], ids=["four", "three"])
def test_a_memory(attend: str):
    """Keys and values of other tokens than the queries' are turned each."""
    found = fused_of(APART.format(memory="memory") + attend, {"x": X, "memory": MEMORY})
    assert (found["MultiHeadAttention"], found["Transpose"]) == (1, 4)
    assert not found["Softmax"]


def test_a_memory_whose_sequences_have_another_name():
    """As torch.export names them without being told: reshapes hold them to the queries', and inference does not ask."""
    body = APART.format(memory="memory") + IN_FOUR_AXES.format(masked="", scores="sd")
    text = f"g (float[t,n,32] x, float[m,k,32] memory) => (float[t,n,32] y) {CONSTANTS} {{ {body} {OUT} }}"
    found = fuse(model_of(text, WEIGHTS), {"x": X, "memory": MEMORY})
    assert found is not None
    assert found.counts["MultiHeadAttention"] == 1


@pytest.mark.parametrize("attend", [IN_FOUR_AXES.format(masked="", scores="sd"), IN_THREE_AXES], ids=["four", "three"])
def test_three_projections_of_one_value(attend: str):
    found = fused_of(APART.format(memory="x") + attend, {"x": X})
    assert (found["Attention"], found["Transpose"], found["MatMul"], found["Softmax"]) == (1, 2, 0, 0)


def test_one_sequence():
    found = fused_of(THIRDS + IN_FOUR_AXES.format(masked="", scores="sd"), {"x": (72, 1, 32)}, "t,1,32")
    assert found["Attention"] == 1


@pytest.mark.parametrize("mask", [(2, 1, 72, 72), (1, 1, 72, 72), (72, 72), (2, 1, 1, 72)])
def test_a_mask(mask: tuple[int, ...]):
    body = THIRDS + IN_FOUR_AXES.format(masked="sm = Add(sd, mask)", scores="sm")
    inputs = f"float[72,2,32] x, float[{','.join(map(str, mask))}] mask"
    text = f"g ({inputs}) => (float[72,2,32] y) {CONSTANTS} {{ {body} {OUT} }}"
    found = counts_of(model_of(text, WEIGHTS), {"x": X, "mask": mask})
    assert (found["Attention"], found["Softmax"]) == (1, 0)


@pytest.mark.parametrize(
    ("attend", "swapped"), [(IN_FOUR_AXES, True), (SEQUENCES_FIRST, False)], ids=["tokens", "sequences"]
)
def test_shapes_alone_do_not_say_which_axis_is_first(attend: str, swapped: bool):
    """As many sequences as tokens: the heads' own order does."""
    body = APART.format(memory="x") + attend.format(masked="", scores="sd")
    found = fused_of(body, {"x": (72, 72, 32)}, "72,72,32")
    assert found["Attention"] + found["MultiHeadAttention"] == 1
    assert bool(found["Transpose"]) == swapped
