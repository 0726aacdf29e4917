"""Flat: tensors of any rank as (rows, 1, width) for kernels that take three axes, and back. A reshape moves no data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.fuse.net import Net, node
from ampgraph.onnx_model.fuse.view import Shape

_PREFIX = "ampgraph_shape_"


@dataclass(frozen=True)
class Flat:
    """How values of one shape become rows and come back: the operands of two reshapes, and the shape of the rows."""

    there: TensorProto
    back: TensorProto
    shape: Shape

    def flattened(self, name: str, flat: str) -> NodeProto:
        """The node that makes rows of a value."""
        return node("Reshape", [name, self.there.name], [flat])

    def restored(self, flat: str, name: str) -> NodeProto:
        """The node that makes the value of its rows."""
        return node("Reshape", [flat, self.back.name], [name])


def flat_of(net: Net, name: str) -> Flat | None:
    """How a value becomes rows; None where more than one of its dimensions is free, so that nothing brings it back."""
    sizes = net.sizes(name)
    if sizes is None or len(sizes) < 2 or sizes[-1] is None or sizes[:-1].count(None) > 1:
        return None
    shape = net.shapes[name]
    back = [-1 if size is None else size for size in sizes]
    return Flat(_operand([-1, 1, shape[-1]]), _operand(back), (prod(shape[:-1]), 1, shape[-1]))


def _operand(sizes: list[int]) -> TensorProto:
    """A shape as a constant; one name for one shape, so that nodes share it."""
    name = _PREFIX + "_".join(str(size).replace("-1", "any") for size in sizes)
    return numpy_helper.from_array(np.array(sizes, np.int64), name)
