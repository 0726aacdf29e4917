"""A Scan and the Loop made of it compute the same."""

from itertools import product

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.scan_loops import can_be_loop
from ampgraph.onnx_model.surfacing import Probe, surface


def scan(axis: int, backwards: int, out_axis: int, out_backwards: int) -> ModelProto:
    """Running sums of the slices of x [3, 4] along an axis, one output stacked."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "slice"], ["sum"]),
            helper.make_node("Neg", ["sum"], ["stacked"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("slice", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("stacked", TensorProto.FLOAT, [None]),
        ],
    )
    node = helper.make_node(
        "Scan", ["start", "x"], ["last", "all"], num_scan_inputs=1, body=body, scan_input_axes=[axis],
        scan_input_directions=[backwards], scan_output_axes=[out_axis], scan_output_directions=[out_backwards],
    )  # fmt: skip
    width = 4 if axis in (0, -2) else 3
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("start", TensorProto.FLOAT, [width]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4]),
        ],
        [
            helper.make_tensor_value_info("last", TensorProto.FLOAT, [None]),
            helper.make_tensor_value_info("all", TensorProto.FLOAT, [None, None]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("setting", list(product((0, 1, -1), (0, 1), (0, 1, -1), (0, 1))), ids=str)
def test_axes_and_directions_are_kept(setting: tuple[int, int, int, int]) -> None:
    model = scan(*setting)
    probes = [Probe(((0, 0),), "sum", TensorProto.FLOAT), Probe(((0, 0),), "sum", TensorProto.INT64, sizes=True)]
    rewritten, names = surface(model, probes, keep_outputs=True)
    assert [node.op_type for node in rewritten.graph.node if node.op_type in ("Scan", "Loop")] == ["Loop"]
    generator = np.random.default_rng(0)
    feeds = {
        "start": np.zeros(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value, np.float32),
        "x": generator.standard_normal((3, 4)).astype(np.float32),
    }
    expected = run(open_session(model, provider=CPU), feeds)
    found = run(open_session(rewritten, provider=CPU, optimize="disabled"), feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    np.testing.assert_array_equal(found[names[0]][-len(feeds["start"]) :], expected["last"])


def test_ranks_that_are_unknown_are_needed_only_to_move_an_axis() -> None:
    for out_axis, possible in ((0, True), (1, False)):
        model = scan(0, 0, out_axis, 0)
        model.graph.node[0].attribute[0].g.output[1].type.tensor_type.ClearField("shape")
        node = model.graph.node[0]
        body = next(attribute for attribute in node.attribute if attribute.name == "body").g
        body.output[1].type.tensor_type.ClearField("shape")
        assert can_be_loop(node) is possible
