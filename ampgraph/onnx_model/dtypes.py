"""Element types: ONNX's enumeration, the names ampgraph uses, and the precisions among them."""

from __future__ import annotations

from onnx import TensorProto

from ampgraph.precision import Precision

_SPELLED = {"FLOAT": "float32", "DOUBLE": "float64", "UNDEFINED": ""}
NAMES = {number: _SPELLED.get(name, name.lower()) for name, number in TensorProto.DataType.items()}
ELEM_TYPES = {
    Precision.FLOAT32: TensorProto.FLOAT,
    Precision.FLOAT16: TensorProto.FLOAT16,
    Precision.BFLOAT16: TensorProto.BFLOAT16,
}
TENSOR_TYPES = {
    Precision.FLOAT32: "tensor(float)",
    Precision.FLOAT16: "tensor(float16)",
    Precision.BFLOAT16: "tensor(bfloat16)",
}
PRECISIONS = {precision.value: precision for precision in Precision}


def precision_of(dtype: str) -> Precision | None:
    """The precision that a dtype name stands for; None for float64 and all that is not a float."""
    return PRECISIONS.get(dtype)
