"""Opsets that would admit a precision."""

import onnx
from onnx import parser

from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.opsets import needed_opsets
from ampgraph.precision import Precision


def needed(body: str, precision: Precision, opset: int) -> dict[str, int]:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[1,4,8,8] x) => (float[1,4,N,M] y) {{ {body} }}'
    return needed_opsets(lift(parser.parse_model(text), precision=precision), precision)


def test_bfloat16_convolution_needs_opset_22() -> None:
    body = "y = MaxPool<kernel_shape = [2,2]>(x)"
    assert needed(body, Precision.BFLOAT16, 17) == {"MaxPool": 22}
    assert needed(body, Precision.BFLOAT16, 22) == {}
    assert needed(body, Precision.FLOAT16, 17) == {}
    schema = onnx.defs.get_schema("MaxPool", 22)
    assert "tensor(bfloat16)" in schema.type_constraints[0].allowed_type_strs


def test_each_operator_is_named_once() -> None:
    assert needed("a = Relu(x)  b = Relu(a)  y = Erf(b)", Precision.BFLOAT16, 9) == {"Relu": 13, "Erf": 13}
