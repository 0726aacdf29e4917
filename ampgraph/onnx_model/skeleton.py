"""Skeleton: a model without the data of its large weights, to look at, or to open with the data as they lie in memory.

A session of a model as bytes costs copies: into the bytes, out of them, into onnxruntime's own memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.types import LARGEST_CONSTANT_FOR_INFERENCE, bodies

Weights = dict[str, npt.NDArray[np.generic]]

_KEPT = ("node", "input", "output", "value_info", "sparse_initializer", "metadata_props", "quantization_annotation")
_PLAIN = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32, TensorProto.INT8))


def skeleton(model: ModelProto) -> ModelProto:
    """A copy whose large initializers have a shape and no data."""
    bones = ModelProto()
    bones.ir_version = model.ir_version
    bones.opset_import.extend(model.opset_import)
    bones.metadata_props.extend(model.metadata_props)
    bones.functions.extend(model.functions)  # those that could not be inlined
    for said in ("producer_name", "producer_version", "domain", "doc_string", "model_version"):
        if model.HasField(said):
            setattr(bones, said, getattr(model, said))
    source, target = model.graph, bones.graph
    for said in ("name", "doc_string"):
        if source.HasField(said):
            setattr(target, said, getattr(source, said))
    for repeated in _KEPT:
        getattr(target, repeated).extend(getattr(source, repeated))
    for tensor in source.initializer:
        small = np.prod(tensor.dims) <= LARGEST_CONSTANT_FOR_INFERENCE
        if small or tensor.data_location == TensorProto.EXTERNAL:
            target.initializer.add().CopyFrom(tensor)
        else:
            target.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return bones


def is_stripped(tensor: TensorProto) -> bool:
    """Whether a tensor left its data behind in `skeleton`."""
    large = np.prod(tensor.dims) > LARGEST_CONSTANT_FOR_INFERENCE
    return bool(large) and not tensor.raw_data and tensor.data_location != TensorProto.EXTERNAL


def weights_apart(model: ModelProto) -> tuple[ModelProto, Weights]:
    """The model with references in place of its large initializers, and those by name.

    What can be overridden, is not read (onnxruntime forgets it), lies in a file of its own, or is of a type that numpy
    lacks stays where it is.
    """
    bones, weights = skeleton(model), Weights()
    full = {tensor.name: tensor for tensor in model.graph.initializer}
    stay = full.keys() - read_in(model.graph) | {value.name for value in model.graph.input}
    for tensor in bones.graph.initializer:
        if not is_stripped(tensor):
            continue
        if tensor.name in stay or tensor.data_type not in _PLAIN:
            tensor.CopyFrom(full[tensor.name])
            continue
        array = weights[tensor.name] = numpy_helper.to_array(full[tensor.name])
        tensor.data_location = TensorProto.EXTERNAL
        for key, said in {"location": "in memory", "offset": "0", "length": str(array.nbytes)}.items():
            tensor.external_data.add(key=key, value=said)
    return bones, weights


def read_in(graph: GraphProto) -> set[str]:
    """Names that nodes read, bodies included, and graph outputs."""
    found = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        for _, body in bodies(node):
            found |= captured(body)
    return found
