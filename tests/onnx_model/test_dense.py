"""Sparse constants with all their elements: the answers are those that onnxruntime gives for sparse ones."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model.dense import with_dense
from ampgraph.onnx_model.run import CPU, open_session, run
from tests.models import parse

BODY = "g (float[2,3] x, bool t) => (float[2,3] y, float[2,3] z) { a = Add(x, s)  b = Add(x, c)  y = Mul(a, b) }"
FEEDS = {"x": np.ones((2, 3), np.float32), "t": np.array(True)}


def sparse(name: str, places: list) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([3.0, -2.0], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(places, np.int64), f"{name}_at"), [2, 3])


def constant(name: str, places: list) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], sparse_value=sparse("", places))


def model() -> ModelProto:
    made = parse(BODY)
    made.graph.sparse_initializer.append(sparse("s", [1, 5]))
    bodies = [
        helper.make_graph(
            [constant(f"k{side}", [[0, side], [1, 2]]), helper.make_node("Add", ["x", f"k{side}"], [f"o{side}"])],
            f"body{side}",
            [],
            [helper.make_tensor_value_info(f"o{side}", TensorProto.FLOAT, [2, 3])],
        )
        for side in (0, 1)
    ]
    made.graph.node.insert(0, constant("c", [[0, 2], [1, 0]]))
    made.graph.node.append(helper.make_node("If", ["t"], ["z"], then_branch=bodies[0], else_branch=bodies[1]))
    return made


@pytest.mark.parametrize("branch", [True, False])
def test_flat_places_and_those_by_axis_are_read_in_bodies_too(branch: bool) -> None:
    given = model()
    before, dense = given.SerializeToString(), with_dense(given)
    assert given.SerializeToString() == before
    assert b"sparse" not in dense.SerializeToString()
    assert not dense.graph.sparse_initializer
    feeds = FEEDS | {"t": np.array(branch)}
    expected, found = (run(open_session(each, provider=CPU), feeds) for each in (given, dense))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_model_without_them_is_itself() -> None:
    plain = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    assert with_dense(plain) is plain
