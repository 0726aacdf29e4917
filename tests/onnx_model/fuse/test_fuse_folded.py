"""What small constants decide becomes one."""

from collections import Counter

import numpy as np
import pytest
from answers import model_of

from ampgraph.onnx_model.fuse.folded import with_folded
from ampgraph.onnx_model.run import CPU, open_session, random_inputs, run


def left(body: str, weights: dict[str, tuple[int, ...]] | None = None, outputs: str = "float[2,3] y") -> Counter[str]:
    source = model_of(f"g (float[2,3] x) => ({outputs}) {{ {body} }}", {"w": (3,), **(weights or {})})
    found = with_folded(source, {})
    feeds = random_inputs(source)
    one, other = (run(open_session(each, provider=CPU), feeds) for each in (source, found))
    np.testing.assert_allclose(other["y"], one["y"], rtol=1e-6)
    return Counter(node.op_type for node in found.graph.node)


def test_a_chain_is_one_constant() -> None:
    assert left("a = Exp(w)  b = Neg(a)  y = Add(x, b)") == {"Add": 1}


def test_two_that_are_read_are_two() -> None:
    assert left("a = Exp(w)  b = Neg(a)  c = Add(x, b)  y = Mul(c, a)") == {"Add": 1, "Mul": 1}


@pytest.mark.parametrize(
    ("body", "weights", "kept"),
    [
        ("a = Neg(big)  b = Slice(a, zero, three)  y = Add(x, b)", {"big": (2**16 + 1,)}, "Neg"),
        ("a = RandomUniformLike(w)  b = Sub(a, a)  y = Add(x, b)", {}, "RandomUniformLike"),
        ("a, b = TopK<axis = 0>(w, three)  y = Add(x, a)", {}, "TopK"),
        ("s = Shape(x)  f = Cast<to = 1>(s)  m = ReduceMax<keepdims = 0>(f)  y = Add(x, m)", {}, "Cast"),
    ],
)
def test_others_stay(body: str, weights: dict[str, tuple[int, ...]], kept: str) -> None:
    constants = "zero = Constant<value_ints = [0]>()  three = Constant<value_ints = [3]>()"
    assert left(f"{constants} {body}", weights)[kept] == 1


def test_an_output_stays_one() -> None:
    assert left("a = Exp(w)  y = Add(x, a)", outputs="float[2,3] y, float[3] a")["Exp"] == 1
