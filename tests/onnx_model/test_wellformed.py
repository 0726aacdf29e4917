"""What is refused before planning, and what is not."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from ampgraph.errors import ModelError
from ampgraph.onnx_model.wellformed import refuse_ill_formed


def parse(text: str, opset: int = 17) -> onnx.ModelProto:
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "custom" : 1]> g {text}')


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(float[4] x) => (float[4] y) { y = Relu(x, x) }", "input size 2"),
        ("(float[4] x) => (float[4] y) { y = Relu(x)  y = Neg(x) }", "single static assignment"),
        ("(float[4] x) => (float[4] y) { y = Relu<alpha = 1.0>(x) }", "Unrecognized attribute: alpha"),
        ("(float[4,3] x, float[4,3] z) => (float[4,3] y) { y = MatMul(x, z) }", "Incompatible dimensions"),
        ("(float[4] x) => (float[4] y) { y = Conv(x, x) }", "at least 3 dimensions"),
        ("(float[4] x) => (float[4] y) { y = Cast<to = 99>(x) }", "valid type"),
        ("(float[4] x) => (int64[4] y) { y = Relu(x) }", "elem type differs"),
    ],
)
def test_ill_formed_models(text: str, complaint: str) -> None:
    with pytest.raises(ModelError) as caught:
        refuse_ill_formed(parse(text), "model.onnx")
    assert str(caught.value).startswith("model.onnx: is ill-formed (")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "(float[4] x) => (float[4] y) { y = custom.Mystery(x) }",
        "(float[4] x) => (float[4] y) { y = Mystery(x) }",
        "(float[4] x) => (float[5] y) <float[7] h> { h = Relu(x)  y = Relu(h) }",
        "(float[2,3,4,4] x) => (float[2,3,4,4] y) { y = MeanVarianceNormalization(x) }",
    ],
)
def test_stale_shapes_and_unknown_operators_pass(text: str) -> None:
    refuse_ill_formed(parse(text), "model.onnx")


def test_large_weights_pass_without_being_read() -> None:
    model = parse("(float[1,64] x) => (float[1,64] y) { y = MatMul(x, w) }")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 64), np.float32), "w"))
    refuse_ill_formed(model, "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="nowhere")
    refuse_ill_formed(model, "model.onnx")
    assert tensor.dims == [64, 64]


def test_versions_that_onnx_does_not_know() -> None:
    text = "(float[4] x) => (float[4] y) { y = Relu(x) }"
    with pytest.raises(ModelError, match="is of opset 999"):
        refuse_ill_formed(parse(text, 999), "model.onnx")
    model = parse(text)
    model.opset_import[0].version = -1
    with pytest.raises(ModelError, match="an opset version is no version"):
        refuse_ill_formed(model, "model.onnx")


def test_damaged_names_and_types() -> None:
    model = parse("(float[4] x) => (float[4] y) { y = Add(x, c) }")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "c"))
    model.graph.initializer[0].data_type = 99
    with pytest.raises(ModelError, match="'c' has the unknown element type 99"):
        refuse_ill_formed(model, "model.onnx")
    damaged = onnx.ModelProto.FromString(
        parse("(float[4] x) => (float[4] y) { y = Relu(x) }").SerializeToString().replace(b"Relu", b"Rel\xff")
    )
    with pytest.raises(ModelError, match="is ill-formed"):
        refuse_ill_formed(damaged, "model.onnx")
