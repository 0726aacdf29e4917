"""Heads as exporters turn, normalize and take them apart before they are attended to."""

from collections import Counter

import numpy as np
import pytest
from onnx import numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.fuse.net import read
from ampgraph.onnx_model.fuse.recipes import Sorted
from ampgraph.onnx_model.fuse.turns import says_twice
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPE = (2, 72, 32)  # four heads of eight
NUMBERS = """
  four = Constant<value_ints = [0, 0, 4, 8]>()  whole = Constant<value_ints = [0, 0, 32]>()
  exponent = Constant<value_float = 2.0>()  little = Constant<value_float = 0.001>()
"""
HEADS = """
  q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
  qs = Reshape(q, four)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)
  ks = Reshape(k, four)  kh = Transpose<perm = [0, 2, 1, 3]>(ks)
  vs = Reshape(v, four)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
"""
ATTEND = """
  kt = Transpose<perm = [0, 1, 3, 2]>({k})  s = MatMul({q}, kt)  d = Div(s, eight)
  p = Softmax<axis = -1>(d)  o = MatMul(p, vh)
  ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  y = MatMul(om, wo)
"""
APART = {f"w{each}": (32, 32) for each in "qkvo"} | {"scale": (8,), "shift": (8,)}
MEAN_SQUARE = """
  {x}p = Pow({x}h, exponent)  {x}m = ReduceMean<axes = [-1], keepdims = 1>({x}p)  {x}e = Add({x}m, little)
  {x}r = Sqrt({x}e)  {x}i = Reciprocal({x}r)  {x}u = Mul({x}h, {x}i)  {x}n = Mul({x}u, scale)
"""
LAYER = "{x}n = LayerNormalization<axis = -1, epsilon = 0.001>({x}h, scale, shift)"


def fused_of(body: str, weights: dict[str, tuple[int, ...]], dims: str = "n,72,32") -> Counter[str]:
    """Operators of the fused model, its answers held against the model's own."""
    text = f"g (float[{dims}] x) => (float[{dims}] y) <float eight = {{8.0}}> {{ {NUMBERS} {body} }}"
    return counts_of(model_of(text, weights), {"x": SHAPE})


@pytest.mark.parametrize("dims", ["n,72,32", "n,t,32"], ids=["fixed", "free"])
@pytest.mark.parametrize(
    ("norm", "kernel"),
    [(MEAN_SQUARE, "SkipSimplifiedLayerNormalization"), (LAYER, "SkipLayerNormalization")],
    ids=["root mean square", "layer"],
)
def test_heads_that_are_normalized_after_they_are_turned(norm: str, kernel: str, dims: str):
    """As Gemma 3's queries and keys are."""
    if "t" in dims and norm is LAYER:
        kernel = "LayerNormalization"  # to find two sizes out takes as many operators as it saves
    body = HEADS + norm.replace("{x}", "q") + norm.replace("{x}", "k") + ATTEND.format(q="qn", k="kn")
    found = fused_of(body, APART, dims)
    assert (found["MultiHeadAttention"], found[kernel]) == (1, 2)
    assert not found["Transpose"] + found["Pow"] + found["Softmax"]


def test_a_normalization_over_tokens_stays_where_it_is():
    turned = "qt = Transpose<perm = [0, 1, 3, 2]>(qh)  qw = LayerNormalization<axis = -1>(qt, long)"
    body = f"{HEADS} {turned} qn = Transpose<perm = [0, 1, 3, 2]>(qw) {ATTEND.format(q='qn', k='kh')}"
    assert not fused_of(body, {**APART, "long": (72,)})["MultiHeadAttention"]


BIASED = "qn = Add({inputs})"


@pytest.mark.parametrize("inputs", ["qh, places", "places, qh"])
@pytest.mark.parametrize("places", [(1, 4, 1, 8), (4, 1, 8)], ids=["of four axes", "of three"])
def test_heads_with_a_row_for_each(inputs: str, places: tuple[int, ...]):
    """As DeBERTa's queries and values have."""
    body = HEADS + BIASED.format(inputs=inputs) + ATTEND.format(q="qn", k="kh")
    found = fused_of(body, {**APART, "places": places})
    assert (found["MultiHeadAttention"], found["Add"]) == (1, 1)
    assert not found["Transpose"] + found["Softmax"]


@pytest.mark.parametrize("places", [(1, 4, 72, 8), (1, 1, 1, 8), (1, 4, 1, 1)], ids=["of tokens", "of all", "of one"])
def test_other_rows_are_added_where_they_are(places: tuple[int, ...]):
    body = HEADS + BIASED.format(inputs="qh, places") + ATTEND.format(q="qn", k="kh")
    assert not fused_of(body, {**APART, "places": places})["MultiHeadAttention"]


TABLES = """
  angle = Concat<axis = -1>(freq, freq)  c0 = Cos(angle)  s0 = Sin(angle)
  one = Constant<value_ints = [1]>()  cosine = Unsqueeze(c0, one)  sine = Unsqueeze(s0, one)
  zero = Constant<value_ints = [0]>()  two = Constant<value_ints = [2]>()  part = Constant<value_ints = [4]>()
  end = Constant<value_ints = [8]>()  last = Constant<value_ints = [3]>()
"""
FLAT = TABLES.replace("Unsqueeze(c0, one)", "Identity(c0)").replace("Unsqueeze(s0, one)", "Identity(s0)")
TURNED = """
  {x}f = Slice({x}h, zero, part, last)  {x}g = Slice({x}h, part, end, last)
  {x}a = Slice({x}f, zero, two, last)  {x}b = Slice({x}f, two, part, last)
  {x}m = Neg({x}b)  {x}c = Concat<axis = -1>({x}m, {x}a)
  {x}1 = Mul({x}f, cosine)  {x}2 = Mul({x}c, sine)  {x}r = Add({x}1, {x}2)  {x}n = Concat<axis = -1>({x}r, {x}g)
"""
WHOLE = """
  {x}a = Slice({x}h, zero, part, last)  {x}b = Slice({x}h, part, end, last)  {x}m = Neg({x}b)
  {x}c = Concat<axis = -1>({x}m, {x}a)  {x}1 = Mul({x}h, cosine)  {x}2 = Mul({x}c, sine)  {x}n = Add({x}1, {x}2)
"""
HALVES = WHOLE.replace("{x}", "q") + WHOLE.replace("{x}", "k")
TURN = TURNED.replace("{x}", "q") + TURNED.replace("{x}", "k")


def test_heads_of_which_a_part_is_turned():
    """As Phi's are: half of each head has a position, the rest none."""
    found = fused_of(HEADS + TABLES + TURN + ATTEND.format(q="qn", k="kn"), {**APART, "freq": (1, 72, 2)})
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"]) == (1, 2)
    assert not found["Neg"] + found["Transpose"] + found["Softmax"]


@pytest.mark.parametrize("change", ["Mul(q0, number)", "Mul(number, q0)", "Add(q0, number)"])
def test_heads_that_a_number_changes_before_they_are_turned_by_angles(change: str):
    """As ESM scales its queries."""
    heads = HEADS.replace("qh = Transpose", "q0 = Transpose") + f"number = Constant<value_float = 0.35>() qh = {change}"
    found = fused_of(heads + TABLES + TURN + ATTEND.format(q="qn", k="kn"), {**APART, "freq": (1, 72, 2)})
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"]) == (1, 2)
    assert not found["Neg"] + found["Transpose"] + found["Softmax"]


@pytest.mark.parametrize(
    "changed",
    [
        TURN.replace("Concat<axis = -1>(qr, qg)", "Concat<axis = -1>(qg, qr)"),
        TURN.replace("Concat<axis = -1>(qr, qg)", "Concat<axis = -1>(qr, qf)"),
        TURN.replace("qg = Slice(qh,", "qg = Slice(kh,"),
    ],
    ids=["in another order", "the same part twice", "of another value"],
)
def test_parts_that_are_not_put_back_in_place_are_no_turned_heads(changed: str):
    body = HEADS + TABLES + changed + ATTEND.format(q="qn", k="kn")
    assert fused_of(body, {**APART, "freq": (1, 72, 2)})["RotaryEmbedding"] < 2


PAIRS = """
  {x}a = Slice({x}h, zero, many, last, two)  {x}b = Slice({x}h, one, many, last, two)  {x}m = Neg({x}b)
  {x}u = Unsqueeze({x}m, behind)  {x}v = Unsqueeze({x}a, behind)  {x}c = Concat<axis = -1>({x}u, {x}v)
  {x}w = Reshape({x}c, heads)  {x}1 = Mul({x}h, cosine)  {x}2 = Mul({x}w, sine)  {x}n = Add({x}1, {x}2)
"""
NEIGHBOURS = PAIRS.replace("{x}", "q") + PAIRS.replace("{x}", "k")
DOUBLED = """
  behind = Constant<value_ints = [-1]>()  many = Constant<value_ints = [1000]>()
  heads = Constant<value_ints = [0, 4, 72, 8]>()  pair = Constant<value_ints = [1, 1, 1, 2]>()
  flat = Constant<value_ints = [1, 72, 8]>()
  f1 = Unsqueeze(freq, behind)  f2 = Expand(f1, pair)  f3 = Reshape(f2, flat)
"""
TABLES_OF_PAIRS = DOUBLED + TABLES.replace("angle = Concat<axis = -1>(freq, freq)", "angle = Identity(f3)")


def interleaved_of(body: str, weights: dict[str, tuple[int, ...]]) -> list[int]:
    """Whether the pairs of every rotary embedding are neighbours, the answers held against the model's own."""
    text = f"g (float[n,72,32] x) => (float[n,72,32] y) <float eight = {{8.0}}> {{ {NUMBERS} {body} }}"
    model = model_of(text, weights)
    counts_of(model, {"x": SHAPE})
    found = fuse(model, {"x": SHAPE})
    nodes = [each for each in found.model.graph.node if each.op_type == "RotaryEmbedding"] if found is not None else []
    return [next((said.i for said in each.attribute if said.name == "interleaved"), 0) for each in nodes]


def test_pairs_of_neighbours_are_turned():
    """As Cohere's and GLM's are."""
    body = HEADS + TABLES_OF_PAIRS + NEIGHBOURS + ATTEND.format(q="qn", k="kn")
    assert interleaved_of(body, {**APART, "freq": (1, 72, 4)}) == [1, 1]
    assert fused_of(body, {**APART, "freq": (1, 72, 4)})["MultiHeadAttention"] == 1


@pytest.mark.parametrize(
    "changed",
    [
        NEIGHBOURS.replace("Slice(qh, zero, many, last, two)", "Slice(qh, one, many, last, two)"),
        NEIGHBOURS.replace("qn = Add(q1, q2)", "qn = Sub(q1, q2)"),
        NEIGHBOURS.replace("Concat<axis = -1>(qu, qv)", "Concat<axis = -2>(qu, qv)"),
        NEIGHBOURS.replace("Concat<axis = -1>(qu, qv)", "Concat<axis = -1>(qv, qu)"),
    ],
    ids=["the same places", "backwards", "in halves", "not exchanged"],
)
def test_neighbours_that_change_otherwise_are_not_turned(changed: str):
    body = HEADS + TABLES_OF_PAIRS + changed + ATTEND.format(q="qn", k="kn")
    assert len(interleaved_of(body, {**APART, "freq": (1, 72, 4)})) < 2


@pytest.mark.parametrize("turn", [NEIGHBOURS, None], ids=["neighbours", "halves"])
def test_tables_of_the_other_kind_of_pairs_turn_nothing(turn: str | None):
    tables, turned = (DOUBLED + TABLES, turn) if turn else (TABLES_OF_PAIRS, HALVES)
    body = HEADS + tables + turned + ATTEND.format(q="qn", k="kn")
    assert interleaved_of(body, {**APART, "freq": (1, 72, 4)}) == []


def test_constant_tables_say_everything_twice_or_not():
    model = model_of("g (float[1] x) => (float[1] y) { y = Identity(x) }")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    tables = {"halves": np.concatenate((values, values), -1), "pairs": np.repeat(values, 2, -1)}
    model.graph.initializer.extend(numpy_helper.from_array(table, name) for name, table in tables.items())
    net = read(model, {}, {})
    found = {
        (name, adjacent): says_twice(net, name, adjacent=adjacent) for name in tables for adjacent in (True, False)
    }
    assert found == {(name, adjacent): adjacent == (name == "pairs") for name, adjacent in found}


@pytest.mark.parametrize(("times", "twice"), [("1, 2", True), ("2, 1", False), ("2, 2", False), ("1, 4", False)])
def test_tables_that_are_tiled_say_everything_twice_or_not(times: str, twice: bool):
    """As DINOv3's, whose angles no constant tells."""
    rows, sides = (int(each) for each in times.split(", "))
    body = f"times = Constant<value_ints = [{times}]>()  t = Tile(x, times)  y = Cos(t)"
    model = model_of(f"g (float[6,4] x) => (float[{6 * rows},{4 * sides}] y) {{ {body} }}")
    shape = (6 * rows, 4 * sides)
    net = read(model, {"x": (6, 4), "t": shape, "y": shape}, {})
    assert says_twice(net, "y", adjacent=False) == twice
    assert not says_twice(net, "y", adjacent=True)


AFTER = """
  {x}g = Slice({x}h, zero, part, tokens)  {x}f = Slice({x}h, part, all, tokens)
  {x}a = Slice({x}f, zero, part, last)  {x}b = Slice({x}f, part, end, last)
  {x}m = Neg({x}b)  {x}c = Concat<axis = -1>({x}m, {x}a)
  {x}1 = Mul({x}f, cosine)  {x}2 = Mul({x}c, sine)  {x}r = Add({x}1, {x}2)  {x}n = Concat<axis = -2>({x}g, {x}r)
"""
PLACED = "all = Constant<value_ints = [72]>()  tokens = Constant<value_ints = [2]>()" + AFTER.replace("{x}", "q")
PLACED += AFTER.replace("{x}", "k")


@pytest.mark.parametrize("axes", [(1, 68, 4), (68, 4)], ids=["a batch of tables", "one table"])
def test_heads_of_all_tokens_but_the_first_are_turned(axes: tuple[int, ...]):
    """As DINOv3's are: the first tokens stand for the whole image."""
    tables = TABLES if len(axes) == 3 else FLAT
    found = fused_of(HEADS + tables + PLACED + ATTEND.format(q="qn", k="kn"), {**APART, "freq": axes})
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"]) == (1, 2)
    assert not found["Neg"] + found["Transpose"] + found["Softmax"]


@pytest.mark.parametrize(
    "changed",
    [
        PLACED.replace("Concat<axis = -2>(qg, qr)", "Concat<axis = -2>(qr, qg)"),
        PLACED.replace("qg = Slice(qh, zero, part, tokens)", "one3 = Neg(part) qg = Slice(qh, one3, all, tokens)"),
    ],
    ids=["last", "from the other end"],
)
def test_tokens_that_are_not_put_back_in_place_are_no_turned_heads(changed: str):
    body = HEADS + TABLES + changed + ATTEND.format(q="qn", k="kn")
    assert fused_of(body, {**APART, "freq": (1, 68, 4)})["RotaryEmbedding"] < 2


def test_a_table_for_every_head_turns_nothing_else():
    body = HEADS + FLAT + PLACED + ATTEND.format(q="qn", k="kn")
    assert not fused_of(body, {**APART, "freq": (4, 68, 4)})["RotaryEmbedding"]


PACKED = """
  a = MatMul(x, w)  b = Add(a, bias)  apart = Constant<value_ints = [0, 0, 4, 24]>()  bs = Reshape(b, apart)
  bh = Transpose<perm = [0, 2, 1, 3]>(bs)  qh, kh, vh = Split<axis = 3>(bh)
"""
GATHERED = """
  a = MatMul(x, w)  b = Add(a, bias)  apart = Constant<value_ints = [0, 0, 4, 3, 8]>()  bs = Reshape(b, apart)
  i0 = Constant<value_int = 0>()  i1 = Constant<value_int = 1>()  i2 = Constant<value_int = 2>()
  qg = Gather<axis = 3>(bs, i0)  kg = Gather<axis = 3>(bs, i1)  vg = Gather<axis = -2>(bs, i2)
  qh = Transpose<perm = [0, 2, 1, 3]>(qg)  kh = Transpose<perm = [0, 2, 1, 3]>(kg)
  vh = Transpose<perm = [0, 2, 1, 3]>(vg)
"""
CUT = """
  a = MatMul(x, w)  b = Add(a, bias)  apart = Constant<value_ints = [0, 0, 4, 24]>()  bs = Reshape(b, apart)
  bh = Transpose<perm = [0, 2, 1, 3]>(bs)  sizes = Shape(bh)  last = Constant<value_int = 3>()
  width = Gather<axis = 0>(sizes, last)  three = Constant<value_int = 3>()  part = Div(width, three)
  c0 = Constant<value_ints = [0]>()  at = Constant<value_ints = [3]>()  list = Constant<value_ints = [1]>()
  c1 = Reshape(part, list)  c2 = Add(c1, c1)  c3 = Add(c2, c1)
  qh = Slice(bh, c0, c1, at)  kh = Slice(bh, c1, c2, at)  vh = Slice(bh, c2, c3, at)
"""
TOGETHER = {"w": (32, 96), "bias": (96,), "wo": (32, 32), "freq": (1, 72, 2)}


@pytest.mark.parametrize(
    "packed",
    [PACKED, PACKED.replace("b = Add(a, bias)", "b = Identity(a)"), GATHERED, CUT],
    ids=["with a bias", "without", "gathered", "cut"],
)
def test_heads_that_one_projection_makes_one_by_one(packed: str):
    found = fused_of(packed + ATTEND.format(q="qh", k="kh"), TOGETHER)
    assert (found["Attention"], found["MatMul"], found["Slice"]) == (1, 1, 0)
    assert not found["Transpose"] + found["Split"]


def test_heads_that_one_projection_makes_one_by_one_are_turned():
    """As GPT-NeoX's are."""
    found = fused_of(PACKED + TABLES + TURN + ATTEND.format(q="qn", k="kn"), TOGETHER)
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"], found["MatMul"]) == (1, 2, 2)
    assert not found["Neg"] + found["Transpose"]


@pytest.mark.parametrize("packed", [PACKED, GATHERED, CUT], ids=["split", "gathered", "cut"])
def test_rows_whose_shape_is_asked_for_are_sorted_too(packed: str):
    """As torch's older exporter asks for sizes, of what is then made once."""
    sizes = "sh = Shape(b)  first = Constant<value_ints = [0]>()  n = Gather(sh, first)"
    rest = "tail = Constant<value_ints = [-1, 32]>()  where = Concat<axis = 0>(n, tail)"
    attend = ATTEND.format(q="qh", k="kh").replace("Reshape(ot, whole)", "Reshape(ot, where)")
    found = fused_of(packed + sizes + rest + attend, TOGETHER)
    assert (found["Attention"], found["MatMul"]) == (1, 1)


@pytest.mark.parametrize(
    ("ends", "fused"), [("end, end", 1), ("part, end", 0)], ids=["nothing beside", "something beside"]
)
def test_heads_that_are_turned_whole_with_nothing_beside(ends: str, fused: int):
    """As Phi-3's are by torch's older exporter."""
    joined = "".join(f"{x}z = Slice({x}h, {ends}, last)  {x}j = Concat<axis = -1>({x}n, {x}z)  " for x in "qk")
    wide = ATTEND.format(q="qj", k="kj")
    found = fused_of(HEADS + TABLES + HALVES + joined + wide, {**APART, "freq": (1, 72, 4)})
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"]) == (fused, 2 * fused)


def test_a_projection_that_somebody_else_reads_keeps_its_order():
    body = (
        PACKED + ATTEND.format(q="qh", k="kh").replace("y = ", "z = ") + "m = ReduceMax<axes = [-1]>(b)  y = Add(z, m)"
    )
    assert not fused_of(body, TOGETHER)["Attention"]


def test_parts_that_are_not_all_gathered_keep_their_order():
    body = GATHERED.replace("Gather<axis = -2>(bs, i2)", "ReduceMax<axes = [3], keepdims = 0>(bs)")
    assert not fused_of(body + ATTEND.format(q="qh", k="kh"), TOGETHER)["Attention"]


def test_parts_of_heads_are_sorted():
    values = np.arange(12)[None] + np.array([[0], [100]])  # two heads of three parts of two
    found = Sorted("w", heads=2, parts=3).array({"w": values})
    np.testing.assert_array_equal(found[0], [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11])
    np.testing.assert_array_equal(found[1], found[0] + 100)


@pytest.mark.parametrize(
    ("cut", "constant"),
    [
        ("sine, cosine = Split<axis = 1>(both)", True),
        ("sine = Slice(both, n0, n8, n1)  cosine = Slice(both, n8, n16, n1)", True),
        ("given = Reshape(x, whole)  sine, cosine = Split<axis = 1>(given)", False),
    ],
    ids=["split", "slices", "of an input"],
)
def test_tables_may_be_parts_of_one_constant(cut: str, constant: bool):
    """As EVA-02's are."""
    names = "  ".join(f"n{at} = Constant<value_ints = [{at}]>()" for at in (0, 1, 8, 16))
    body = f"{names} whole = Constant<value_ints = [72, 16]>()  {cut}  y = Add(sine, cosine)"
    model = model_of(f"g (float[72,16] x) => (float[72,8] y) {{ {body} }}")
    pairs = np.repeat(np.random.default_rng(0).standard_normal((72, 8)).astype(np.float32), 2, -1)
    model.graph.initializer.append(numpy_helper.from_array(pairs, "both"))
    shapes = {"x": (72, 16), "given": (72, 16), "sine": (72, 8), "cosine": (72, 8), "y": (72, 8), "both": (72, 16)}
    net = read(model, shapes, {})
    assert [says_twice(net, name, adjacent=True) for name in ("sine", "cosine")] == [constant] * 2
    assert not says_twice(net, "sine", adjacent=False)
