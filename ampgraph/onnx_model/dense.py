"""Dense: sparse constants with all their elements, for onnx-ir, which reads none that are sparse."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, SparseTensorProto, TensorProto, numpy_helper

from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.types import bodies


def with_dense(model: ModelProto) -> ModelProto:
    """A copy of the model without sparse constants; the model itself where it has none. Data must be in the proto."""
    if not any(graph.sparse_initializer for graph in _graphs(model.graph)) and not any(_attributes(model.graph)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for graph in _graphs(copy.graph):
        graph.initializer.extend(map(_dense, graph.sparse_initializer))
        del graph.sparse_initializer[:]
    for attribute in _attributes(copy.graph):
        tensor = _dense(attribute.sparse_tensor)
        attribute.Clear()
        attribute.name, attribute.type = "value", AttributeProto.TENSOR
        attribute.t.CopyFrom(tensor)
    return copy


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in walk(graph):
        for _, body in bodies(node):
            yield body


def _attributes(graph: GraphProto) -> Iterator[AttributeProto]:
    """The sparse values of Constant nodes."""
    for node in walk(graph):
        if node.op_type == "Constant":
            yield from (attribute for attribute in node.attribute if attribute.name == "sparse_value")


def _dense(sparse: SparseTensorProto) -> TensorProto:
    dims = tuple(sparse.dims)
    values, places = map(numpy_helper.to_array, (sparse.values, sparse.indices))
    made = np.zeros(prod(dims), values.dtype)
    made[np.ravel_multi_index(tuple(places.T), dims) if places.ndim > 1 else places] = values
    return numpy_helper.from_array(made.reshape(dims), sparse.values.name)
