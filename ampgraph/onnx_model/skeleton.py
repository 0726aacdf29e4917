"""Skeleton: a model without the data of its large weights, to look at, or to open with the data as they lie in memory.

A session of a model as bytes costs copies: into the bytes, out of them, into onnxruntime's own memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.tensors import element_count
from ampgraph.onnx_model.types import LARGEST_CONSTANT_FOR_INFERENCE, bodies

Weights = dict[str, npt.NDArray[np.generic]]

_KEPT = ("input", "output", "value_info", "sparse_initializer", "metadata_props", "quantization_annotation")
_INITIALIZERS_ALONE = 4  # the IR version from which an initializer need not be an input
_PLAIN = frozenset((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.INT32, TensorProto.INT8))


def skeleton(model: ModelProto) -> ModelProto:
    """A copy whose large initializers, and large float32 constants of its main graph's nodes, have a shape and no data.

    Such a constant's tensor is named after its value.
    """
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
    for node in source.node:
        copy, tensor = target.node.add(), large_constant(node)
        if tensor is None:
            copy.CopyFrom(node)
        else:
            copy.op_type, copy.domain, copy.name, copy.doc_string = (
                node.op_type,
                node.domain,
                node.name,
                node.doc_string,
            )
            copy.output.extend(node.output)
            copy.metadata_props.extend(node.metadata_props)
            value = copy.attribute.add(name="value", type=AttributeProto.TENSOR).t
            value.name, value.data_type = node.output[0], tensor.data_type
            value.dims.extend(tensor.dims)
    for tensor in source.initializer:
        small = element_count(tensor) <= LARGEST_CONSTANT_FOR_INFERENCE
        if small or tensor.data_location == TensorProto.EXTERNAL:
            target.initializer.add().CopyFrom(tensor)
        else:
            target.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return bones


def large_constant(node: NodeProto) -> TensorProto | None:
    """The tensor of a Constant node that `skeleton` takes the data of."""
    if node.op_type != "Constant" or node.domain or len(node.attribute) != 1:
        return None
    tensor = node.attribute[0].t
    is_own = tensor.data_type == TensorProto.FLOAT and tensor.data_location != TensorProto.EXTERNAL
    return tensor if is_own and element_count(tensor) > LARGEST_CONSTANT_FOR_INFERENCE else None


def is_stripped(tensor: TensorProto) -> bool:
    """Whether a tensor left its data behind in `skeleton`."""
    large = element_count(tensor) > LARGEST_CONSTANT_FOR_INFERENCE
    return large and not tensor.raw_data and tensor.data_location != TensorProto.EXTERNAL


def large_data(model: ModelProto) -> dict[str, TensorProto]:
    """Initializers of the main graph, and its nodes' constants that `skeleton` strips, by the name of the value."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if (tensor := large_constant(node)) is not None:
            found[node.output[0]] = tensor
    return found


def weights_apart(model: ModelProto) -> tuple[ModelProto, Weights]:
    """The model with references in place of its large weights, all of them initializers, and those by name.

    What can be overridden, is not read (onnxruntime forgets it), lies in a file of its own, or is of a type that numpy
    lacks stays where it is.
    """
    bones, weights, full = skeleton(model), Weights(), large_data(model)
    stay = full.keys() - read_in(model.graph) | {value.name for value in model.graph.input}
    for index, node in reversed(list(enumerate(bones.graph.node))):
        if (tensor := large_constant(node)) is None:
            continue
        if model.ir_version < _INITIALIZERS_ALONE:
            node.CopyFrom(model.graph.node[index])
        else:
            bones.graph.initializer.append(tensor)
            del bones.graph.node[index]
    for tensor in bones.graph.initializer:
        if not is_stripped(tensor):
            continue
        if tensor.name in stay or tensor.data_type not in _PLAIN:
            name = tensor.name
            tensor.CopyFrom(full[name])
            tensor.name = name
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
