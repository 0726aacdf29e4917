"""A mask that is causal for every input becomes an attribute of the attention; any other mask stays a mask."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper, parser

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session, run

TOKENS, WIDTH = 72, 32
SHAPE = (3, TOKENS, WIDTH)
LOWEST = float(np.finfo(np.float32).min)
TRIANGLE = np.tril(np.ones((TOKENS, TOKENS), bool))

HEADS = """
  a = MatMul(x, wq)  b = MatMul(x, wk)  c = MatMul(x, wv)  split = Constant<value_ints = [0, 0, 4, 8]>()
  qs = Reshape(a, split)  qh = Transpose<perm = [0, 2, 1, 3]>(qs)  ks = Reshape(b, split)
  kt = Transpose<perm = [0, 2, 3, 1]>(ks)  vs = Reshape(c, split)  vh = Transpose<perm = [0, 2, 1, 3]>(vs)
  s = MatMul(qh, kt)  d = Mul(s, root)
"""
REST = """
  o = MatMul(p, vh)  ot = Transpose<perm = [0, 2, 1, 3]>(o)
  whole = Constant<value_ints = [0, 0, 32]>()  om = Reshape(ot, whole)  y = MatMul(om, wo)
"""
SOFTMAX = "p = Softmax<axis = -1>(m)"
GUARDED = """p0 = Softmax<axis = -1>(m)  nan = IsNaN(p0)  p = Where(nan, zero, p0)"""
ADDED = f"m = Add(d, mask)  {SOFTMAX}"
PLACES = """
  size = Shape<start = 1, end = 2>(x)  n = Squeeze(size)  zeroth = Constant<value_int = 0>()
  first = Constant<value_int = 1>()  places = Range(zeroth, n, first)
  last = Constant<value_ints = [1]>()  column = Unsqueeze(places, last)
"""
COMPUTED = f"{PLACES}  ok = LessOrEqual(places, column)  mask = Where(ok, zero, low)"


def model_of(
    masked: str, dims: str = "n,72,32", more: str = "", heads: str = HEADS, **tables: np.ndarray
) -> ModelProto:
    numbers = f"<float root = {{0.3}}, float zero = {{0.0}}, float low = {{{LOWEST}}}>"
    inputs = f"float[{dims}] x{more}"
    text = f"g ({inputs}) => (float[{dims}] y) {numbers} {{ {heads} {masked} {REST} }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    generator = np.random.default_rng(0)
    for name in ("wq", "wk", "wv", "wo"):
        values = generator.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
        tables[name] = values.astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in tables.items())
    return prepare(model)


def attention_of(model: ModelProto, tokens: int = TOKENS, **others: np.ndarray) -> tuple[bool, bool]:
    """Whether the fused attention is causal and whether it reads a mask; its answers are the model's own."""
    shapes = {"x": SHAPE} | {name: value.shape for name, value in others.items()}
    found = fuse(model, shapes)
    assert found is not None
    onnx.checker.check_model(found.model, full_check=True)
    feeds = others | {"x": np.random.default_rng(1).standard_normal((SHAPE[0], tokens, WIDTH)).astype(np.float32)}
    sessions = [open_session(each, provider=CPU, optimize="disabled") for each in (model, found.model)]
    expected, answers = (run(session, feeds)["y"] for session in sessions)
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    kinds = ("Attention", "MultiHeadAttention")
    node = next(each for each in found.model.graph.node if each.op_type in kinds)
    makers = {name for each in found.model.graph.node for name in each.output}
    given = {name for each in found.model.graph.initializer for name in [each.name]}
    biased = len(node.input) > 5 and node.input[5] in makers | given | set(others)
    return any(each.name == "unidirectional" and each.i for each in node.attribute), biased


def table_of(values: np.ndarray) -> np.ndarray:
    return np.where(values, 0, LOWEST).astype(np.float32)


@pytest.mark.parametrize("value", [LOWEST, -np.inf, -1e4])
def test_a_constant_mask_is_causal(value):
    table = np.where(TRIANGLE, 0, value).astype(np.float32)[None, None]
    assert attention_of(model_of(ADDED, mask=table)) == (True, False)


def test_separate_sources_are_causal_too():
    heads = HEADS.replace("MatMul(x, wk)", "MatMul(z, wk)")
    model = model_of(ADDED, more=", float[n,72,32] z", heads=heads, mask=table_of(TRIANGLE))
    memory = np.random.default_rng(2).standard_normal(SHAPE).astype(np.float32)
    assert attention_of(model, z=memory) == (True, False)


@pytest.mark.parametrize("softmax", [SOFTMAX, GUARDED], ids=["bare", "guarded"])
@pytest.mark.parametrize("dims", ["n,72,32", "n,t,32"], ids=["fixed", "free"])
def test_a_mask_computed_of_sizes_is_causal(softmax, dims):
    model = model_of(f"{COMPUTED}  m = Add(d, mask)  {softmax}", dims)
    assert attention_of(model) == (True, False)
    found = fuse(model, {"x": SHAPE})
    assert found is not None
    assert not {"Range", "LessOrEqual", "Where", "Softmax"} & {node.op_type for node in found.model.graph.node}


def test_a_free_length_is_causal_at_other_lengths():
    assert attention_of(model_of(f"{COMPUTED}  {ADDED}", "n,t,32"), tokens=200) == (True, False)


def test_a_mask_computed_of_the_sizes_of_other_values_is_causal():
    mask = """
      qsize = Shape<start = 2, end = 3>(qh)  ksize = Shape<start = 3>(kt)  both = Concat<axis = 0>(qsize, ksize)
      lows = Expand(low, both)  diagonal = Constant<value_int = 1>()  mask = Trilu<upper = 1>(lows, diagonal)
    """
    assert attention_of(model_of(f"{mask} {ADDED}")) == (True, False)


@pytest.mark.parametrize(
    "chosen",
    ["ok = LessOrEqual(places, column)  m = Where(ok, d, low)", "no = Less(column, places)  m = Where(no, low, d)"],
)
def test_a_condition_that_keeps_or_replaces_scores_is_causal(chosen):
    assert attention_of(model_of(f"{PLACES} {chosen} {SOFTMAX}")) == (True, False)


def test_a_table_longer_than_the_tokens_is_causal_where_it_is_triangular():
    cut = """
      size = Shape<start = 1, end = 2>(x)  from = Constant<value_ints = [0]>()
      rows = Constant<value_ints = [0]>()  columns = Constant<value_ints = [1]>()
      t1 = Slice(table, from, size, rows)  t2 = Slice(t1, from, size, columns)  m = Where(t2, d, low)
    """
    whole = np.tril(np.ones((256, 256), bool))
    assert attention_of(model_of(f"{cut} {SOFTMAX}", "n,t,32", table=whole), tokens=200) == (True, False)
    other = model_of(f"{cut} {SOFTMAX}", "n,t,32", table=whole & ~np.tril(whole, -100))
    assert attention_of(other, tokens=200) == (False, True)


WINDOW = f"""{PLACES}  ok = LessOrEqual(places, column)  far = Sub(column, places)
  near = Less(far, window)  both = And(ok, near)  mask = Where(both, zero, low)  {ADDED}"""


def test_a_sliding_window_is_not_causal():
    assert attention_of(model_of(WINDOW, window=np.array(20))) == (False, True)


def test_a_window_wider_than_the_modelled_length_is_not_causal_where_the_length_is_free():
    assert attention_of(model_of(WINDOW, "n,t,32", window=np.array(100)), tokens=150) == (False, True)
    assert attention_of(model_of(WINDOW, window=np.array(100))) == (True, False)


def test_a_mask_of_data_is_not_causal():
    more = ", float[1,1,72,72] mask"
    assert attention_of(model_of(ADDED, more=more), mask=table_of(TRIANGLE)[None, None]) == (False, True)
    padded = f"{COMPUTED}  both = Add(mask, padding)  m = Add(d, both)  {SOFTMAX}"
    padding = np.where(np.arange(TOKENS) < 60, 0, -100).astype(np.float32)[None, None, None]
    assert attention_of(model_of(padded, more=", float[1,1,1,72] padding"), padding=padding) == (False, True)


@pytest.mark.parametrize(
    "mask",
    [
        np.where(TRIANGLE, 0, -9e3),
        np.where(TRIANGLE, 1.0, LOWEST),
        np.where(np.tril(TRIANGLE, -1) | (np.arange(TOKENS) == 0), 0, LOWEST),
        np.where(TRIANGLE.T, 0, LOWEST),
    ],
    ids=["too weak", "not zero", "not oneself", "the other way"],
)
def test_masks_that_are_nearly_causal_stay(mask):
    assert attention_of(model_of(ADDED, mask=mask.astype(np.float32))) == (False, True)


def test_a_head_of_its_own_kind_keeps_the_mask():
    table = np.stack([table_of(TRIANGLE)] * 3 + [np.zeros((TOKENS, TOKENS), np.float32)])[None]
    assert attention_of(model_of(ADDED, mask=table)) == (False, True)


def test_lengths_that_are_only_modelled_alike_keep_the_mask():
    heads = HEADS.replace("MatMul(x, wk)", "MatMul(z, wk)").replace("MatMul(x, wv)", "MatMul(z, wv)")
    mask = """
      qsize = Shape<start = 2, end = 3>(qh)  ksize = Shape<start = 3>(kt)  both = Concat<axis = 0>(qsize, ksize)
      lows = Expand(low, both)  diagonal = Constant<value_int = 1>()  mask = Trilu<upper = 1>(lows, diagonal)
    """
    model = model_of(f"{mask} {ADDED}", "n,t,32", ", float[n,s,32] z", heads)
    memory = np.random.default_rng(2).standard_normal(SHAPE).astype(np.float32)
    assert attention_of(model, z=memory) == (False, True)


def test_lengths_that_differ_keep_the_mask():
    heads = HEADS.replace("MatMul(x, wk)", "MatMul(z, wk)").replace("MatMul(x, wv)", "MatMul(z, wv)")
    table = table_of(np.tril(np.ones((TOKENS, 80), bool)))
    model = model_of(ADDED, more=", float[n,80,32] z", heads=heads, mask=table)
    memory = np.random.default_rng(2).standard_normal((SHAPE[0], 80, WIDTH)).astype(np.float32)
    assert attention_of(model, z=memory) == (False, True)
