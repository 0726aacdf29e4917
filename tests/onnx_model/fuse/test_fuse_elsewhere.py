"""What is fused holds at sizes and for numbers that nobody looked at: each case here once gave other answers there."""

from itertools import combinations

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from ampgraph.onnx_model.fuse.accept import difference
from ampgraph.onnx_model.fuse.elsewhere import apart_sizes, elsewhere, fits, probes, tried_sizes, varied_sizes
from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider
from tests.onnx_model.fuse.answers import model_of

NORM = {"scale": (32,), "shift": (32,)}
WORK = "y0 = LayerNormalization<axis = -1>({}, scale, shift)  a0 = Add(y0, shift)  y = Gelu(a0)"


def with_numbers(model: ModelProto, **numbers: np.ndarray) -> ModelProto:
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(each), name) for name, each in numbers.items())
    return model


def ways(model: ModelProto, shapes: dict, feeds: dict, *, fused: bool = True) -> list[np.ndarray]:
    """The answer of the model, and of the fused one where there is one."""
    found = fuse(model, shapes)
    assert found is not None or not fused
    both = [model] if found is None else [model, for_any_provider(found.model)]
    return [run(open_session(each, provider=CPU, optimize="disabled"), feeds)["y"] for each in both]


def assert_alike(model: ModelProto, shapes: dict, feeds: dict, *, fused: bool = True) -> None:
    expected, *others = ways(model, shapes, feeds, fused=fused)
    for answers in others:
        np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


SLICES = {
    "a bound above": ("e = Constant<value_ints = [512]>()  c = Slice(x, nought, e, first)", 700),
    "a bound below": ("e = Constant<value_ints = [100]>()  c = Slice(x, nought, e, first)", 50),
    "the last ones": ("b = Constant<value_ints = [-512]>()  c = Slice(x, b, whole, first)", 700),
    "half": (
        "n = Shape<start = 1, end = 2>(x)  t = Constant<value_ints = [2]>()  e = Div(n, t)  "
        "c = Slice(x, nought, e, first)",
        256,
    ),
    "a window": (
        "n = Shape<start = 1, end = 2>(x)  t = Constant<value_ints = [512]>()  l = Sub(n, t)  b = Max(l, nought) "
        "c = Slice(x, b, n, first)",
        700,
    ),
    "all": ("n = Shape<start = 1, end = 2>(x)  c = Slice(x, nought, n, first)", 700),
}


@pytest.mark.parametrize("case", SLICES)
def test_slices_of_a_free_axis(case: str) -> None:
    text, length = SLICES[case]
    numbers = """nought = Constant<value_ints = [0]>()  first = Constant<value_ints = [1]>()
      whole = Constant<value_ints = [9223372036854775807]>()"""
    body = (
        f"{numbers} {text} t0 = Transpose<perm = [1, 0, 2]>(c) t1 = Transpose<perm = [1, 0, 2]>(t0) {WORK.format('t1')}"
    )
    model = model_of(f"g (float[b,n,32] x) => (float[b,k,32] y) {{ {body} }}", NORM, 20)
    assert_alike(model, {"x": (2, 128, 32)}, {"x": drawn(2, length, 32)})


def test_a_slice_up_to_the_length_of_another() -> None:
    body = f"""nought = Constant<value_ints = [0]>()  first = Constant<value_ints = [1]>()
      n = Shape<start = 1, end = 2>(z)  c = Slice(x, nought, n, first)  {WORK.format("c")}"""
    model = model_of(f"g (float[b,n,32] x, float[b,m,32] z) => (float[b,k,32] y) {{ {body} }}", NORM, 20)
    assert_alike(model, {"x": (2, 128, 32), "z": (2, 128, 32)}, {"x": drawn(2, 128, 32), "z": drawn(2, 90, 32)})


def test_patches_of_images_of_any_size() -> None:
    body = """c = Conv<strides = [16, 16]>(x, w, b)  to = Constant<value_ints = [0, 32, -1]>()  r = Reshape(c, to)
      t = Transpose<perm = [0, 2, 1]>(r)"""
    text = f"g (float[b,8,h,w] x) => (float[b,k,32] y) {{ {body} {WORK.format('t')} }}"
    model = model_of(text, {"w": (32, 8, 16, 16), "b": (32,), **NORM}, 20)
    for side in (64, 448):
        assert_alike(model, {"x": (1, 8, 224, 224)}, {"x": drawn(1, 8, side, 224)}, fused=False)


ROOT = """axes = Constant<value_ints = [-1]>()  m = ReduceMean(sq, axes)  a = Add(m, {})  r = Sqrt(a)  d2 = Div(x, r)
  y = Mul(d2, scale)"""
LENGTH = "s = Shape<start = 1, end = 2>(x)  o = Constant<value_ints = [0]>()"
SIZED = {
    "an exponent": f"""{LENGTH}  d = Constant<value_ints = [64]>()  k = Div(s, d)  f = Cast<to = 1>(k)
      e = Squeeze(f, o)  sq = Pow(x, e)  {ROOT.format("tiny")}""",
    "a bound": f"""{LENGTH}  f = Cast<to = 1>(s)  n = Squeeze(f, o)  six = Constant<value_float = 6.0>()
      e = Min(n, six)  three = Constant<value_float = 3.0>()  a = Add(x, three)  z = Constant<value_float = 0.0>()
      c = Clip(a, z, e)  t = Mul(x, c)  y1 = Div(t, six)  y = Mul(y1, scale)""",
}


@pytest.mark.parametrize("case", SIZED)
@pytest.mark.parametrize("length", [3, 64, 200])
def test_numbers_that_sizes_decide(case: str, length: int) -> None:
    model = model_of(f"g (float[b,n,32] x) => (float[b,n,32] y) {{ {SIZED[case]} }}", NORM, 20)
    model = with_numbers(model, tiny=np.float32(1e-5))
    assert_alike(model, {"x": (2, 128, 32)}, {"x": 4 * drawn(2, length, 32)}, fused=False)


def test_height_and_width_modelled_alike_are_two() -> None:
    shape = """n = Shape<start = 0, end = 1>(x)  h = Shape<start = 1, end = 2>(x)  w = Shape<start = 2, end = 3>(x)
      c = Constant<value_ints = [32]>()  to = Concat<axis = 0>(n, w, h, c)  r = Reshape(x, to)"""
    model = model_of(f"g (float[b,h,w,32] x) => (float[b,k,l,32] y) {{ {shape} {WORK.format('r')} }}", NORM, 20)
    assert_alike(model, {"x": (2, 32, 32, 32)}, {"x": drawn(2, 16, 8, 32)}, fused=False)


@pytest.mark.parametrize("side", [6, 64])
def test_a_group_normalization_that_turns_images(side: int) -> None:
    body = """to = Constant<value_ints = [0, 4, -1]>()  r = Reshape(x, to)  i = InstanceNormalization(r, ones, zeros)
      n = Shape<start = 0, end = 2>(x)  h = Shape<start = 2, end = 3>(x)  w = Shape<start = 3>(x)
      back = Concat<axis = 0>(n, w, h)  q = Reshape(i, back)  m = Mul(q, by)  y = Add(m, by)"""
    model = model_of(f"g (float[n,8,h,w] x) => (float[n,8,k,l] y) {{ {body} }}", {"by": (8, 1, 1)})
    model = with_numbers(model, ones=np.ones(4, np.float32), zeros=np.zeros(4, np.float32))
    assert_alike(model, {"x": (2, 8, side, side)}, {"x": drawn(2, 8, 4, 6)}, fused=False)


OVERRIDDEN = {
    "an epsilon": (
        f"e2 = Mul(given, given)  sq = Mul(x, x)  {ROOT.format('e2')}",
        np.array(0.01, np.float32),
        np.array(5, np.float32),
    ),
    "a shape": (f"r = Reshape(x, given) {WORK.format('r')}", np.array([-1, 5, 32]), np.array([1, -1, 32])),
    "an end": (
        "nought = Constant<value_ints = [0]>()  first = Constant<value_ints = [1]>()  "
        f"c = Slice(x, nought, given, first) {WORK.format('c')}",
        np.array([3]),
        np.array([4]),
    ),
}


@pytest.mark.parametrize("case", OVERRIDDEN)
def test_constants_that_callers_may_give_are_none(case: str) -> None:
    body, default, given = OVERRIDDEN[case]
    model = with_numbers(model_of(f"g (float[n,5,32] x) => (float[n,k,32] y) {{ {body} }}", NORM, 20), given=default)
    kind = model.graph.initializer[-1].data_type
    model.graph.input.append(helper.make_tensor_value_info("given", kind, list(np.shape(default))))
    assert_alike(model, {"x": (2, 5, 32)}, {"x": drawn(2, 5, 32), "given": given}, fused=False)


def test_a_sum_between_two_products_is_carried_once() -> None:
    body = "a = Add(x, r0) p = MatMul(a, w1) q = Add(p, b1) r = MatMul(q, w2) y0 = Add(r, b2) y = Gelu(y0)"
    rows = dict.fromkeys(("r0", "b1", "b2"), (16,))
    model = model_of(
        f"g (float[n,5,16] x) => (float[n,5,16] y) {{ {body} }}", {"w1": (16, 16), "w2": (16, 16), **rows}, 20
    )
    assert_alike(model, {"x": (2, 5, 16)}, {"x": drawn(2, 5, 16)})


def test_only_what_is_divided_by_the_root_of_two_is_in_a_gelu() -> None:
    numbers = {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    body = "d = Div(root, x) e = Erf(d) p = Add(e, one) m = Mul(x, p) y = Mul(m, half)"
    model = with_numbers(model_of(f"g (float[n,5,16] x) => (float[n,5,16] y) {{ {body} }}"), **numbers)
    assert_alike(model, {"x": (2, 5, 16)}, {"x": drawn(2, 5, 16)}, fused=False)


# attention

WEIGHTS = {f"w{each}": (32, 32) for each in "qkvo"}
SPLIT = """split = Constant<value_ints = [0, 0, 4, 8]>()  whole = Constant<value_ints = [0, 0, 32]>()
  q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
  qs = Reshape(q, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)  ks = Reshape(k, split)
  kt = Transpose<perm = [0, 2, 3, 1]>(ks)  vs = Reshape(v, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  s = MatMul(qh, kt)  d = Div(s, eight)"""
JOIN = "o = MatMul(p, vh)  ot = Transpose<perm = [0, 2, 1, 3]>(o)  om = Reshape(ot, whole)  y = MatMul(om, wo)"
GUARD = "p0 = Softmax<axis = -1>(m)  nan = IsNaN(p0)  p = Where(nan, zero, p0)"
PLACES = """size = Shape<start = 1, end = 2>(x)  n = Squeeze(size)  zeroth = Constant<value_int = 0>()
  step = Constant<value_int = 1>()  places = Range(zeroth, n, step)  last = Constant<value_ints = [1]>()
  column = Unsqueeze(places, last)  ok = LessOrEqual(places, column)"""


def attending(masked: str, weights: str = "p = Softmax<axis = -1>(m)", more: str = "", opset: int = 17) -> ModelProto:
    text = f"g (float[b,t,32] x{more}) => (float[b,u,32] y) {{ {SPLIT} {masked} {weights} {JOIN} }}"
    numbers = {"eight": np.float32(2.828), "zero": np.float32(0), "lowest": np.float32(-3.4028235e38)}
    return with_numbers(model_of(text, WEIGHTS, opset), nothing=np.float32(-np.inf), **numbers)


MASKED = {
    "added": "mask = Where(keep, zero, nothing)  m = Add(d, mask)",
    "replaced": "m = Where(keep, d, nothing)",
    "beside a causal one": f"{PLACES}  seen = And(ok, keep)  mask = Where(seen, zero, nothing)  m = Add(d, mask)",
    "after a causal one": f"{PLACES}  a = Where(ok, d, nothing)  m = Where(keep, a, nothing)",
    "before a causal one": f"{PLACES}  a = Where(keep, d, nothing)  m = Where(ok, a, nothing)",
    "of no use": "mask = Where(keep, zero, lowest)  m = Add(d, mask)",
}


@pytest.mark.parametrize("masked", MASKED)
@pytest.mark.parametrize("opset", [17, 20])
def test_rows_that_are_masked_out_whole_stay_zeros(masked: str, opset: int) -> None:
    """As torch writes attention with masks of booleans: of a row of -inf nothing is left, and NaN would spread."""
    model = attending(MASKED[masked], GUARD, ", bool[b,1,1,t] keep", opset)
    keep = np.ones((2, 1, 1, 96), bool)
    keep[0], keep[1, ..., :40] = False, False
    shapes, feeds = {"x": (2, 128, 32), "keep": (2, 1, 1, 128)}, {"x": drawn(2, 96, 32), "keep": keep}
    assert_alike(model, shapes, feeds)
    assert np.isfinite(ways(model, shapes, feeds)[1]).all()
    assert not difference(model, fuse(model, shapes).model, shapes, None)


def test_a_guard_that_nothing_needs_costs_nothing() -> None:
    found = fuse(attending("m = Identity(d)", GUARD), {"x": (2, 128, 32)})
    assert [node.op_type for node in found.model.graph.node] == ["Attention", "MatMul"]


BLOCKS = {
    "of 64": "b = Constant<value_int = 64>()  i = Div(column, b)  j = Div(places, b)  far = Sub(i, j)  "
    "near = LessOrEqual(far, step)",
    "of 16 times 32": "b = Constant<value_int = 16>()  c = Constant<value_int = 32>()  i0 = Div(column, b)  "
    "i = Div(i0, c)  j0 = Div(places, b)  j = Div(j0, c)  near = Equal(i, j)",
}


@pytest.mark.parametrize("case", BLOCKS)
def test_blocks_that_are_longer_than_modelled_are_no_causal_mask(case: str) -> None:
    masked = f"{PLACES}  {BLOCKS[case]}  seen = And(ok, near)  mask = Where(seen, zero, lowest)  m = Add(d, mask)"
    assert_alike(attending(masked), {"x": (2, 100, 32)}, {"x": drawn(2, 600, 32)})


@pytest.mark.parametrize("low", [-1e4, -1e9, -3.4028235e38])
@pytest.mark.parametrize("after", ["Identity(a)", "Add(a, zero)"], ids=["at once", "with a constant between"])
def test_padding_tokens_see_what_they_saw(low: float, after: str) -> None:
    """A causal mask of -1e4 after a mask of -1e4: a token with nothing before it sees what comes later."""
    number = f"low = Constant<value_float = {low!r}>()"
    masked = f"{PLACES}  {number}  mask = Where(ok, zero, low)  a = Add(d, pad)  b = {after}  m = Add(b, mask)"
    pad = np.zeros((2, 1, 1, 96), np.float32)
    pad[0, ..., :20] = max(low, -1e9)
    shapes = {"x": (2, 128, 32), "pad": (2, 1, 1, 128)}
    assert_alike(attending(masked, more=", float[b,1,1,t] pad"), shapes, {"x": drawn(2, 96, 32), "pad": pad})


def test_a_scale_that_sizes_decide() -> None:
    scale = """size = Shape<start = 1, end = 2>(x)  w = Constant<value_ints = [512]>()  a = Div(size, w)
      one = Constant<value_ints = [1]>()  c = Max(a, one)  f = Cast<to = 1>(c)  m = Mul(d, f)"""
    assert_alike(attending(scale), {"x": (1, 128, 32)}, {"x": drawn(1, 1500, 32)}, fused=False)


def test_a_squeeze_of_whatever_is_one() -> None:
    model = attending("m = Identity(d)")
    model.graph.node[-1].output[0] = "made"
    model.graph.node.extend(
        [helper.make_node("Squeeze", ["made"], ["flat"]), helper.make_node("Relu", ["flat"], ["y"])]
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert_alike(model, {"x": (4, 128, 32)}, {"x": drawn(1, 128, 32)})


def test_masks_of_three_axes_before_axes_were_inputs() -> None:
    model = attending("m = Add(d, mask)", more=", float[1,t,t] mask", opset=12)
    found = fuse(model, {"x": (2, 128, 32), "mask": (1, 128, 128)})
    assert "Attention" in [node.op_type for node in found.model.graph.node]
    assert_alike(model, {"x": (2, 128, 32), "mask": (1, 128, 128)}, {"x": drawn(2, 70, 32), "mask": drawn(1, 70, 70)})


@pytest.mark.parametrize("last", ["y", "body"])
def test_attention_that_ends_in_a_name_that_must_stay(last: str) -> None:
    """A graph's output, or what the body of an If reads."""
    model = attending("m = Identity(d)")
    del model.graph.node[-1]
    if last == "y":
        model.graph.node[-1].output[0] = "y"
    else:
        kinds = [helper.make_empty_tensor_value_info(name) for name in ("one", "two")]
        bodies = [
            helper.make_graph([helper.make_node(op, ["om"], [kind.name])], op, [], [kind])
            for op, kind in zip(("Relu", "Abs"), kinds, strict=True)
        ]
        branches = {"then_branch": bodies[0], "else_branch": bodies[1]}
        model.graph.node.append(helper.make_node("If", ["yes"], ["y"], **branches))
        model = with_numbers(model, yes=np.array(True))
    found = fuse(model, {"x": (2, 128, 32)})
    assert {"Attention", "Softmax"} & {node.op_type for node in found.model.graph.node} == {"Attention"}
    assert_alike(model, {"x": (2, 128, 32)}, {"x": drawn(2, 90, 32)})


# the sizes themselves

FREE = "g (float[b,n,32] x, float[b,m,32] z, float[4,m] f) => (float[b,n,32] y) { y = Relu(x) }"
SHAPES = {"x": (2, 128, 32), "z": (2, 128, 32), "f": (4, 128)}


def test_symbols_move_together_and_apart_from_others() -> None:
    model = model_of(FREE)
    seen: list[dict] = []

    def infer(sizes: dict) -> dict:
        seen.append(sizes)
        return sizes

    for sign in (1, -1):
        elsewhere(model, SHAPES, infer, lambda _: 0, 1, sign)
    for sizes in (*seen, *probes(model, SHAPES)[:2], apart_sizes(model, SHAPES), tried_sizes(model, SHAPES)):
        assert sizes["x"][0] == sizes["z"][0]
        assert sizes["z"][1] == sizes["f"][1] != 128
        assert sizes["x"][2] == 32
        assert sizes["f"][0] == 4
    assert seen[0]["x"] == (4, 128 * 3, 32)
    assert seen[0]["z"] == (4, 128 * 4, 32)
    assert seen[1] == {"x": (4, 256, 32), "z": (4, 256, 32), "f": (4, 256)}
    assert varied_sizes(model, {"x": (1, 128, 32)}) == {"x": (2, 128, 32)}


def test_of_any_two_symbols_one_is_1_where_the_other_is_not() -> None:
    text = "g (float[a,b,32] x, float[c,?] z, float[d,a] f) => (float[a,b,32] y) { y = Relu(x) }"
    shapes = {"x": (7, 7, 32), "z": (7, 7), "f": (7, 7)}
    ones = probes(model_of(text), shapes)[2:]
    assert len(ones) == 3
    assert all(sizes["x"][2] == 32 and sizes["x"][0] == sizes["f"][1] for sizes in ones)
    places = [("x", 0), ("x", 1), ("z", 0), ("z", 1), ("f", 0)]
    for one, other in combinations(places, 2):
        assert any({sizes[name][axis] for name, axis in (one, other)} == {1, 7} for sizes in ones)
    assert not probes(model_of("g (float[a,a] x) => (float[a,a] y) { y = Relu(x) }"), {"x": (7, 7)})[2:]


@pytest.mark.parametrize(
    ("made", "fit"), [((6, 4), True), ((4, 6), True), ((6, 5), False), ((0, 6), False), (None, True)]
)
def test_sizes_that_a_reshape_does_not_fill_are_none(made: tuple[int, ...] | None, fit: bool) -> None:
    model = model_of("g (float[n,m] x, int64[2] s) => (float[a,b] y) { r = Reshape(x, s)  y = Relu(r) }")
    sizes = {"x": (3, 8), "s": (2,), **({"r": made} if made is not None else {})}
    assert fits(model, sizes) is fit


ADDED = {
    "a batch": "float[a,72,32] x, float[b,72,32] z",
    "tokens": "float[2,a,32] x, float[2,b,32] z",
    "tokens of a row for all": "float[n,a,32] x, float[1,b,32] z",
    "three that may be others": "float[a,72,32] o, float[b,72,32] x, float[c,72,32] z",
}


@pytest.mark.parametrize("case", ADDED)
@pytest.mark.parametrize("flipped", [False, True])
def test_what_may_be_broadcast_is_not_taken_for_alike(case: str, flipped: bool) -> None:
    """Kernels that add and normalize read one operand's shape as all operands'."""
    inputs, shape = ADDED[case], (2, 72, 32)
    names = "z, q" if flipped else "q, z"
    other = "r = Add(q0, o)  q = Identity(r)" if " o," in inputs else "q = Identity(q0)"
    body = f"q0 = MatMul(x, w)  {other}  s = Add({names})  l = LayerNormalization<axis = -1>(s, scale)  y = Gelu(l)"
    model = model_of(f"g ({inputs}) => (float y) {{ {body} }}", {"w": (32, 32), "scale": (32,)}, 20)
    names_of = [value.name for value in model.graph.input]
    axis = 1 if "tokens" in case else 0
    for sizes in ((1, 3, 3), (3, 1, 1), (3, 3, 1), (1, 1, 3), (3, 3, 3)):
        feeds = {}
        for name, size in zip(names_of, sizes, strict=False):
            first = 1 if name == "z" and "row" in case else shape[0]
            feeds[name] = drawn(*((size, *shape[1:]) if axis == 0 else (first, size, 32)))
        modelled = {name: (1 if name == "z" and "row" in case else shape[0], *shape[1:]) for name in names_of}
        assert_alike(model, modelled, feeds, fused=False)


def test_the_sizes_that_tell_enough_are_taken_and_else_those_that_tell_most() -> None:
    model = model_of(FREE)
    tells = {(4, 384): 2, (4, 256): 5, (3, 129): 3}
    infer = lambda sizes: sizes["x"][:2]  # noqa: E731
    assert elsewhere(model, SHAPES, infer, lambda found: tells.get(found, 0), 3) == (4, 256)
    assert elsewhere(model, SHAPES, infer, lambda found: tells.get(found, 0), 9) == (4, 256)
