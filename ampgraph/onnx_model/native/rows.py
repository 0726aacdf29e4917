"""Rows of a batch in another order, as attention in windows reads and leaves them: one copy of whole vectors.

onnxruntime's Gather computes the place of every single element: on one H200, Swin-T at batch 32, its 28 take 0.43 of
3.0 ms in float16 (benchmarks/gpu_kernels.py).
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Net
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.native.step import Slot, Step, constant

_RANK = 3
_KEEP_TYPE = ("Reshape", "Transpose", "Gather", "Add", "Identity", "Squeeze", "Unsqueeze", "Slice", "Concat")


def rows_step(net: Net, each: NodeProto) -> Step | None:
    """A Gather of float16 rows at known places, axis 1 of three, as a kernel of ours; None for others."""
    places = net.table(each.input[1]) if each.input[1] in net.constants else None
    sizes = sizes_of(net, each.input[0])
    if places is None or places.ndim != 1 or plain_attributes(each).get("axis", 0) != 1:
        return None
    if sizes is None or len(sizes) != _RANK or sizes[1] is None or sizes[2] is None or sizes[2] % VECTOR:
        return None
    is_within = places.size > 0 and places.min() >= 0 and places.max() < sizes[1]
    if not is_within or not is_low(net, each.input[0]):
        return None
    inputs = (Slot(each.input[0]), constant(each.input[1], places.astype(np.int32)))
    return Step("Rows", inputs, each.output[0], (each,), last=False)


def sizes_of(net: Net, name: str) -> tuple[int | None, ...] | None:
    """The sizes of a value's dimensions, None for those that are free; None where they are not known.

    Where inference stopped before a Reshape, what that says: a whole number is one, others are free.
    """
    known = net.sizes(name)
    if known:
        return known
    reshape = net.maker(name, "Reshape")
    target = net.values(reshape.input[1]) if reshape is not None else None
    return None if target is None else tuple(int(size) if size > 0 else None for size in target.reshape(-1))


def is_low(net: Net, name: str) -> bool:
    """Whether a value is float16: as inferred, or by what makes it where inference stops at onnxruntime's operators."""
    while net.source.kinds.get(name) is None:
        if name in net.constants:
            return net.constants[name].data_type == TensorProto.FLOAT16
        maker = net.makers.get(name)
        if maker is None or not (maker.domain == CONTRIB or maker.op_type in (*_KEEP_TYPE, "MatMul")):
            return False
        name = maker.input[1] if maker.op_type == "MatMul" and maker.input[1] in net.constants else maker.input[0]
    return net.source.kinds[name] == TensorProto.FLOAT16
