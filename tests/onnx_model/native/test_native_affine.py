"""Batch normalizations that stand before convolutions, and between other operators."""

import numpy as np
import pytest
from onnx import ModelProto, checker, numpy_helper, parser
from own import kept, model_of, own

from ampgraph.onnx_model.native.rewrite import rewrite

CONV = "Conv<pads=[1,1,1,1], kernel_shape=[3,3]>"


def normalized(middle: str, output: str = "") -> ModelProto:
    """Two convolutions with something of a Tanh's result between them."""
    text = f"""<ir_version: 10, opset_import: ["": 17]> g (float16[N,8,6,6] x) => (float16[N,8,6,6] y{output})
        {{ c = {CONV}(x, w)  t = Tanh(c)  {middle}  y = {CONV}(n, v) }}"""
    model = parser.parse_model(text)
    generator = np.random.default_rng(0)
    shapes = {"w": (16, 8, 3, 3), "v": (8, 16, 3, 3), **dict.fromkeys("sbm", (16,))}
    shapes |= {"d": (16, 1, 3, 3), "h": (16, 8, 3, 3), "u": (8, 16, 3, 3)}
    arrays = {name: generator.standard_normal(shape) / 4 for name, shape in shapes.items()}
    for name, array in (arrays | {"q": arrays["m"] ** 2 + 0.5}).items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), name))
    checker.check_model(model, full_check=True)
    return model


def apart(middle: str) -> ModelProto:
    """Two convolutions with something of the first one's result between them."""
    graph = f"g (float16[N,8,6,6] x) => (float16[N,8,6,6] y) {{ c = {CONV}(x, w)  {middle}  y = {CONV}(n, v) }}"
    return model_of(
        graph, {"w": (16, 8, 3, 3), "v": (8, 16, 3, 3), "s": (16, 1, 1), "b": (1, 16, 1, 1), "o": (1,)}, opset=17
    )


NORM = "BatchNormalization<epsilon=0.001>(t, s, b, m, q)"


@pytest.mark.parametrize(
    "tail", ["n = {0}", "z = {0}  n = Relu(z)", "z = {0}  g = Sigmoid(z)  n = Mul(z, g)", "z = {0}  n = Elu(z)"]
)
def test_one_is_ours_with_its_activation_before_a_convolution_and_between_others(tail: str) -> None:
    model = normalized(tail.format(NORM))
    assert own(model) == {"Conv": 2, "Affine": 1}
    assert kept(model) == {"Transpose": 2, "Tanh": 1, **({"Elu": 1} if "Elu" in tail else {})}


@pytest.mark.parametrize("middle", ["p = Mul(c, s)  n = Add(b, p)", "p = Mul(o, c)  a = Add(p, b)  n = Relu(a)"])
def test_a_product_and_a_sum_with_numbers_are_one_after_a_convolution(middle: str) -> None:
    """Not after its activation: the sum alone goes with it then, and the product with none."""
    model = apart(middle)
    assert own(model) == {"Conv": 2, "Affine": 1}
    assert kept(model) == {"Transpose": 2}


@pytest.mark.parametrize(
    "middle",
    ["p = Mul(c, s)  n = Sub(p, b)", "p = Mul(c, c)  n = Add(p, b)", "t = Tanh(c)  p = Mul(t, s)  n = Add(p, b)"],
)
def test_other_products_and_sums_stay(middle: str) -> None:
    assert own(apart(middle)) == {"Conv": 2}


def test_its_result_may_be_read_by_several_of_ours() -> None:
    model = normalized(f"z = {NORM}  n = Relu(z)  o = {CONV}(n, v)", output=", float16[N,8,6,6] o")
    assert own(model) == {"Conv": 3, "Affine": 1}


@pytest.mark.parametrize(
    ("model", "affine"),
    [
        (normalized(f"n = {NORM}", output=", float16[N,16,6,6] n"), 1),  # also as it was
        (normalized(f"k = Softmax<axis=1>(t)  z = {NORM.replace('(t', '(k')}  n = Softmax<axis=1>(z)"), 0),
    ],
)
def test_others_stay_or_are_turned(model: ModelProto, affine: int) -> None:
    assert own(model)["Affine"] == affine
    assert kept(model)["BatchNormalization"] == 1 - affine


@pytest.mark.parametrize(
    "conv",
    [
        "Conv<pads=[1,1,1,1]>(x, w)",
        "Conv<pads=[1,1,1,1]>(x, w, b)",
        "Conv<pads=[1,1,1,1], group=16>(t, d, b)",
        "Conv<pads=[1,1,1,1], group=2>(t, h)",
        "ConvTranspose<pads=[1,1,1,1]>(x, u, b)",
    ],
)
def test_after_a_convolution_it_is_part_of_weights_and_bias(conv: str) -> None:
    norm = "BatchNormalization(c2, s, b, m, q)"
    model = normalized(f"c2 = {conv}  z = {norm}  n = Relu(z)")
    found = own(model)
    assert sum(found.values()) == (3 if "(t" in conv else 2)
    assert not {"Affine"} & found.keys()
    assert "BatchNormalization" not in kept(model)


def test_one_that_would_leave_the_range_of_weights_stays() -> None:
    model = normalized(f"k = {CONV}(x, w)  n = BatchNormalization(k, s, b, m, q)")
    for tensor in model.graph.initializer:
        if tensor.name == "s":
            tensor.CopyFrom(numpy_helper.from_array(np.full(16, 60000, np.float16), "s"))
    found = rewrite(model, {})
    assert found is not None
    assert found.counts == {"Conv": 2, "Affine": 1}
