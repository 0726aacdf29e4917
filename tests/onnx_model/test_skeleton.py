"""Skeletons: a session of a model whose weights are apart answers as the model does."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.run import open_session, random_inputs, run
from ampgraph.onnx_model.skeleton import is_stripped, large_data, skeleton, weights_apart
from tests.models import parse

LARGE = (64, 48)


def model(weight: np.ndarray) -> ModelProto:
    made = parse("g (float[N,64] x) => (float[N,48] y) { c = Cast<to = 1>(w)  m = MatMul(x, c)  y = Add(m, b) }")
    made.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    made.graph.initializer.append(numpy_helper.from_array(np.ones(48, np.float32), "b"))
    return made


def random(dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(LARGE) * 8).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "int64", "int32", "bool"])
def test_weights_apart_are_the_weights(dtype):
    whole = model(random(dtype))
    bones, weights = weights_apart(whole)
    assert bones.ByteSize() < 2_000 or dtype in ("float64", "bool")
    feeds = random_inputs(whole)
    expected, found = run(open_session(whole), feeds), run(open_session(bones, weights=weights), feeds)
    np.testing.assert_array_equal(expected["y"], found["y"])


@pytest.mark.parametrize("optimize", ["disabled", "basic", "extended", "all"])
def test_a_session_reads_the_weights_that_it_is_handed(optimize):
    whole = model(random())
    bones, weights = weights_apart(whole)
    halved = {name: array / 2 for name, array in weights.items()}
    feeds = random_inputs(whole)
    expected = run(open_session(whole, optimize=optimize), feeds)["y"] - 1
    found = run(open_session(bones, optimize=optimize, weights=halved), feeds)["y"] - 1
    np.testing.assert_allclose(found, expected / 2, rtol=1e-4, atol=1e-4)


def test_what_can_be_overridden_stays():
    whole = model(random())
    whole.graph.input.append(onnx.helper.make_tensor_value_info("w", TensorProto.FLOAT, LARGE))
    bones, weights = weights_apart(whole)
    assert not weights
    assert bones == whole


def test_what_nobody_reads_stays_and_what_only_a_body_or_the_caller_reads_does_not():
    whole = parse("""g (float[N,64] x, bool c) => (float[N,48] y, float[64,48] v) {
        y = If (c) <then_branch = t () => (float[N,48] a) { a = MatMul(x, w) },
                    else_branch = e () => (float[N,48] b) { n = MatMul(x, w)  b = Neg(n) }> }""")
    whole.graph.initializer.extend(numpy_helper.from_array(random(), name) for name in ("w", "v", "unread"))
    bones, weights = weights_apart(whole)
    assert set(weights) == {"w", "v"}
    feeds = random_inputs(whole)
    expected, found = run(open_session(whole), feeds), run(open_session(bones, weights=weights), feeds)
    for name in "yv":
        np.testing.assert_array_equal(expected[name], found[name])


def test_small_ones_stay_and_the_source_is_as_it_was():
    whole = model(random())
    before = whole.SerializeToString()
    bones, weights = weights_apart(whole)
    assert set(weights) == {"w"}
    assert next(each for each in bones.graph.initializer if each.name == "b") == whole.graph.initializer[1]
    assert whole.SerializeToString() == before


def test_external_data_stay_where_they_lie(tmp_path):
    whole, copy = model(random()), model(random())
    onnx.save(copy, tmp_path / "m.onnx", save_as_external_data=True, location="data", size_threshold=64)
    apart = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    bones, weights = weights_apart(apart)
    assert not weights
    assert bones == apart
    feeds = random_inputs(whole)
    found = run(open_session(bones, folder=tmp_path, weights=weights), feeds)
    np.testing.assert_array_equal(found["y"], run(open_session(whole), feeds)["y"])


def test_a_skeleton_has_all_but_the_data():
    whole = model(random())
    bones = skeleton(whole)
    assert [is_stripped(each) for each in bones.graph.initializer] == [True, False]
    bones.graph.initializer[0].raw_data = whole.graph.initializer[0].raw_data
    assert bones == whole


def with_constant(ir: int) -> ModelProto:
    """Two large weights of Constant nodes, of which one is not read."""
    made = parse("g (float[N,64] x) => (float[N,48] y) { m = MatMul(x, w)  y = Relu(m) }", opset=13, ir=ir)
    for name in ("unread", "w"):
        made.graph.node.insert(0, onnx.helper.make_node("Constant", [], [name], name=f"node of {name}"))
        made.graph.node[0].attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(random())))
    return made


@pytest.mark.parametrize("ir", [3, 8])
def test_constants_of_nodes_are_weights_too(ir):
    whole = with_constant(ir)
    bones, weights = weights_apart(whole)
    assert set(weights) == ({"w"} if ir == 8 else set())
    feeds = random_inputs(whole)
    expected, found = run(open_session(whole), feeds), run(open_session(bones, weights=weights), feeds)
    np.testing.assert_array_equal(expected["y"], found["y"])


def test_constants_of_a_skeleton_have_a_shape_and_the_name_of_their_value():
    whole = with_constant(8)
    bones = skeleton(whole)
    assert [node.op_type for node in bones.graph.node] == [node.op_type for node in whole.graph.node]
    assert bones.ByteSize() < 1_000
    tensor = bones.graph.node[0].attribute[0].t
    assert (tensor.name, tuple(tensor.dims), is_stripped(tensor)) == ("w", LARGE, True)
    assert set(large_data(whole)) == {"w", "unread"}
