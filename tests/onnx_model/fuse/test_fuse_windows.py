"""Attention in windows: one kernel between two gathers, whatever the exporter wrote, and the model's own answers."""

from collections import Counter
from dataclasses import dataclass
from string import Template

import numpy as np
import pytest
from answers import counts_of, model_of
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.fuse.net import read
from ampgraph.onnx_model.fuse.rolls import rolled
from ampgraph.onnx_model.types import infer, types_in

WIDTH, HEADS = 16, 2


@dataclass(frozen=True)
class Size:
    """Tokens along a side of an image and of a window."""

    side: int = 14
    window: int = 7

    @property
    def tokens(self) -> int:
        return self.window**2

    @property
    def windows(self) -> int:
        return (self.side // self.window) ** 2

    def filled(self, text: str) -> str:
        """A graph's text with the sizes put in."""
        words = {"n": self.side // self.window, "w": self.window, "t": self.tokens, "c": self.windows, "s": self.side}
        return Template(text).substitute(words)

    def table(self) -> np.ndarray:
        return np.random.default_rng(2).standard_normal((1, HEADS, self.tokens, self.tokens)).astype(np.float32)

    def mask(self) -> np.ndarray:
        """A mask of its own for every window; no row is all hidden."""
        hidden = np.random.default_rng(3).random((1, self.windows, 1, self.tokens, self.tokens)) < 0.3
        return np.where(hidden & ~np.eye(self.tokens, dtype=bool), np.float32(-100), np.float32(0))


PLAIN = Size()
SHAPE = (3, PLAIN.side, PLAIN.side, WIDTH)
PARTED = """
  grid = Constant<value_ints = [-1, $n, $w, $n, $w, 16]>()  whole = Constant<value_ints = [-1, $t, 16]>()
  a = Reshape(r, grid)  b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a)  t = Reshape(b, whole)
"""
PACKED = """
  pm = MatMul(t, wp)  p = Add(pm, bp)  five = Constant<value_ints = [-1, $t, 3, 2, 8]>()  c = Reshape(p, five)
  d = Transpose<perm = [2, 0, 3, 1, 4]>(c)  zeroth = Constant<value_int = 0>()  first = Constant<value_int = 1>()
  second = Constant<value_int = 2>()  q = Gather<axis = 0>(d, zeroth)  k = Gather<axis = 0>(d, first)
  v = Gather<axis = 0>(d, second)
"""
SEPARATE = """
  four = Constant<value_ints = [-1, $t, 2, 8]>()
  qm = MatMul(t, wq)  qb = Add(qm, bq)  qs = Reshape(qb, four)  q = Transpose<perm = [0, 2, 1, 3]>(qs)
  km = MatMul(t, wk)  ks = Reshape(km, four)  k = Transpose<perm = [0, 2, 1, 3]>(ks)
  vm = MatMul(t, wv)  vb = Add(vm, bv)  vs = Reshape(vb, four)  v = Transpose<perm = [0, 2, 1, 3]>(vs)
"""
HEAD_BY_HEAD = """
  places = Constant<value_ints = [-1, $w, $w, 16]>()  i = Reshape(b, places)  pm = MatMul(i, wp)  p = Add(pm, bp)
  four = Constant<value_ints = [-1, $t, 2, 24]>()  c = Reshape(p, four)  d = Transpose<perm = [0, 2, 1, 3]>(c)
  q, k, v = Split<axis = 3>(d)
"""
SCORES = """
  kt = Transpose<perm = [0, 1, 3, 2]>(k)  ql = Mul(q, root)  s0 = MatMul(ql, kt)  s1 = Add(s0, table)
"""
UNMASKED = "s = Identity(s1)"
MASKED = """
  apart = Constant<value_ints = [-1, $c, 2, $t, $t]>()  s2 = Reshape(s1, apart)  s3 = Add(s2, mask)
  again = Constant<value_ints = [-1, 2, $t, $t]>()  s = Reshape(s3, again)
"""
REST = """
  o0 = Softmax<axis = -1>(s)  o1 = MatMul(o0, v)  o2 = Transpose<perm = [0, 2, 1, 3]>(o1)  o3 = Reshape(o2, whole)
  o4 = MatMul(o3, wo)  o5 = Add(o4, bo)  back = Constant<value_ints = [-1, $n, $n, $w, $w, 16]>()
  o6 = Reshape(o5, back)  o7 = Transpose<perm = [0, 1, 3, 2, 4, 5]>(o6)
  image = Constant<value_ints = [-1, $s, $s, 16]>()  o = Reshape(o7, image)
"""
WEIGHTS = dict.fromkeys(("wq", "wk", "wv", "wo"), (WIDTH, WIDTH)) | {"wp": (WIDTH, 3 * WIDTH), "bp": (3 * WIDTH,)}
WEIGHTS |= dict.fromkeys(("bq", "bv", "bo"), (WIDTH,))


def roll(source: str, by: str | int, name: str) -> str:
    """torch.roll along both axes of an image, as it is exported."""
    lines = [f"{name}z = Constant<value_ints = [0]>()  {name}b = Constant<value_ints = [{by}]>()"]
    lines.append(f"{name}e = Constant<value_ints = [$s]>()")
    for axis, (before, after) in ((1, (source, f"{name}1")), (2, (f"{name}1", name))):
        lines.append(f"{name}a{axis} = Constant<value_ints = [{axis}]>()")
        lines.append(f"{name}f{axis} = Slice({before}, {name}z, {name}b, {name}a{axis})")
        lines.append(f"{name}l{axis} = Slice({before}, {name}b, {name}e, {name}a{axis})")
        lines.append(f"{after} = Concat<axis = {axis}>({name}l{axis}, {name}f{axis})")
    return "  ".join(lines)


def block(
    operands: str, mask: str = UNMASKED, by: int = 0, more: str = "", size: Size = PLAIN, **tables: np.ndarray
) -> ModelProto:
    """A block of attention in windows, rolled `by` so many tokens and back, and added to its input."""
    return block_of(f"{operands} {SCORES} {mask} {REST}", by, more, size, **tables)


def block_of(attention: str, by: int = 0, more: str = "", size: Size = PLAIN, **tables: np.ndarray) -> ModelProto:
    """The same of all that is between the windows and the image."""
    there, back = (roll("x", by, "r"), roll("o", size.side - by, "u")) if by else ("r = Identity(x)", "u = Identity(o)")
    body = f"{there} {PARTED} {attention} {back} y = Add(x, u)"
    head = "g (float[n,$s,$s,16] x" + more + ") => (float[n,$s,$s,16] y) <float root = {0.35}>"
    model = model_of(size.filled(head + " { " + body + " }"), WEIGHTS)
    given = {"table": size.table(), "mask": size.mask()} | tables
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in given.items())
    return model


def moved(counts: Counter[str], masked: bool) -> bool:
    """Whether tokens are gathered, and gathered back, and nothing else moves; sizes may be gathered for a mask."""
    turned = sum(counts[kind] for kind in ("Transpose", "Slice", "Split"))
    return (counts["Gather"], turned, counts["Expand"]) == (2 + masked, 0, masked)


@pytest.mark.parametrize("operands", [PACKED, SEPARATE], ids=["packed", "separate"])
@pytest.mark.parametrize(("mask", "by"), [(UNMASKED, 0), (MASKED, 0), (MASKED, 3), (UNMASKED, 5)])
def test_windows_become_one_attention_between_two_gathers(operands, mask, by):
    counts = counts_of(block(operands, mask, by), {"x": SHAPE})
    assert (counts["MultiHeadAttention"], counts["Softmax"]) == (1, 0)
    assert moved(counts, mask is MASKED)


def test_what_the_values_add_is_added_after_the_projection():
    """Of four sums with a row two are left: the query's and the output's; the key's changes nothing."""
    counts = counts_of(block(PACKED), {"x": SHAPE})
    assert counts["Add"] == 3  # and the residual


def test_windows_whose_rows_are_whole_are_not_filled_up():
    counts = counts_of(block(PACKED, MASKED, 3, size=Size(16, 8)), {"x": (3, 16, 16, WIDTH)})
    assert counts["MultiHeadAttention"] == 1
    assert moved(counts, masked=True)


def test_a_mask_that_is_made_for_every_image_is_seen_to_be_one():
    """timm's fused attention: bias and mask in one tensor of (batch * windows, heads, tokens, tokens)."""
    spread = """
      rows = Shape<start = 0, end = 1>(s1)  others = Constant<value_ints = [$c, 2, $t, $t]>()
      m4 = Expand(mask4, others)  count = Constant<value_ints = [$c]>()
      images = Div(rows, count)  ones = Constant<value_ints = [1, 1, 1]>()  times = Concat<axis = 0>(images, ones)
      many = Tile(m4, times)  s = Add(s1, many)
    """
    model = block(PACKED, spread, 3, mask4=PLAIN.mask()[0])
    counts = counts_of(model, {"x": SHAPE})
    assert counts["MultiHeadAttention"] == 1
    assert moved(counts, masked=True)


def test_a_bias_that_comes_from_data_is_left_alone():
    given = block(PACKED, "s = Add(s1, given)", more=", float[1,2,49,49] given")
    assert counts_of(given, {"x": SHAPE, "given": PLAIN.table().shape})["MultiHeadAttention"] == 0


def test_a_mask_that_differs_from_image_to_image_is_left_alone():
    wide = "s = Add(s1, apart)"
    shape = (SHAPE[0] * PLAIN.windows, HEADS, PLAIN.tokens, PLAIN.tokens)
    differs = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    model = block(PACKED, wide, apart=differs)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    assert counts_of(model, {"x": SHAPE})["MultiHeadAttention"] == 0


def test_a_bias_of_scores_in_another_grouping_is_left_alone():
    """Scores of one head seen as (images, windows, tokens, tokens): what is added there is no bias of heads."""
    regrouped = """
      flat = Constant<value_ints = [-1, 8, $t, $t]>()  s2 = Reshape(s1, flat)  s3 = Add(s2, many)
      again = Constant<value_ints = [-1, 2, $t, $t]>()  s = Reshape(s3, again)
    """
    many = np.random.default_rng(6).standard_normal((1, 8, PLAIN.tokens, PLAIN.tokens)).astype(np.float32)
    assert counts_of(block(PACKED, regrouped, many=many), {"x": SHAPE})["MultiHeadAttention"] == 0


def test_no_bias_is_no_reason_to_fill_windows_up():
    """Without a bias the kernel needs no whole rows: windows are gathered as they are."""
    model = block(PACKED)
    sum_ = next(node for node in model.graph.node if node.output[0] == "s1")
    sum_.op_type = "Identity"
    del sum_.input[1]
    found = fuse(model, {"x": SHAPE})
    assert found is not None
    (attention,) = [each for each in found.model.graph.node if each.op_type == "MultiHeadAttention"]
    assert len(attention.input) == 3
    gathered = {each.input[1] for each in found.model.graph.node if each.op_type == "Gather"}
    places = [each.dims[0] for each in found.model.graph.initializer if each.name in gathered]
    assert places == [PLAIN.side**2] * 2
    assert moved(counts_of(model, {"x": SHAPE}), masked=False)


def test_merged_patches_are_one_gather():
    body = (
        "zero = Constant<value_ints = [0]>()  one = Constant<value_ints = [1]>()  two = Constant<value_ints = [2]>() "
    )
    body += "end = Constant<value_ints = [14]>() "
    for row, first in enumerate(("zero", "one")):
        body += f"r{row} = Slice(x, {first}, end, one, two) "
        for column, second in enumerate(("zero", "one")):
            body += f"p{row}{column} = Slice(r{row}, {second}, end, two, two) "
    body += "m = Concat<axis = -1>(p00, p10, p01, p11)  n0 = LayerNormalization(m, scale, shift)  y = MatMul(n0, w)"
    weights = {"scale": (4 * WIDTH,), "shift": (4 * WIDTH,), "w": (4 * WIDTH, 32)}
    model = model_of(f"g (float[n,14,14,16] x) => (float[n,7,7,32] y) {{ {body} }}", weights)
    counts = counts_of(model, {"x": SHAPE})
    assert (counts["Gather"], counts["Slice"], counts["Concat"]) == (1, 0, 0)


@given(st.lists(st.tuples(st.sampled_from((1, 2)), st.integers(1, 4)), min_size=1, max_size=3))
def test_the_order_of_rolled_tokens_is_numpys(steps):
    body, name = "", "x"
    for place, (axis, by) in enumerate(steps):
        body += f"z{place} = Constant<value_ints = [0]>()  b{place} = Constant<value_ints = [{by}]>() "
        body += f"e{place} = Constant<value_ints = [9]>()  a{place} = Constant<value_ints = [{axis}]>() "
        body += f"f{place} = Slice({name}, z{place}, b{place}, a{place}) "
        body += f"l{place} = Slice({name}, b{place}, e{place}, a{place}) "
        body += f"c{place} = Concat<axis = {axis}>(l{place}, f{place}) "
        name = f"c{place}"
    model = model_of(f"g (float[2,5,6,3] x) => (float[2,5,6,3] y) {{ {body} y = Relu({name}) }}")
    shapes = {key: each.shape for key, each in types_in(infer(model, {"x": (2, 5, 6, 3)}).graph).items()}
    source, order = rolled(read(model, shapes, {}), name)
    expected = np.arange(30).reshape(5, 6)
    for axis, by in steps:
        expected = np.roll(expected, -by, axis - 1)
    assert source == "x"
    np.testing.assert_array_equal(order, expected)


def test_tokens_of_values_whose_shape_nobody_knows_come_from_themselves():
    body = f"{roll('x', 2, 'r')}  y = Relu(r)".replace("$s", "6")
    model = model_of(f"g (float[2,6,6,3] x) => (float[2,6,6,3] y) {{ {body} }}")
    shapes = {key: each.shape for key, each in types_in(infer(model, {"x": (2, 6, 6, 3)}).graph).items()}
    for hidden in shapes:
        known = {key: shape for key, shape in shapes.items() if key != hidden}
        source, order = rolled(read(model, known, {}), "r")
        assert (source, order.shape) in (("x", (6, 6)), ("r1", (6, 6)), ("r", (6, 6)), ("r", ()))


def test_a_long_chain_of_rolls_is_not_followed_for_ever():
    steps, name = [], "x"
    for place in range(40):
        by = f"b{place} = Constant<value_ints = [1]>()  z{place} = Constant<value_ints = [0]>() "
        by += f"e{place} = Constant<value_ints = [6]>()  a{place} = Constant<value_ints = [1]>() "
        first = f"f{place} = Slice({name}, z{place}, b{place}, a{place})"
        last = f"l{place} = Slice({name}, b{place}, e{place}, a{place})"
        steps.append(f"{by} {first} {last} c{place} = Concat<axis = 1>(l{place}, f{place})")
        name = f"c{place}"
    model = model_of(f"g (float[2,6,6,3] x) => (float[2,6,6,3] y) {{ {' '.join(steps)} y = Relu({name}) }}")
    shapes = {key: each.shape for key, each in types_in(infer(model, {"x": (2, 6, 6, 3)}).graph).items()}
    source, order = rolled(read(model, shapes, {}), name)
    assert source in ("c36", "c37")
    np.testing.assert_array_equal(order, np.roll(np.arange(36).reshape(6, 6), -3, 0))


@pytest.mark.parametrize("size", [PLAIN, Size(16, 8), Size(8, 8)], ids=["windows of 49", "windows of 64", "one of 64"])
def test_heads_that_one_projection_of_places_makes_one_by_one(size: Size) -> None:
    """As MaxViT's are: the projection takes windows with their places apart, so that an image of 64 is no row."""
    shape = (3, size.side, size.side, WIDTH)
    found = counts_of(block(HEAD_BY_HEAD, size=size), {"x": shape})
    assert (found["MultiHeadAttention"], found["Softmax"], found["Split"]) == (1, 0, 0)


APART = """
  rows = Constant<value_ints = [-1, $c, $t, 16]>()  i = Reshape(b, rows)  pm = MatMul(i, wp)  p = Add(pm, bp)
  six = Constant<value_ints = [-1, $c, $t, 3, 2, 8]>()  c = Reshape(p, six)
  d = Transpose<perm = [3, 0, 1, 4, 2, 5]>(c)  zeroth = Constant<value_int = 0>()  first = Constant<value_int = 1>()
  second = Constant<value_int = 2>()  q = Gather<axis = 0>(d, zeroth)  k = Gather<axis = 0>(d, first)
  v = Gather<axis = 0>(d, second)
"""


@pytest.mark.parametrize("summed", ["s1 = Add(s0, table)", "s1 = Identity(s0)"], ids=["with a bias", "without"])
@pytest.mark.parametrize("size", [PLAIN, Size(16, 8)], ids=["49", "64"])
def test_images_and_their_windows_may_be_two_axes(summed: str, size: Size) -> None:
    """As Twins' are."""
    scores = SCORES.replace("[0, 1, 3, 2]", "[0, 1, 2, 4, 3]").replace("s1 = Add(s0, table)", summed)
    rest = REST.replace("o2 = Transpose<perm = [0, 2, 1, 3]>", "o2 = Transpose<perm = [0, 1, 3, 2, 4]>")
    model = block_of(f"{APART} {scores} {UNMASKED} {rest}", size=size)
    counts = counts_of(model, {"x": (3, size.side, size.side, WIDTH)})
    assert (counts["MultiHeadAttention"], counts["Softmax"]) == (1, 0)
    assert moved(counts, masked=False)


def cosines(of_keys: str = "Clip(kl, least)", axes: str = "[-1]", factor: str = "s0 = Mul(s00, by_head)") -> str:
    """Scores of queries and keys that are divided by their lengths."""
    return f"""
      ql = ReduceL2<axes = {axes}, keepdims = 1>(q)  qc = Clip(ql, least)  sizes = Shape(q)  qe = Expand(qc, sizes)
      qu = Div(q, qe)  kl = ReduceL2<axes = {axes}, keepdims = 1>(k)  kc = {of_keys}  ku = Div(k, kc)
      kt = Transpose<perm = [0, 1, 3, 2]>(ku)  s00 = MatMul(qu, kt)  {factor}  s1 = Add(s0, table)"""


BY_HEAD = np.array([2.5, 11], np.float32).reshape(HEADS, 1, 1)


def cosine_block(operands: str, scores: str, mask: str = UNMASKED, by: int = 0) -> ModelProto:
    bounds = {"least": np.float32(1e-12), "larger": np.float32(1e-6)}
    return block_of(f"{operands} {scores} {mask} {REST}", by, by_head=BY_HEAD, **bounds)


@pytest.mark.parametrize("operands", [PACKED, SEPARATE.replace("ks = Reshape(km", "kb = Add(km, bq)  ks = Reshape(kb")])
@pytest.mark.parametrize(("mask", "by"), [(UNMASKED, 0), (MASKED, 3)])
@pytest.mark.parametrize("factor", ["s0 = Mul(s00, by_head)", "s0 = Mul(by_head, s00)", "s0 = Identity(s00)"])
def test_cosines_of_queries_and_keys_are_rows_that_a_kernel_normalizes(operands, mask, by, factor):
    """The bias of a key counts: it changes the direction."""
    counts = counts_of(cosine_block(operands, cosines(factor=factor), mask, by), {"x": SHAPE})
    assert (counts["MultiHeadAttention"], counts["Softmax"]) == (1, 0)
    assert (counts["SkipSimplifiedLayerNormalization"], counts["ReduceL2"], counts["Div"]) == (2, 0, 0)
    assert counts["Mul"] == ("by_head" in factor)
    assert moved(counts, mask is MASKED)


@pytest.mark.parametrize(
    "scores",
    [
        cosines(of_keys="Clip(kl, larger)"),
        cosines(of_keys="Clip(kl, least, larger)"),
        cosines(of_keys="Add(kl, least)"),
        cosines(axes="[-2]"),
        cosines().replace("ku = Div(k, kc)", "ku = Identity(k)"),
        cosines().replace("ku = Div(k, kc)", "ku = Div(kc, k)"),
        cosines().replace("by_head", "wide_by_head"),
    ],
)
def test_other_lengths_and_factors_stay(scores):
    model = cosine_block(PACKED, scores)
    wide = np.broadcast_to(BY_HEAD[None], (1, HEADS, 1, PLAIN.tokens))  # one for every key
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(wide), "wide_by_head"))
    assert counts_of(model, {"x": SHAPE})["MultiHeadAttention"] == 0
