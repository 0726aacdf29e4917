"""Copies of rows in another order that go with the normalizations around them."""

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper, parser
from own import kept, own

import ampgraph
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.run import CPU, best_provider

CONTRIB = "com.microsoft"
SKIP = f"{CONTRIB}.SkipLayerNormalization"
ORDER, MORE, FEWER, MANY = "4, 2, 0, 1, 3", "4, 2, 0, 1, 3, 3", "4, 0", "4, 2, 0, 1, 3, 3, 3"


def model_of(graph: str, width: int = 16, opset: int = 20) -> ModelProto:
    """Of a graph's text, with rows to scale, to shift and to add, a matrix `w`, and the types of what is made."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    for name, shape in {"gamma": (width,), "beta": (width,), "bias": (width,), "w": (width, width)}.items():
        array = generator.standard_normal(shape) / shape[0] ** (0.5 if name == "w" else 0)
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), name))
    return model


def norm_of(model: ModelProto) -> NodeProto:
    """The only normalization of a model's rewrite."""
    rewritten = rewrite(model, {})
    assert rewritten is not None
    (found,) = (each for each in rewritten.model.graph.node if each.op_type == "LayerNorm")
    return found


def left(
    places: str,
    *,
    outputs: str = "",
    path: str = "n = Reshape(m, ends)",
    sum_: bool = True,
    further: str = "",
    width: int = 16,
) -> ModelProto:
    """Ten rows, five an image and one behind the other, that are normalized, and then copied."""
    count = len(places.split(","))
    made, beside = ("m, , , s", "t = Neg(s)") if sum_ else ("m", "t = Neg(x)")
    graph = f"""g (float16[10,1,16] x, float16[10,1,16] z) => (float16[N,K,C] y, float16[10,1,16] t{outputs})
        <int64[3] ends = {{-1, 5, 16}}, int64[4] apart = {{-1, 1, 5, 16}}, int64[3] halves = {{-1, 5, 8}},
         int64[{count}] places = {{{places}}}, float16[N,5,{width}] n, float16[10,1,16] m>
        {{ {made} = {SKIP}(x, z, gamma, beta)  {beside}  {path}  {further}  y = Gather<axis=1>(n, places) }}"""
    return model_of(graph)


@pytest.mark.parametrize("path", ["n = Reshape(m, ends)", "a = Reshape(m, apart)  n = Reshape(a, ends)"])
@pytest.mark.parametrize("places", [ORDER, MORE])
@pytest.mark.parametrize("sum_", [True, False])
def test_rows_are_left_where_their_copy_would_have_been(path: str, places: str, sum_: bool) -> None:
    model = left(places, path=path, sum_=sum_)
    assert own(model) == {"LayerNorm": 1}
    assert kept(model) == {"Neg": 1}
    norm = norm_of(model)
    assert list(norm.input) == ["x", "gamma", "beta", "z", "", "places_laid"]
    assert list(norm.output) == (["y", "s"] if sum_ else ["y"])
    assert {entry.name: helper.get_attribute_value(entry) for entry in norm.attribute}["length"] == 5


def test_a_few_rows_alone_are_normalized_where_the_sum_is_not_needed() -> None:
    assert own(left(FEWER, sum_=False)) == {"LayerNorm": 1}
    assert own(left(FEWER)) == {"LayerNorm": 1, "Rows": 1}


@pytest.mark.parametrize(
    "model",
    [
        left(MANY),  # too many of them twice
        left(ORDER, outputs=", float16[N,5,16] n"),
        left(ORDER, outputs=", float16[N,5,16] u", further="u = Neg(n)"),
        left(ORDER, outputs=", float16[10,1,16] u", further="u = Neg(m)"),
        left(ORDER, path="n = Reshape(m, halves)", width=8),  # no whole rows
    ],
)
def test_copies_with_more_to_them_stay_behind(model: ModelProto) -> None:
    assert own(model) == {"LayerNorm": 1, "Rows": 1}


def read(
    places: str,
    *,
    call: str = "x, b, gamma, beta, bias",
    path: str = "a = MatMul(c, w)  b = Reshape(a, ends)",
    outputs: str = "",
    length: int = 5,
    images: int = 2,
    x: str = "10,1,16",
) -> ModelProto:
    """Rows, five an image and one behind the other, to which copied ones are added."""
    given = f"float16[{x}] x, float16[{images},{length},16] z, float16[16,16] v"
    graph = f"""g ({given}) => (float16[{x}] y, float16[{x}] s{outputs})
        <int64[3] ends = {{-1, 1, 16}}, int64[3] halves = {{-1, 10, 8}}, int64[4] apart = {{-1, 1, 5, 16}},
         int64[5] places = {{{places}}}>
        {{ c = Gather<axis=1>(z, places)  {path}  y, , , s = {SKIP}({call}) }}"""
    return model_of(graph)


@pytest.mark.parametrize("call", ["x, b, gamma, beta, bias", "b, x, gamma, beta, bias"])
@pytest.mark.parametrize("length", [5, 6])
@pytest.mark.parametrize("product", ["a = MatMul(c, w)", "d = Reshape(c, apart)  a = MatMul(d, w)"])
def test_a_product_of_rows_as_they_lie_is_added_in_order(call: str, length: int, product: str) -> None:
    model = read(ORDER, call=call, length=length, path=f"{product}  b = Reshape(a, ends)")
    assert own(model) == {"LayerNorm": 1}
    assert kept(model) == {"MatMul": 1}
    assert list(norm_of(model).input) == ["x", "gamma", "beta", "a_before_c", "bias", "", "places_laid"]


def test_copied_rows_are_added_without_a_product_too() -> None:
    model = read(ORDER, path="b = Reshape(c, ends)")
    assert own(model) == {"LayerNorm": 1}
    assert not kept(model)
    assert list(norm_of(model).input) == ["x", "gamma", "beta", "z", "bias", "", "places_laid"]


PRODUCT = "a = MatMul(c, w)  b = Reshape(a, ends)"


@pytest.mark.parametrize(
    "model",
    [
        read(ORDER, length=7),  # so many rows more in the product
        read(ORDER, outputs=", float16[2,5,16] c"),
        read(ORDER, outputs=", float16[2,5,16] u", path=f"{PRODUCT}  u = Neg(c)"),
        read(ORDER, outputs=", float16[2,5,16] u", path=f"{PRODUCT}  u = Neg(a)"),
        read(ORDER, outputs=", float16[10,1,16] b"),
        read(ORDER, path="d = Reshape(c, halves)  e = MatMul(d, half)  b = Reshape(e, ends)"),
        read(ORDER, path="e = Neg(c)  b = Reshape(e, ends)"),
        read(ORDER, path="e = MatMul(c, v)  b = Reshape(e, ends)"),
        read(ORDER, path="e = MatMul(c, narrow)  b = Reshape(e, ends)", images=4),
        read(ORDER, path="d = Reshape(c, halves)  e = MatMul(d, broad)  b = Reshape(e, ends)", images=1),
    ],
)
def test_copies_with_more_to_them_stay_before(model: ModelProto) -> None:
    for name, shape in {"half": (8, 8), "narrow": (16, 8), "broad": (8, 16)}.items():
        array = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    assert own(model) == {"LayerNorm": 1, "Rows": 1}


def test_one_image_that_is_added_to_all_is_copied() -> None:
    model = read(ORDER, path="a = MatMul(c, w)  b = Reshape(a, whole)", x="4,5,16", images=1)
    model.graph.initializer.append(numpy_helper.from_array(np.array([5, 16]), "whole"))
    assert own(model) == {"LayerNorm": 1, "Rows": 1}


def window(images: int, width: int) -> ModelProto:
    """A window of seven by seven tokens an image, filled up to 56: a product of some in another order is added to rows,
    and their normalization goes into a third order. The product is with ones on the diagonal: it rounds nothing."""
    like = f"float16[{images},49,{width}]"
    graph = f"""g ({like} x, float16[{images},56,{width}] z) => (float16[{images},56,{width}] y, {like} s)
        <int64[49] back, int64[56] places, {like} m>
        {{ c = Gather<axis=1>(z, back)  a = MatMul(c, w)  m, , , s = {SKIP}<epsilon=1e-5>(x, a, gamma, beta, bias)
           y = Gather<axis=1>(m, places) }}"""
    model = model_of(graph, width)
    replaced = {"w": np.eye(width, dtype=np.float16), "back": _places(56, 49), "places": _places(49, 49, 7)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in replaced]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *(numpy_helper.from_array(array, name) for name, array in replaced.items())])
    return model


def _places(of: int, count: int, more: int = 0) -> np.ndarray:
    generator = np.random.default_rng(count + more)
    return np.concatenate([generator.permutation(of)[:count], np.zeros(more, np.int64)])


def test_a_window_goes_into_one_normalization_and_a_product() -> None:
    model = window(2, 32)
    assert own(model) == {"LayerNorm": 1}
    assert kept(model) == {"MatMul": 1}
    assert list(norm_of(model).input)[5:] == ["places_laid", "back_laid"]


@pytest.mark.skipif(best_provider() == CPU, reason="no GPU here")
@pytest.mark.parametrize("width", [16, 96, 192, 384, 768, 1536])
@pytest.mark.parametrize("images", [1, 3, 64])
def test_on_the_gpu_rows_are_read_and_left_at_their_places(width: int, images: int) -> None:
    model = window(images, width)
    session = ampgraph.Session(model, native=True)
    assert session.native
    assert list(norm_of(model).input)[5:] == ["places_laid", "back_laid"]
    generator = np.random.default_rng(images + width)
    x, z = ((generator.standard_normal((images, count, width)) + 4).astype(np.float16) for count in (49, 56))
    found = session.run({"x": x, "z": z})
    given = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    total = x.astype(np.float64) + z[:, given["back"]] + given["bias"]
    centred = total - total.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * given["gamma"] + given["beta"]
    for name, wanted in (("y", normed[:, given["places"]]), ("s", total)):
        ulp = np.spacing(np.abs(wanted).astype(np.float16)).astype(np.float64)
        assert (np.abs(found[name] - wanted) <= 0.51 * ulp + 2e-6 * np.abs(wanted).max()).all()


def test_one_that_leaves_rows_at_their_places_saves_a_launch() -> None:
    found = rewrite(left(ORDER), {}, norms=False)
    assert found is not None
    assert found.counts == {"LayerNorm": 1}
