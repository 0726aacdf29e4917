"""Ahead: the next nodes alone, with all that they read."""

import numpy as np
from onnx import ModelProto, numpy_helper, parser, shape_inference

from ampgraph.onnx_model.ahead import Ahead

MODEL = """<ir_version: 8, opset_import: ["" : 13, "custom" : 1]> g (float[2,3] x) => (float[a,b] y)
    <float w = {0.5}> {
    one = Constant<value_int = 1>()
    s = Shape(x)
    g = Gather(s, one)
    h = custom.Unheard(x)
    m = Mul(x, w)
    y = Transpose(m)
}"""
ONE, S, G, H, M, Y = range(6)
SIZED = {"x": (2, 3), "w": (), "one": (), "s": (2,), "g": ()}


def ahead() -> Ahead:
    light = parser.parse_model(MODEL)
    return Ahead(light, light.graph, shape_inference.infer_shapes(light).graph)


def kinds(part: ModelProto) -> list[str]:
    return [node.op_type for node in part.graph.node]


def test_a_part_holds_the_constants_and_shapes_that_its_nodes_read() -> None:
    found = ahead()
    found.left = [G, M, Y]
    part = found.part(SIZED, 2)
    assert kinds(part) == ["Gather", "Mul"]
    assert {tensor.name: numpy_helper.to_array(tensor).item() for tensor in part.graph.initializer} == {
        "one": 1,
        "w": 0.5,
    }
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in part.graph.input}
    assert shapes == {"s": [2], "x": [2, 3]}


def test_what_has_been_computed_since_is_among_the_constants() -> None:
    found = ahead()
    found.left = [G]
    assert {tensor.name for tensor in found.part(SIZED, 1).graph.initializer} == {"one"}
    found.graph.initializer.append(numpy_helper.from_array(np.array([2, 3]), "s"))
    assert {tensor.name for tensor in found.part(SIZED, 1).graph.initializer} == {"one", "s"}


def test_what_is_known_is_left_out_and_what_may_be_computed_stays() -> None:
    """Nor is what nothing is known of, so that it stands before all that reads it."""
    found = ahead()
    found.drop(found.part(SIZED, 5).graph, {**SIZED, "m": (2, 3)}, {"one"}, {S, G, M})
    assert found.left == [S, G, H, Y]
    found.drop(found.part(SIZED, 2).graph, SIZED, {"one", "s", "g"}, ())
    assert found.left == [H, Y]


def test_a_stretch_ends_where_the_next_begins() -> None:
    found = ahead()
    found.left = [S, H, Y]
    assert [found.end(length) for length in (1, 2, 3, 9)] == [H, Y, 6, 6]
