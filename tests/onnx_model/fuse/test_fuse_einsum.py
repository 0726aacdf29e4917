"""Einsums that are products of matrices become that, and attention written with them one kernel."""

from collections import Counter

import numpy as np
import pytest
from answers import counts_of, model_of
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from ampgraph.onnx_model.fuse.einsum import fuse_einsum
from ampgraph.onnx_model.fuse.net import read, rewritten
from ampgraph.onnx_model.run import CPU, open_session, random_inputs, run
from ampgraph.onnx_model.types import infer, types_in

SIZES = {"a": 2, "b": 3, "i": 4, "j": 5, "d": 6}


def model(left: str, right: str, result: str, before: str = "", operands: str = "x, z") -> ModelProto:
    one, other, made = (",".join(str(SIZES[label]) for label in labels) for labels in (left, right, result))
    return model_of(f"""g (float[{one}] x, float[{other}] z) => (float[{made}] y) <float half = {{0.5}}> {{
        {before} y = Einsum<equation = "{" ".join(left)}, {" ".join(right)} -> {" ".join(result)}">({operands}) }}""")


def rewriting(source: ModelProto) -> Counter[str]:
    """Operators after it, whose answers are the model's own."""
    shapes = {name: each.shape for name, each in types_in(infer(source, {}).graph).items() if each.shape is not None}
    found = rewritten(source, [fuse_einsum(read(source, shapes, {}))])
    feeds = random_inputs(source)
    one, other = (run(open_session(each, provider=CPU), feeds) for each in (source, found))
    np.testing.assert_allclose(other["y"], one["y"], rtol=1e-5, atol=1e-5)
    return Counter(node.op_type for node in found.graph.node)


@settings(max_examples=40, deadline=None)
@given(st.permutations("abid"), st.permutations("abdj"), st.permutations("abij"))
def test_whatever_the_order_of_axes(left: list[str], right: list[str], result: list[str]) -> None:
    found = rewriting(model("".join(left), "".join(right), "".join(result)))
    assert (found["MatMul"], found["Einsum"]) == (1, 0)
    assert found["Transpose"] <= 3


@pytest.mark.parametrize(
    ("equation", "transposes"),
    [(("abid", "abjd", "abij"), 1), (("abij", "abjd", "abid"), 0), (("id", "dj", "ij"), 0), (("id", "dj", "ji"), 1)],
)
def test_what_lies_right_is_not_turned(equation: tuple[str, str, str], transposes: int) -> None:
    assert rewriting(model(*equation)) == Counter(MatMul=1, Transpose=transposes) + Counter()


@pytest.mark.parametrize("before", ["h = Mul(z, half)", "h = Mul(half, z)"])
def test_a_factor_goes_behind(before: str) -> None:
    found = rewriting(model("abid", "abjd", "abij", before, "x, h"))
    assert found == {"Transpose": 1, "MatMul": 1, "Mul": 1}


@pytest.mark.parametrize(
    "equation",
    [
        ("abid", "abd", "abi"),  # a vector
        ("abi", "bij", "aj"),  # two axes at a time
        ("abid", "jd", "abij"),  # of all batches
        ("aid", "ajd", "ij"),  # the batches are added up
        ("abi", "abj", "abij"),  # nothing is added up
        ("aid", "bdj", "abij"),  # each with each
    ],
)
def test_others_stay(equation: tuple[str, str, str]) -> None:
    assert rewriting(model(*equation)) == {"Einsum": 1}


@pytest.mark.parametrize("equation", ["ii,ij->ij", "...id,...jd->...ij", "aid->ad", "aid,aid,aid->ad"])
def test_equations_of_other_kinds_stay(equation: str) -> None:
    count = equation.count(",") + 1
    inputs = {"ii,ij->ij": "x, x", "aid->ad": "x"}.get(equation, ", ".join(["x"] * count))
    shape = "4,4" if equation.startswith("ii") else "2,4,6"
    source = model_of(
        f"g (float[{shape}] x) => (float[{', '.join('ABC'[: len(equation.split('->')[1].replace('...', 'a'))])}] y)"
        f'{{ y = Einsum<equation = "{equation}">({inputs}) }}'
    )
    assert rewriting(source) == {"Einsum": 1}


def test_attention_in_windows_that_is_written_so_is_one_kernel() -> None:
    """torchvision's MaxViT."""
    body = """
      grid = Constant<value_ints = [-1, 2, 8, 2, 8, 16]>()  whole = Constant<value_ints = [-1, 4, 64, 16]>()
      a = Reshape(x, grid)  b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a)  t = Reshape(b, whole)
      pm = MatMul(t, wp)  p = Add(pm, bp)  q0, k0, v0 = Split<axis = 3>(p)
      five = Constant<value_ints = [-1, 4, 64, 2, 8]>()
      q1 = Reshape(q0, five)  q = Transpose<perm = [0, 1, 3, 2, 4]>(q1)
      k1 = Reshape(k0, five)  k2 = Transpose<perm = [0, 1, 3, 2, 4]>(k1)  k = Mul(k2, root)
      v1 = Reshape(v0, five)  v = Transpose<perm = [0, 1, 3, 2, 4]>(v1)
      s0 = Einsum<equation = "B G H I D, B G H J D -> B G H I J">(q, k)  s = Add(s0, table)  w = Softmax<axis = -1>(s)
      o1 = Einsum<equation = "B G H I J, B G H J D -> B G H I D">(w, v)  o2 = Transpose<perm = [0, 1, 3, 2, 4]>(o1)
      back = Constant<value_ints = [-1, 2, 2, 8, 8, 16]>()  image = Constant<value_ints = [-1, 16, 16, 16]>()
      o3 = Reshape(o2, back)  o4 = Transpose<perm = [0, 1, 3, 2, 4, 5]>(o3)  o5 = Reshape(o4, image)
      y = Add(x, o5)"""
    source = model_of(
        f"g (float[n,16,16,16] x) => (float[n,16,16,16] y) <float root = {{0.35}}> {{ {body} }}",
        {"wp": (16, 48), "bp": (48,), "table": (1, 2, 64, 64)},
    )
    counts = counts_of(source, {"x": (3, 16, 16, 16)})
    assert (counts["MultiHeadAttention"], counts["Einsum"], counts["Softmax"]) == (1, 0, 0)
