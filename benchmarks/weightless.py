"""Models without their weights, small enough to carry, and random weights of the same statistics put back in.

Weights of random networks say nothing that a mean and a deviation do not say too.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

KEY = "benchmarks.weights"  # model metadata: name -> [mean, deviation]
_LARGE = 1024  # elements


def stripped(model: ModelProto) -> ModelProto:
    """A copy in which large float32 initializers have no data, only their statistics in the model's metadata."""
    copy, statistics = ModelProto(), {}
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > _LARGE:
            values = numpy_helper.to_array(tensor)
            statistics[tensor.name] = [float(values.mean()), float(values.std())]
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    onnx.helper.set_model_props(copy, {KEY: json.dumps(statistics)})
    return copy


def filled(model: ModelProto) -> ModelProto:
    """A copy with random weights for those that were stripped, a function of their names alone."""
    copy = ModelProto()
    copy.CopyFrom(model)
    statistics = json.loads(next(entry.value for entry in copy.metadata_props if entry.key == KEY))
    for tensor in copy.graph.initializer:
        if tensor.name in statistics:
            mean, deviation = statistics[tensor.name]
            seed = int.from_bytes(hashlib.sha256(tensor.name.encode()).digest()[:8], "little")
            values = np.random.default_rng(seed).standard_normal(tuple(tensor.dims), np.float32)
            tensor.raw_data = (values * np.float32(deviation) + np.float32(mean)).tobytes()
    del copy.metadata_props[:]
    return copy
