"""Flat: tensors of any rank as (rows, 1, width) for kernels that take three axes, and back. A reshape moves no data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.fuse.net import Net, node
from ampgraph.onnx_model.fuse.view import Shape

_PREFIX = "ampgraph_shape_"
_WORTH_SIZES = 3  # operators


@dataclass(frozen=True)
class Flat:
    """How values of one shape become rows and come back, and the shape of the rows.

    `there`, `back`: the operands of two reshapes; no `back` where the sizes are those that the value `like` has.
    """

    there: TensorProto
    back: TensorProto | None
    shape: Shape
    like: str

    @property
    def constants(self) -> tuple[TensorProto, ...]:
        """The operands that are constants."""
        return (self.there,) if self.back is None else (self.there, self.back)

    def flattened(self, name: str, flat: str) -> NodeProto:
        """The node that makes rows of a value."""
        return node("Reshape", [name, self.there.name], [flat])

    def restored(self, flat: str, name: str) -> tuple[NodeProto, ...]:
        """The nodes that make the value of its rows."""
        if self.back is not None:
            return (node("Reshape", [flat, self.back.name], [name]),)
        sizes = f"{flat}_sizes"
        return (node("Shape", [self.like], [sizes]), node("Reshape", [flat, sizes], [name]))


def flat_of(net: Net, name: str, saved: int) -> Flat | None:
    """How a value becomes rows; None where its width is free, and where more sizes than one are and it saves little.

    `saved`: operators that one on rows stands for. To find sizes out is one more, and a reshape to be told them.
    """
    sizes = net.sizes(name)
    if sizes is None or len(sizes) < 2 or sizes[-1] is None or (sizes.count(None) > 1 and saved < _WORTH_SIZES):
        return None
    shape = net.shapes[name]
    back = [-1 if size is None else size for size in sizes]
    known = _operand(back) if back.count(-1) < 2 else None
    return Flat(_operand([-1, 1, shape[-1]]), known, (prod(shape[:-1]), 1, shape[-1]), name)


def _operand(sizes: list[int]) -> TensorProto:
    """A shape as a constant; one name for one shape, so that nodes share it."""
    name = _PREFIX + "_".join(str(size).replace("-1", "any") for size in sizes)
    return numpy_helper.from_array(np.array(sizes, np.int64), name)
