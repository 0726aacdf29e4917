"""How constants become low in a model: weights of convolutions by what they meet, small numbers with a rest."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.apply import apply
from ampgraph.onnx_model.io import with_data
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.rounding.filters import Filters, filters_of, round_filters
from ampgraph.onnx_model.rounding.rests import with_rest
from ampgraph.onnx_model.rounding.roundings import Roundings, roundings
from ampgraph.onnx_model.tensors import CHUNK
from ampgraph.precision import Precision
from tests.models import FLOAT16, convert, parse
from tests.onnx_model.planning import planned

Weights = npt.NDArray[np.float32]
CONV = "[a] y = Conv<pads = [1, 1, 1, 1]>(x, w)"


def normal(*shape: int, seed: int = 0) -> Weights:
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def exact(tensor: TensorProto) -> Weights:
    return with_rest(tensor, numpy_helper.to_array(tensor))


def model_of(body: str, weights: Mapping[str, Weights], folder: Path | None = None) -> ModelProto:
    """With the data of weights in another file where there is a folder."""
    model = parse(f"g (float[1,4,8,8] x) => (y) {{ {body} }}")
    for name, values in weights.items():
        tensor = numpy_helper.from_array(values, name)
        if folder is not None:
            (folder / name).write_bytes(tensor.raw_data)
            tensor = TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=name)
        model.graph.initializer.append(tensor)
    return model


def made(
    body: str,
    weights: Mapping[str, Weights],
    low: str,
    folder: Path | None = None,
    precision: Precision = Precision.FLOAT16,
) -> dict[str, TensorProto]:
    """The initializers of the model with the plan in it."""
    model = model_of(body, weights, folder)
    graph = lift(model, folder=folder or Path(), precision=precision)
    found = with_data(apply(model, graph, planned(graph, low, precision), folder), folder or Path())
    return {tensor.name: tensor for tensor in found.graph.initializer}


def wanted(body: str, weights: Mapping[str, Weights], low: str) -> Roundings:
    model = model_of(body, weights)
    graph = lift(model)
    return roundings(model, graph, planned(graph, low), Path())


def by_hand(values: Weights, how: Filters | None) -> npt.NDArray[np.generic]:
    assert how is not None
    return round_filters(values.reshape(-1), how, Precision.FLOAT16).reshape(values.shape)


def normal_input(values: Weights) -> Filters | None:
    return filters_of(values.shape, 1, np.zeros(4), np.ones(4))


def test_weights_of_convolutions_are_rounded_by_what_they_meet() -> None:
    w, v = normal(4, 4, 3, 3), normal(4, 4, 1, 1, seed=1)
    body = "[a] p = Conv<pads = [1, 1, 1, 1]>(x, w) [b] q = Relu(p) [c] y = Conv(q, v)"
    found = made(body, {"w": w, "v": v}, "a b c")
    np.testing.assert_array_equal(numpy_helper.to_array(found["w"]), by_hand(w, normal_input(w)))
    how = wanted(body, {"w": w, "v": v}, "a b c").filters["v"]
    assert np.all(how.means > 0.1)  # after an activation
    np.testing.assert_array_equal(numpy_helper.to_array(found["v"]), by_hand(v, how))
    assert not np.array_equal(by_hand(v, how), v.astype(np.float16))


def test_a_large_tensor_is_rounded_in_parts_to_the_same() -> None:
    weights = normal(8, 4, 121, 121)
    assert weights.size > CHUNK
    found = made("[a] y = Conv<pads = [60, 60, 60, 60]>(x, w)", {"w": weights}, "a")["w"]
    np.testing.assert_array_equal(numpy_helper.to_array(found), by_hand(weights, normal_input(weights)))


def test_data_in_other_files_are_rounded_the_same_and_keep_rests(tmp_path: Path) -> None:
    body = "[a] p = Conv<pads = [1, 1, 1, 1], group = 4>(x, w, b) [c] q = Relu(p) [d] y = Conv(q, v)"
    weights = {"w": normal(4, 1, 3, 3), "b": normal(4), "v": normal(4, 4, 1, 1)}
    inside, outside = (made(body, weights, "a c d", folder) for folder in (None, tmp_path))
    for name in weights:
        np.testing.assert_array_equal(*(numpy_helper.to_array(each[name]) for each in (inside, outside)))
        np.testing.assert_array_equal(exact(inside[name]), exact(outside[name]))
    assert outside["w"].metadata_props


@pytest.mark.parametrize(
    ("body", "low"),
    [
        ("[a] h = Conv<pads = [1, 1, 1, 1]>(x, w) [b] s = Abs(w) [c] t = ReduceSum<keepdims = 0>(s) [d] y = Mul(h, t)",
         "a b c d"),
        ("[a] y = ConvTranspose<pads = [1, 1, 1, 1]>(x, w)", "a"),
    ],
)  # fmt: skip
def test_what_others_read_too_is_to_the_nearest(body: str, low: str) -> None:
    weights = normal(4, 4, 3, 3)
    np.testing.assert_array_equal(
        numpy_helper.to_array(made(body, {"w": weights}, low)["w"]), weights.astype(np.float16)
    )


def test_weights_that_two_convolutions_read_are_rounded_as_if_nothing_were_known() -> None:
    weights = normal(4, 4, 3, 3)
    body = f"{CONV.replace('y =', 'p =')} [b] q = Relu(p) [c] y = Conv<pads = [1, 1, 1, 1]>(q, w)"
    found = made(body, {"w": weights}, "a b c")["w"]
    np.testing.assert_array_equal(numpy_helper.to_array(found), by_hand(weights, filters_of(weights.shape)))


def test_convolutions_in_bodies_are_rounded_as_if_nothing_were_known() -> None:
    weights = normal(4, 4, 3, 3)
    body = """c = Constant<value_int = 1>() t = Cast<to = 9>(c)
    [a] y = If(t) <then_branch = g1 () => (p) { [b] p = Conv<pads = [1, 1, 1, 1]>(x, w) },
                   else_branch = g2 () => (q) { [d] q = Abs(x) }>"""
    found = made(body, {"w": weights}, "b")
    low = next(tensor for tensor in found.values() if tensor.data_type == FLOAT16)
    np.testing.assert_array_equal(numpy_helper.to_array(low), by_hand(weights, filters_of(weights.shape)))


def test_a_constant_node_is_rounded_likewise() -> None:
    weights = normal(4, 4, 3, 3)
    model = parse("g (float[1,4,8,8] x) => (float[1,4,8,8] y) { w = Constant<value_float = 1.0>() " + CONV + " }")
    model.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(weights)))
    graph = lift(model, precision=Precision.FLOAT16)
    changed = apply(model, graph, planned(graph, "a"))
    found = next(
        numpy_helper.to_array(node.attribute[0].t) for node in changed.graph.node if node.op_type == "Constant"
    )
    np.testing.assert_array_equal(found, by_hand(weights, normal_input(weights)))


@pytest.mark.parametrize("body", ["[a] y = Conv(x, w, b)", "[a] p = Conv(x, w) [c] y = Add(p, s)",
                                  "[a] p = Conv(x, w) [c] y = Add(s, p)"])  # fmt: skip
def test_weights_make_up_for_what_their_bias_loses(body: str) -> None:
    bias = normal(4, seed=2)
    weights = {"w": normal(4, 4, 1, 1), "b" if "b)" in body else "s": bias if "b)" in body else bias.reshape(4, 1, 1)}
    low = "a c" if "[c]" in body else "a"
    lost = bias.astype(np.float16).astype(np.float64) - bias
    np.testing.assert_allclose(wanted(body, weights, low).filters["w"].shift, lost, rtol=1e-6)
    if "[c]" in body:  # and for nothing where the sum stays float32
        assert not wanted(body, weights, "a").filters["w"].shift.any()


def test_no_constant_is_looked_at_where_no_convolution_is_lowered() -> None:
    weights = {"w": normal(4, 4, 3, 3), "s": normal(4, 1, 1)}
    assert wanted(f"{CONV.replace('y =', 'p =')} [b] y = Mul(p, s)", weights, "b") == Roundings()


@pytest.mark.parametrize(
    ("body", "weights", "kept"),
    [
        ("[a] y = Conv<group = 4>(x, w, b)", {"w": (4, 1, 3, 3), "b": (4,)}, {"w", "b"}),
        ("[a] p = Conv<group = 4>(x, w) [b] y = Add(p, s)", {"w": (4, 1, 3, 3), "s": (4, 1, 1)}, {"w", "s"}),
        ("[a] y = Conv(x, w, b)", {"w": (4, 4, 3, 3), "b": (4,)}, set()),
        ("[a] p = Conv(x, w) [b] y = Add(p, s)", {"w": (4, 4, 3, 3), "s": (4, 1, 1)}, set()),  # weights make up for it
        ("[a] p = Conv(x, w) [b] q = Relu(p) [c] y = Add(q, s)", {"w": (4, 4, 3, 3), "s": (4, 1, 1)}, {"s"}),
        ("[a] p = Conv(x, w) [b] q = Relu(p) [c] y = Mul(s, q)", {"w": (4, 4, 3, 3), "s": (1,)}, {"s"}),
        ("[a] p = Conv(x, w) [b] q = Relu(p) [c] y = Mul(s, q)", {"w": (4, 4, 1, 1), "s": (8, 1)}, set()),
        ("[a] p = Conv(x, w) [b] m = GlobalAveragePool(p) [c] y = Conv(m, v, b)",
         {"w": (4, 4, 1, 1), "v": (8, 4, 1, 1), "b": (8,)}, {"v", "b"}),
    ],
)  # fmt: skip
def test_what_moves_whole_channels_keeps_a_rest(
    body: str, weights: Mapping[str, tuple[int, ...]], kept: set[str]
) -> None:
    numbers = {name: normal(*shape, seed=len(name) + shape[0]) for name, shape in weights.items()}
    found = made(body, numbers, " ".join(each for each in "abc" if f"[{each}]" in body))
    assert {name for name, tensor in found.items() if tensor.metadata_props} == kept
    for name in kept:
        np.testing.assert_allclose(exact(found[name]), numbers[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["onnxruntime-cuda", "onnx"])
def test_rests_are_for_what_our_sessions_run(target: str) -> None:
    model = parse("g (float[1,4,8,8] x) => (float[1,4,6,6] y) { y = Conv<group = 4>(x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(normal(4, 1, 3, 3), "w"))
    (weights,) = convert(model, target=target).model.graph.initializer
    assert weights.data_type == FLOAT16
    assert bool(weights.metadata_props) == (target == "onnxruntime-cuda")


def test_bfloat16_keeps_no_rest() -> None:
    weights = {"w": normal(4, 1, 3, 3)}
    found = made("[a] y = Conv<group = 4>(x, w)", weights, "a", precision=Precision.BFLOAT16)
    assert not found["w"].metadata_props


@pytest.mark.parametrize(
    ("text", "pads"),
    [
        ("g (float[n,c,h,k] x) => (float[n,16,p,q] y) { [a] y = Conv(x, w) }", None),
        ("g (float[1,7,8,8] x) => (float[1,16,6,6] y) { r = Relu(x)  p = Pad(r, pads)  [a] y = Conv(p, w) }", [0, 1]),
    ],
    ids=["free", "padded"],
)
def test_channels_that_are_not_those_of_the_weights_are_as_if_nothing_were_known(text: str, pads: list | None) -> None:
    """Free ones are modelled as some number, which need not be the one that fits."""
    weights = {"w": normal(16, 8 if pads else 3, 3, 3)}
    if pads is not None:
        weights["pads"] = np.array([*pads, 0, 0, 0, 0, 0, 0])
    model = parse(text)
    model.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in weights.items())
    graph = lift(model)
    (how,) = roundings(model, graph, planned(graph, "a"), Path()).filters.values()
    nothing_known = filters_of(weights["w"].shape)
    np.testing.assert_array_equal(how.means, nothing_known.means)
    np.testing.assert_array_equal(how.spreads, nothing_known.spreads)
    assert convert(model).model.graph.node
