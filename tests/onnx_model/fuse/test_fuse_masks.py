"""Scores that several masks or biases are added to: one operator, which reads their sum."""

from collections import Counter

import numpy as np
import pytest
from onnx import numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.run import CPU, open_session, run
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPE = (2, 72, 32)
WEIGHTS = {f"w{each}": (32, 32) for each in "qkvo"}
LAYER = """
  q{n} = MatMul({x}, wq)  k{n} = MatMul({x}, wk)  v{n} = MatMul({x}, wv)
  qs{n} = Reshape(q{n}, split)  qh{n} = Transpose<perm = [0, 2, 1, 3]>(qs{n})
  ks{n} = Reshape(k{n}, split)  kt{n} = Transpose<perm = [0, 2, 3, 1]>(ks{n})
  vs{n} = Reshape(v{n}, split)  vh{n} = Transpose<perm = [0, 2, 1, 3]>(vs{n})
  s{n} = MatMul(qh{n}, kt{n})  d{n} = Div(s{n}, eight)  {masked}
  p{n} = Softmax<axis = -1>(m{n})  o{n} = MatMul(p{n}, vh{n})
  ot{n} = Transpose<perm = [0, 2, 1, 3]>(o{n})  om{n} = Reshape(ot{n}, whole)  {y} = MatMul(om{n}, wo)
"""
FLOATS = "float eight = {8.0}, float zero = {0.0}, float lowest = {-3.4028235e38}"
NUMBERS = "split = Constant<value_ints = [0, 0, 4, 8]>()  whole = Constant<value_ints = [0, 0, 32]>()"
TWO = "b{n} = Add(d{n}, bias)  m{n} = Add(b{n}, mask)"
MASKS = {"bias": ("1,4,72,72", (1, 4, 72, 72)), "mask": ("n,1,1,72", (2, 1, 1, 72))}


def layer_of(masked: str, x: str = "x", y: str = "y", n: str = "") -> str:
    return LAYER.format(masked=masked.format(n=n), x=x, y=y, n=n)


def fused_of(
    body: str, more: dict[str, tuple[int, ...]] | None = None, **masks: tuple[str, tuple[int, ...]]
) -> Counter[str]:
    """Operators of the fused model, its answers held against the model's own. `more`: weights."""
    inputs = "".join(f", float[{dims}] {name}" for name, (dims, _) in masks.items())
    text = f"g (float[n,72,32] x{inputs}) => (float[n,72,32] y) <{FLOATS}> {{ {NUMBERS} {body} }}"
    shapes = {name: shape for name, (_, shape) in masks.items()}
    return counts_of(model_of(text, {**WEIGHTS, **(more or {})}), {"x": SHAPE, **shapes})


@pytest.mark.parametrize("masked", [TWO, "b{n} = Add(bias, d{n})  m{n} = Add(mask, b{n})"], ids=["right", "left"])
def test_a_bias_of_heads_and_a_mask_of_keys_become_one(masked: str):
    found = fused_of(layer_of(masked), **MASKS)
    assert (found["Attention"], found["Softmax"], found["Add"]) == (1, 0, 1)


def test_masks_of_fewer_axes_are_summed_too():
    found = fused_of(layer_of(TWO), bias=("4,72,72", (4, 72, 72)), mask=("72,72", (72, 72)))
    assert (found["Attention"], found["Softmax"]) == (1, 0)


def test_three_are_summed():
    more = TWO.replace("m{n} = Add(b{n}, mask)", "a{n} = Add(b{n}, mask)  m{n} = Add(a{n}, third)")
    found = fused_of(layer_of(more), third=("1,1,72,72", (1, 1, 72, 72)), **MASKS)
    assert (found["Attention"], found["Softmax"], found["Add"]) == (1, 0, 2)


def test_layers_share_the_sum():
    body = layer_of(TWO, y="z") + layer_of(TWO, "z", "y", "2")
    found = fused_of(body, **MASKS)
    assert (found["Attention"], found["Add"]) == (2, 1)


@pytest.mark.parametrize(("low", "left"), [(-3.4028235e38, 0), (-10000.0, 1)], ids=["lowest", "-1e4"])
def test_a_bias_beside_a_causal_mask_is_all_that_is_read(low: float, left: int):
    """Unless it may forbid as much as the mask does: of two tokens that -1e4 is added to, both are seen again."""
    causal = f"""
      size = Shape<start = 1, end = 2>(x)  count = Squeeze(size)  nought = Constant<value_int = 0>()
      first = Constant<value_int = 1>()  places = Range(nought, count, first)
      last = Constant<value_ints = [1]>()  column = Unsqueeze(places, last)  ok = LessOrEqual(places, column)
      low = Constant<value_float = {low!r}>()  mask = Where(ok, zero, low)
    """
    found = fused_of(causal + layer_of(TWO), bias=MASKS["bias"])
    assert (found["Attention"], found["Softmax"], found["Where"], found["Add"]) == (1, 0, left, left)


FLOOR = "b{n} = Where(some, zero, lowest)  a{n} = Add(d{n}, b{n})  m{n} = Max(%s)"


@pytest.mark.parametrize(
    ("operands", "fused"),
    [("a{n}, lowest", 1), ("lowest, a{n}", 1), ("a{n}, zero", 0), ("a{n}, lowest, zero", 0), ("a{n}, d{n}", 0)],
    ids=["before", "after", "within scores", "two floors", "scores"],
)
def test_scores_that_are_kept_above_the_lowest_number(operands: str, fused: int):
    """As XGLM and older OPT keep theirs, so that two low numbers make no infinity."""
    body = "some = Greater(keys, zero)" + layer_of(FLOOR % operands)
    found = fused_of(body, keys=("n,1,72,72", (2, 1, 72, 72)))
    assert found["Attention"] == fused


def test_a_row_of_infinities_that_is_lifted_is_even():
    """A kernel would not weigh all keys alike there."""
    masked = "a{n} = Add(d{n}, mask)  m{n} = Max(a{n}, lowest)"
    assert not fused_of(layer_of(masked), mask=("n,1,1,72", (2, 1, 1, 72)))["Attention"]


def test_a_sum_that_is_scaled_is_no_mask():
    masked = "b{n} = Add(d{n}, bias)  e{n} = Div(b{n}, eight)  m{n} = Add(e{n}, mask)"
    assert not fused_of(layer_of(masked), **MASKS)["Attention"]


CHOSEN = "some = Greater(keys, zero)  all_of = Greater(rows, zero)  seen = And(some, all_of)  mask = Where({chosen})"
KEPT = {"keys": ("n,1,1,72", (2, 1, 1, 72)), "rows": ("n,1,72,1", (2, 1, 72, 1))}


@pytest.mark.parametrize("chosen", ["seen, zero, lowest", "unseen, lowest, zero"], ids=["seen", "unseen"])
def test_a_bias_out_of_a_table_and_a_choice_are_a_choice(chosen: str):
    """As MPNet's are: what the lowest number is added to is that number, in float16 too. Some rows are masked whole."""
    mask = CHOSEN.format(chosen=chosen).replace("mask =", "unseen = Not(seen)  mask =")
    bias = "at = Constant<value_ints = [1]>()  row = Gather<axis = 0>(table, at)  bias = Cast<to = 1>(row)"
    found = fused_of(mask + bias + layer_of(TWO), {"table": (3, 4, 72, 72)}, **KEPT)
    assert (found["Attention"], found["Softmax"], found["Where"], found["Add"]) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("bias", "lowest"), [("Mul(table, top)", "lowest"), ("Identity(large)", "lowest"), ("Identity(table)", "low")]
)
def test_what_may_be_seen_beside_a_mask_is_added(bias: str, lowest: str):
    low = (
        "low = Constant<value_float = -10000.0>()  factor = Constant<value_float = 1e25>()  large = Mul(table, factor)"
    )
    mask = f"some = Greater(keys, zero)  mask = Where(some, zero, {lowest})  top = ReduceMax<keepdims = 0>(x)"
    found = fused_of(f"{low} {mask} bias = {bias} {layer_of(TWO)}", {"table": (1, 4, 72, 72)}, keys=KEPT["keys"])
    assert (found["Attention"], found["Softmax"], found["Add"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("given", "bias", "chosen"),
    [
        ("int64[n,1,1,72]", "Mul(slopes, counted)", True),
        ("bool[n,1,1,72]", "Mul(slopes, counted)", True),
        ("float[n,1,1,72]", "Mul(slopes, counted)", False),
        ("int64[n,1,1,72]", "Add(slopes, counted)", True),
    ],
    ids=["whole", "truths", "numbers", "a sum"],
)
def test_slopes_of_whole_places_and_a_choice_are_a_choice(given: str, bias: str, chosen: bool):
    """As BLOOM's are."""
    counted = "far = Identity(places)" if given.startswith("bool") else "far = Add(places, places)"
    mask = "some = Greater(keys, zero)  mask = Where(some, zero, lowest)"
    body = f"{NUMBERS} {counted} counted = Cast<to = 1>(far) bias = {bias} {mask} {layer_of(TWO)}"
    text = f"g (float[n,72,32] x, float[n,1,1,72] keys, {given} places) => (float[n,72,32] y) <{FLOATS}> {{ {body} }}"
    model = model_of(text, {**WEIGHTS, "slopes": (1, 4, 1, 1)})
    generator, shape = np.random.default_rng(1), (2, 1, 1, 72)
    feeds = {"x": generator.standard_normal(SHAPE), "keys": generator.standard_normal(shape)}
    kind = {"int64": np.int64, "bool": np.bool_, "float": np.float32}[given.split("[")[0]]
    feeds = {name: values.astype(np.float32) for name, values in feeds.items()}
    feeds["places"] = generator.integers(0, 9, shape).astype(kind)
    found = fuse(model, {name: values.shape for name, values in feeds.items()})
    assert found is not None
    sessions = [open_session(each, provider=CPU, optimize="disabled") for each in (model, found.model)]
    expected, answers = (run(session, feeds)["y"] for session in sessions)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    makers = {name: node.op_type for node in found.model.graph.node for name in node.output}
    spread = next(node.input[0] for node in found.model.graph.node if node.op_type == "Expand")
    assert list(makers.values()).count("Attention") == 1
    assert makers[spread] == ("Where" if chosen else "Add")


REPLACED = "b{n} = Add(d{n}, bias)  m{n} = Where(unseen, lowest, b{n})"
UNSEEN = "some = Greater(keys, zero)  all_of = Greater(rows, zero)  seen = And(some, all_of)  unseen = Not(seen)"


@pytest.mark.parametrize(
    "masked", [REPLACED, REPLACED.replace("Where(unseen, lowest, b{n})", "Where(seen, b{n}, lowest)")]
)
def test_a_low_number_in_the_place_of_scores_is_one_in_the_place_of_a_bias(masked: str):
    """As DeBERTa's masks are; a row that is masked out whole gives every key the same weight."""
    found = fused_of(UNSEEN + layer_of(masked), bias=MASKS["bias"], **KEPT)
    assert (found["Attention"], found["Softmax"], found["Where"], found["Add"]) == (1, 0, 1, 0)


def test_a_low_number_in_the_place_of_scores_alone():
    found = fused_of(UNSEEN + layer_of("m{n} = Where(unseen, lowest, d{n})"), **KEPT)
    assert (found["Attention"], found["Softmax"], found["Where"]) == (1, 0, 1)


def test_a_bias_on_scores_that_were_replaced_is_added_to_the_choice():
    after = "r{n} = Where(unseen, lowest, d{n})  m{n} = Add(r{n}, bias)"
    found = fused_of(UNSEEN + layer_of(after), bias=MASKS["bias"], **KEPT)
    assert (found["Attention"], found["Softmax"], found["Where"], found["Add"]) == (1, 0, 1, 1)


SPREAD = """
  nought = Constant<value_ints = [0]>()  rest = Constant<value_ints = [1, 72, 72]>()  sizes = Shape(x)
  batch = Gather<axis = 0>(sizes, nought)  wanted = Concat<axis = 0>(batch, rest)  spread = Expand(kept, wanted)
"""


@pytest.mark.parametrize(
    ("chosen", "kept", "left"),
    [
        ("spread, zero, lowest", True, 0),
        ("spread, lowest, zero", False, 0),
        ("spread, zero, lowest", False, 1),
        ("spread, lowest, zero", True, 1),
    ],
)
@pytest.mark.parametrize("masked", ["m = Add(d, mask)", "m = Where({chosen})"], ids=["added", "in place"])
def test_a_mask_that_is_known_to_hide_nothing_is_none(masked: str, chosen: str, kept: bool, left: int):
    """As wav2vec2's without a mask is: left in, its spreading ran on the CPU, and no CUDA graph was to be had."""
    body = f"{SPREAD} mask = Where({chosen}) {layer_of(masked.format(chosen=chosen.replace('zero', 'd')))}"
    model = model_of(f"g (float[n,72,32] x) => (float[n,72,32] y) <{FLOATS}> {{ {NUMBERS} {body} }}", WEIGHTS)
    flags = np.full((1, 1, 1, 72), kept)
    flags[..., 0] ^= bool(left)
    model.graph.initializer.append(numpy_helper.from_array(flags, "kept"))
    found = counts_of(model, {"x": SHAPE})
    assert (found["Attention"], found["Softmax"], found["Where"], found["Expand"]) == (1, 0, left, left)


def test_a_number_that_scores_are_seen_beside_stays_in_their_place():
    low = "low = Constant<value_float = -10000.0>()" + UNSEEN
    assert not fused_of(low + layer_of("m{n} = Where(unseen, low, d{n})"), **KEPT)["Attention"]


FOLDED = """
  q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)  flat = Constant<value_ints = [-1, 72, 8]>()
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)  q3 = Reshape(qh, flat)
  ks = Reshape(k, split)  kh = Transpose<perm = [0, 2, 1, 3]>(ks)  k3 = Reshape(kh, flat)
  vs = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)  v3 = Reshape(vh, flat)
  kt = Transpose<perm = [0, 2, 1]>(k3)  s = MatMul(q3, kt)  d = Div(s, eight)  b = Add(d, {bias})
  apart = Constant<value_ints = [-1, 4, 72, 72]>()  b4 = Reshape(b, apart)  m = Add(b4, mask)
  p = Softmax<axis = -1>(m)  again = Constant<value_ints = [-1, 72, 72]>()  p3 = Reshape(p, again)  o3 = MatMul(p3, v3)
  back = Constant<value_ints = [-1, 4, 72, 8]>()  o = Reshape(o3, back)
  ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  y = MatMul(om, wo)
"""


@pytest.mark.parametrize("queries", ["72", "1"])
def test_batch_and_heads_may_be_one_axis_and_two_again(queries: str):
    """As BLOOM's and DeBERTa's are; a bias of one axis for both is taken apart."""
    shape = f"fold = Constant<value_ints = [-1, {queries}, 72]>()  bias = Reshape(given, fold)"
    given = (f"n,4,{queries},72", (2, 4, int(queries), 72))
    found = fused_of(shape + FOLDED.format(bias="bias"), given=given, mask=MASKS["mask"])
    assert (found["Attention"], found["Softmax"], found["Transpose"]) == (1, 0, 0)


def test_a_bias_for_all_of_one_axis():
    found = fused_of(FOLDED.format(bias="given"), given=("1,72,72", (1, 72, 72)), mask=MASKS["mask"])
    assert (found["Attention"], found["Softmax"]) == (1, 0)


def test_queries_that_something_else_reads_are_not_made_twice():
    """As DeBERTa's are, which relative positions are scored by too."""
    more = "places{n} = MatMul(qh{n}, table)  m{n} = Add(d{n}, places{n})"
    found = fused_of(layer_of(more), {"table": (8, 72)})
    assert (found["MultiHeadAttention"], found["Attention"], found["MatMul"], found["Softmax"]) == (1, 0, 5, 0)


ADDED, IN_PLACE = "m = Add(d, mask)", "m = Where(seen, d, number)"
# As DeBERTa scores places.
WITH_PLACES = "places = MatMul(qh, wp)  far = Div(places, eight)  b = Add(d, far)  m = Where(seen, b, number)"


@pytest.mark.parametrize(
    ("masked", "lowest", "lifted"),
    [
        (ADDED, "-3.4028235e38", -1e29),
        (ADDED, "-2e29", -1e29),
        (ADDED, "-inf", -np.inf),
        (ADDED, "-1e9", -1e9),
        (IN_PLACE, "-3.4028235e38", -1e29),
        (IN_PLACE, "-inf", -np.inf),
        (WITH_PLACES, "-3.4028235e38", -1e29),
        (WITH_PLACES.replace("eight", "nothing"), "-3.4028235e38", -3.4028235e38),
        (WITH_PLACES.replace("Div(places, eight)", "Exp(places)"), "-3.4028235e38", -3.4028235e38),
    ],
)
def test_a_number_that_nothing_is_seen_beside_is_lifted_for_kernels_to_base_2(masked: str, lowest: str, lifted: float):
    """Infinity is left: beside it a row masked out whole is no number, before as after."""
    mask = "seen = Greater(keys, zero)  mask = Where(seen, zero, number)"
    floats = f"{FLOATS}, float nothing = {{0.0}}"
    text = f"g (float[n,72,32] x, float[n,1,1,72] keys) => (float[n,72,32] y) <{floats}> {{ {NUMBERS} {mask} {{}} }}"
    model = model_of(text.replace("{}", layer_of(masked)), {**WEIGHTS, "wp": (8, 72)})
    number = numpy_helper.from_array(np.array(float(lowest), np.float32), "number")
    model.graph.initializer.append(number)
    found = fuse(model, {"x": SHAPE, "keys": (2, 1, 1, 72)})
    assert found is not None
    (choice,) = [node for node in found.model.graph.node if node.op_type == "Where"]
    values = {each.name: numpy_helper.to_array(each) for each in found.model.graph.initializer}
    assert min(values[name].item() for name in choice.input if name in values) == np.float32(lifted)
