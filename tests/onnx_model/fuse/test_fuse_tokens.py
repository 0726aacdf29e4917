"""Masks of every query alike, as kernels take them: how many queries there are is asked of what all layers have."""

from collections import Counter

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPES = {"x": (2, 72, 32), "mask": (2, 1, 1, 72)}
NUMBERS = """
  <float root = {8.0}>
"""
LAYER = """
  {x}p_ = MatMul({x}, w)  {x}p = Add({x}p_, b)  {x}q, {x}k, {x}v = Split<axis = -1, num_outputs = 3>({x}p)
  {x}q4 = Reshape({x}q, four)  {x}k4 = Reshape({x}k, four)  {x}v4 = Reshape({x}v, four)
  {x}qh = Transpose<perm = [0, 2, 1, 3]>({x}q4)  {x}kh = Transpose<perm = [0, 2, 3, 1]>({x}k4)
  {x}vh = Transpose<perm = [0, 2, 1, 3]>({x}v4)  {x}s = MatMul({x}qh, {x}kh)  {x}d = Div({x}s, root)
  {x}m = Add({x}d, mask)  {x}a = Softmax<axis = -1>({x}m)  {x}o = MatMul({x}a, {x}vh)
  {x}t = Transpose<perm = [0, 2, 1, 3]>({x}o)  {x}r = Reshape({x}t, whole)  {x}w = MatMul({x}r, wo)
"""
CONSTANTS = "four = Constant<value_ints = [0, 0, 4, 8]>()  whole = Constant<value_ints = [0, 0, 32]>()"
WEIGHTS = {"w": (32, 96), "b": (96,), "wo": (32, 32), "table": (9, 32), "scale": (32,)}


def fused_of(body: str, dims: str = "n,t") -> Counter[str]:
    text = f"g (float[{dims},32] x, float[n,1,1,t] mask) => (float[{dims},32] y) {NUMBERS} {{ {CONSTANTS} {body} }}"
    return counts_of(model_of(text, WEIGHTS, 18), SHAPES)


def test_a_projection_is_made_once():
    """By the kernel: nothing else keeps it."""
    found = fused_of(LAYER.format(x="x") + "y = Relu(xw)")
    assert (found["Attention"], found["MatMul"], found["Shape"]) == (1, 1, 1)


def test_layers_share_what_they_make_of_a_mask():
    """Whether sums or normalizations are between them."""
    between = "z_ = Add(xw, x)  z = LayerNormalization(z_, scale)"
    found = fused_of(LAYER.format(x="x") + between + LAYER.format(x="z") + "y = Add(zw, z)")
    assert (found["Attention"], found["MatMul"], found["Expand"], found["Shape"]) == (2, 2, 1, 1)


def test_what_is_broadcast_is_not_asked():
    """A row that is added to every token has none of its own."""
    body = "row = Slice(x, zero, one, one)  z = Add(row, x)" + LAYER.format(x="z") + "y = Relu(zw)"
    numbers = "zero = Constant<value_ints = [0]>()  one = Constant<value_ints = [1]>()"
    found = fused_of(numbers + body)
    assert (found["Attention"], found["Shape"]) == (1, 1)


def test_indices_are_asked():
    """Of an embedding, which are what a model is given."""
    body = "x = Gather(table, indices)" + LAYER.format(x="x") + "y = Relu(xw)"
    text = f"g (int64[n,t] indices, float[n,1,1,t] mask) => (float[n,t,32] y) {NUMBERS} {{ {CONSTANTS} {body} }}"
    found = fuse(model_of(text, WEIGHTS, 18), {"indices": (2, 72), "mask": (2, 1, 1, 72)})
    assert found is not None
    assert [list(each.input) for each in found.model.graph.node if each.op_type == "Shape"] == [["indices"]]


def test_what_may_have_one_token_for_all_is_not_asked():
    """Two inputs of free sizes, of which either may be broadcast."""
    body = "z = Add(o, x)" + LAYER.format(x="z") + "y = Relu(zw)"
    inputs = "float[n,a,32] o, float[n,b,32] x, float[n,1,1,t] mask"
    model = model_of(f"g ({inputs}) => (float[n,t,32] y) {NUMBERS} {{ {CONSTANTS} {body} }}", WEIGHTS, 18)
    found = fuse(model, {"o": (2, 72, 32), **SHAPES})
    assert found is not None
    assert [list(each.input) for each in found.model.graph.node if each.op_type == "Shape"] == [["z"]]
