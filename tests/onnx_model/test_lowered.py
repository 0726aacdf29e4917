"""What the runtime's graph holds low, by node and by value."""

import numpy as np
import onnx
from onnx import parser

from ampgraph.onnx_model.lowered import lowered_by_runtime
from ampgraph.onnx_model.run import optimized_graph

HEADER = '<ir_version: 10, opset_import: ["" : 17]>'


def test_what_the_runtime_holds_low_is_found_by_node_and_by_value() -> None:
    model = parser.parse_model(f"""{HEADER} g (float[2, 2] x, bool c) => (float[2, 2] y, bool[2, 2] q) {{
        [high] a = Exp(x)  b = Cast<to = 10>(a)  [moved] t = Transpose<perm = [1, 0]>(b)
        [compared] q = Less(t, b)
        y = If(c) <then_branch = p () => (float[2, 2] u) {{ [inner] s = Reshape(t, k) u = Cast<to = 1>(s) }},
                   else_branch = e () => (float[2, 2] v) {{ [kept] v = Neg(a) }}> }}""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 2]), "k"))
    names = ["high", "moved", "inner", "kept", "a", "b", "t", "not there"]
    assert lowered_by_runtime(model, [*names, "compared"]) == ("moved", "inner", "b", "t", "compared")
    optimized = optimized_graph(model, "CPUExecutionProvider")
    assert lowered_by_runtime(optimized, ["high", "kept", "a"]) == ()
    assert lowered_by_runtime(optimized, ["moved"]) == ("moved",)
