"""Types and shapes: what is believed of the source, what sizes free dimensions are modelled at, what is copied."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model.shape_constants import DONE, Reading
from ampgraph.onnx_model.types import (
    LARGEST_CONSTANT_FOR_INFERENCE,
    Type,
    bodies,
    infer,
    modelled_inputs,
    sizes_at,
    type_of,
    types_in,
    weightless,
    without_constant_nodes,
)
from tests.models import parse

F32 = TensorProto.FLOAT


def tensor(*sizes: int | str | None, kind: int = F32) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(kind, sizes)


@pytest.mark.parametrize(
    ("proto", "expected"),
    [
        (tensor(2, 3), Type("float32", "tensor", (2, 3))),
        (tensor(), Type("float32", "tensor", ())),
        (tensor(2, 0), Type("float32", "tensor", (2, 0))),
        (tensor(2, "N"), Type("float32")),
        (tensor(2, -1), Type("float32")),
        (tensor(2, None), Type("float32")),
        (helper.make_tensor_type_proto(TensorProto.DOUBLE, None), Type("float64")),
        (tensor(2, kind=TensorProto.BFLOAT16), Type("bfloat16", "tensor", (2,))),
        (helper.make_sequence_type_proto(tensor(2)), Type("float32", "sequence")),
        (helper.make_optional_type_proto(helper.make_sequence_type_proto(tensor(2))), Type("float32", "optional")),
        (helper.make_map_type_proto(TensorProto.INT64, tensor()), Type("float32", "map")),
        (helper.make_sparse_tensor_type_proto(F32, [2]), Type("float32", "sparse")),
        (onnx.TypeProto(), Type("")),
    ],
)
def test_type_protos(proto: onnx.TypeProto, expected: Type) -> None:
    assert type_of(proto) == expected


@pytest.mark.parametrize(
    ("inputs", "given", "expected"),
    [
        ("float[2,3] x", {}, {"x": (2, 3)}),
        ("float[N,M] x", {}, {"x": (1, 128)}),
        ("float[N,3,H,W] x", {}, {"x": (1, 3, 224, 224)}),
        ("float[N,C,D,H,W] x", {}, {"x": (1, 128, 128, 224, 224)}),
        ("float[N,T] x, float[T,N] y", {}, {"x": (1, 128), "y": (128, 1)}),
        ("float[N,T] x, float[T,4] y", {"x": (5, 7)}, {"x": (5, 7), "y": (7, 4)}),
        ("float[0,4] x", {}, {"x": (0, 4)}),
        ("float x, seq(float[N]) s", {}, {"x": ()}),
        ("float[N,4] x, float[4] w", {}, {"x": (1, 4)}),
    ],
)
def test_free_dimensions_are_modelled(
    inputs: str, given: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]
) -> None:
    model = parse(f"g ({inputs}) => (float[N] z) {{ z = Identity(x) }}")
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    assert modelled_inputs(model, given) == expected


def found_in(model: ModelProto, shapes: dict[str, tuple[int, ...]] | None = None) -> dict[str, Type]:
    return types_in(infer(model, modelled_inputs(model, shapes or {})).graph)


def test_a_stale_word_is_not_believed_where_inference_can_tell() -> None:
    model = parse("g (float[N,4] x) => (float[9,9] y) { h = Abs(x) y = Neg(h) }")
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT16, [7, 7]))
    found = found_in(model, {"x": (2, 4)})
    assert found == dict.fromkeys("xhy", Type("float32", "tensor", (2, 4)))


def test_the_sources_word_stands_past_ops_without_a_schema() -> None:
    model = parse("g (float[2,4] x) => (float[N,4] y) { h = my.own.Strange(x) r = Abs(h) y = Neg(r) }", my_own=1)
    assert "h" not in found_in(model)
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT16, [3, 5]))
    found = found_in(model)
    assert found["h"] == found["r"] == Type("float16", "tensor", (3, 5))


def test_shapes_follow_constant_shape_operands_but_large_weights_are_not_copied() -> None:
    model = parse("g (float[2,8] x) => (float[N] y) <int64[2] s = {4, 4}> { h = Reshape(x, s) u = MatMul(x, w) "
                  "k = Constant<value = float[1] {0}>() y = Add(h, k) }")  # fmt: skip
    large = numpy_helper.from_array(np.ones((8, LARGEST_CONSTANT_FOR_INFERENCE), np.float32), "w")
    model.graph.initializer.append(large)
    model.graph.node[2].attribute[0].t.CopyFrom(large)
    light = weightless(model)
    assert light.ByteSize() < 1000
    assert [tuple(t.dims) for t in light.graph.initializer] == [(2,), (8, LARGEST_CONSTANT_FOR_INFERENCE)]
    found = found_in(model)
    assert found["h"].shape == (4, 4)
    assert found["u"].shape == (2, LARGEST_CONSTANT_FOR_INFERENCE)
    assert found["k"] == Type("float32", "tensor", tuple(large.dims))


def test_bodies_are_inferred_too_and_the_source_is_left_as_it_was() -> None:
    model = parse("""g (float[2,4] x, bool c) => (float[N,M] y) { y = If (c) <
        then_branch = t () => (float[A,B] a) { u = Transpose(x) a = Transpose(u) },
        else_branch = e () => (float[C,D] b) { b = Neg(x) }> }""")
    before = ModelProto.FromString(model.SerializeToString())
    inferred = infer(model, {}, sizes=False)
    ((name, then), _) = bodies(inferred.graph.node[0])
    assert name == "then_branch"
    assert types_in(then)["u"] == Type("float32", "tensor", (4, 2))
    assert model == before


def test_lists_of_bodies_are_numbered() -> None:
    node = helper.make_node("Strange", [], ["y"])
    graphs = [helper.make_graph([], name, [], []) for name in "ab"]
    node.attribute.extend([helper.make_attribute("alpha", 1), helper.make_attribute("cases", graphs)])
    assert [(name, body.name) for name, body in bodies(node)] == [("cases.0", "a"), ("cases.1", "b")]


def test_an_initializers_own_type_goes_before_what_is_declared() -> None:
    model = parse("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    model.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT16, [9]))
    assert types_in(model.graph)["w"] == Type("float32", "tensor", (2,))


@pytest.mark.parametrize("version", [3, 8])
def test_constants_that_nodes_hold_tell_the_same_sizes_as_initializers(version: int) -> None:
    """Of whatever kind; a text stays a node."""
    model = parse("""g (float[N,6] x, float[N] b) => (float[N,M] y, string[1] t) {
        two = Constant<value_ints = [-1, 3, 2]>()  one = Constant<value_int = 1>()
        three = Constant<value = int64[2] {3, 2}>()  t = Constant<value_strings = ["a"]>()
        half = Constant<value_float = 0.5>()  r = Reshape(x, two)  h = Mul(r, half)  n = Shape(h)
        m = Gather(n, one)  o = Unsqueeze(m, zero)  zero = Constant<value_ints = [0]>()
        minus = Constant<value_ints = [-1]>()  s = Concat<axis = 0>(o, minus)  q = Reshape(h, s)  y = Transpose(q)
        e = Expand(half, three) }""")
    model.ir_version = version
    light = weightless(model)
    nodes = len(light.graph.node)
    expected = sizes_at(light, {"x": (4, 6), "b": (4,)})
    lighter = without_constant_nodes(weightless(model))
    assert len(lighter.graph.node) == nodes - 6
    found = sizes_at(lighter, {"x": (4, 6), "b": (4,)})
    sizes = [{name: shape for name, shape in each[0].items() if not name.endswith(DONE)} for each in (found, expected)]
    assert sizes[0] == sizes[1]
    assert sizes[0]["y"] == (8, 3)
    assert found[1].keys() == expected[1].keys()
    for name, values in expected[1].items():
        np.testing.assert_array_equal(found[1][name], values)


def test_a_graph_is_read_once_for_several_sizes() -> None:
    """What it says at one does not stay for the next, in bodies neither."""
    model = parse("""g (float[N,6] x, bool c) => (float[M,K] y) {
        n = Shape<start = 0, end = 1>(x)
        y = If (c) <
            then_branch = t () => (float[P,Q] a) { p = Concat<axis = 0>(two, n)  a = Expand(one, p) },
            else_branch = f () => (float[P,Q] b) { b = Identity(x) }>
        z = Transpose(y)  k = Shape(z)  r = Reshape(x, k) }""")
    for name, values in {"two": np.array([2]), "one": np.ones((1, 1), np.float32)}.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    light = weightless(model)
    reading = Reading.of(light.graph)
    for rows in (3, 2, 5):
        sizes, results = sizes_at(light, {"x": (rows, 6), "c": ()}, reading)
        expected, computed = sizes_at(light, {"x": (rows, 6), "c": ()})
        assert sizes == expected
        assert results.keys() == computed.keys()
        assert results["n"] == [rows] == computed["n"]


def test_a_symbol_is_of_the_size_that_is_given_whatever_input_comes_first() -> None:
    model = parse("g (float[b,t] x, float[b,t] m, float[s,s] a) => (float[b,t] y) { y = Add(x, m) }")
    assert modelled_inputs(model, {"m": (4, 7)}) == {"x": (4, 7), "m": (4, 7), "a": (1, 1)}
    assert modelled_inputs(model, {"a": (3, 5)})["x"] == (1, 128)


def test_a_symbol_that_is_given_several_sizes_stands_for_none() -> None:
    model = parse("g (float[n,q] x, float[q,q] a) => (float[n,q] y) { y = Relu(x) }")
    assert modelled_inputs(model, {"a": (3, 5)})["x"] == (1, 128)
