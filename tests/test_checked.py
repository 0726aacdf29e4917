"""`--check` of conversions that run: what the evaluator of low precision has to read in a source."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import ampgraph
from tests.models import parse
from tests.traps.data import data_traps
from tests.traps.operators import operators_traps

TRAPS = {trap.name: trap.model for trap in (*data_traps(), *operators_traps())}
GEMM = """g (float[N,8] x) => (float[N,4] y) { h = Relu(x)  q = QuantizeLinear(h, s, z)
    p = com.microsoft.QGemm<transB = 0>(q, s, z, b, t, u, c, s, z)  d = DequantizeLinear(p, s, z)  y = Exp(d) }"""


def quantized() -> ModelProto:
    model = parse(GEMM, opset=20, com_microsoft=1)
    draw = np.random.default_rng(0)
    given = {"s": np.float32(0.05), "z": np.int8(0), "b": draw.integers(-9, 9, (8, 4)).astype(np.int8)}
    given |= {"t": np.float32(0.01), "u": np.int8(0), "c": np.zeros(4, np.int32)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in given.items())
    return model


def stale() -> ModelProto:
    """With another size stated of the inner value than it has."""
    model = parse("g (float[N,8] x) => (float[N,8] y) { h = MatMul(x, a)  y = MatMul(h, b) }")
    for name, shape in (("a", (8, 4)), ("b", (4, 8))):
        model.graph.initializer.append(numpy_helper.from_array(np.full(shape, 0.1, np.float32), name))
    model.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 5]))
    return model


def empty() -> ModelProto:
    """Its output is its input."""
    return parse("g (float[3] x) => (float[3] x) { }")


CASES = {
    "a sparse constant": (TRAPS["a sparse constant"], {}),
    "a sparse initializer": (TRAPS["a sparse initializer"], {}),
    "Swish without its attribute": (TRAPS["Swish"], {}),
    "QGemm": (quantized(), {}),
    "a stale size": (stale(), {}),
    "a stale size, low interface": (stale(), {"io": "low"}),
    "nothing": (empty(), {"io": "low"}),
}


@pytest.mark.parametrize("objective", ["speed", "coverage"])
@pytest.mark.parametrize(("model", "options"), CASES.values(), ids=CASES)
def test_what_runs_passes_its_check(model: ModelProto, options: dict[str, str], objective: str) -> None:
    onnx.checker.check_model(model)
    found = ampgraph.convert(model, objective=objective, check=True, **options).check
    assert found is not None
    assert found.failures == ()
