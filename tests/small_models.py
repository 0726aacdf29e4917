"""Small hand-made models that tests of the surface share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser

from ampgraph.onnx_model.names import walk

HEAD = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "custom" : 1]>'


def parse(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """A model from ONNX text (without its header), with initializers."""
    model = parser.parse_model(f"{HEAD} {text}")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


def random(*shape: int, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(shape) * scale).astype(np.float32)


def classifier() -> onnx.ModelProto:
    """Convolution, product and an exponential under a sum: low in two ops, float32 for their numbers in others."""
    text = """classifier (float[N,8,16,16] image) => (float[N,4] scores) {
        [conv] features = Conv<pads = [1,1,1,1]>(image, kernel)
        [relu] active = Relu(features)
        [pool] pooled = GlobalAveragePool(active)
        [flat] flat = Flatten(pooled)
        [head] logits = MatMul(flat, weight)
        [exp] powers = Exp(logits)
        [total] total = ReduceSum<keepdims = 1>(powers, axes)
        [share] scores = Div(powers, total)
    }"""
    return parse(text, kernel=random(8, 8, 3, 3), weight=random(8, 4), axes=np.array([1]))


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def unmarked(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without what ampgraph wrote into the metadata of the model and of its nodes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for each in (copy, *walk(copy.graph)):
        kept = [(entry.key, entry.value) for entry in each.metadata_props if not entry.key.startswith("ampgraph.")]
        del each.metadata_props[:]
        for key, value in kept:
            each.metadata_props.add(key=key, value=value)
    return copy


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Types of graph inputs and outputs by name."""
    values = (*model.graph.input, *model.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}
