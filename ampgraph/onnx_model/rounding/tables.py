"""Tables: the numbers of the main graph's constants, by value id, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.external import is_external
from ampgraph.onnx_model.tensors import chunks, element_count, elements

_SMALL = 1 << 16  # elements


@dataclass(frozen=True)
class Tables:
    """`tensors` by value id, which in the main graph is the name; `folder` holds external data."""

    tensors: Mapping[str, TensorProto]
    folder: Path

    def sizes(self, id: str) -> tuple[int, ...]:
        """The shape of a float32 constant; empty for a scalar and for what is none."""
        tensor = self.tensors.get(id)
        return tuple(tensor.dims) if tensor is not None and tensor.data_type == TensorProto.FLOAT else ()

    def parts(self, id: str, length: int) -> Iterator[npt.NDArray[np.float32]]:
        """The elements of a float32 constant, flat, some at a time, a multiple of `length`."""
        return chunks(self.tensors[id], self.folder, length)

    def table(self, id: str) -> npt.NDArray[np.float64] | None:
        """The numbers of a small constant; None for what is none."""
        tensor = self.tensors.get(id)
        if tensor is None or element_count(tensor) > _SMALL:
            return None
        if tensor.data_type == TensorProto.FLOAT:
            return elements(tensor, self.folder).astype(np.float64).reshape(tuple(tensor.dims))
        known = tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and not is_external(tensor)
        return numpy_helper.to_array(tensor).astype(np.float64) if known else None


def tables(model: ModelProto, folder: Path) -> Tables:
    """Of a prepared model. Initializers that are inputs too can be overridden, and are none."""
    given = {value.name for value in model.graph.input}
    found = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in given}
    for node in model.graph.node:
        tensor = constant_tensor(node)
        if tensor is not None:
            found[node.output[0]] = tensor
    return Tables(found, folder)
