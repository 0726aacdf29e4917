"""Pool: the means and largest values of images that kernels of ours compute."""

from __future__ import annotations

from typing import Any

from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.excite import mean_at
from ampgraph.onnx_model.native.step import Step, image


def pool_step(net: Net, each: NodeProto) -> Step | None:
    """The mean over all pixels, or the largest of windows; None for all else."""
    nodes = mean_at(net, each)
    if nodes:
        return Step("Mean", (image(each.input[0]),), nodes[-1].output[0], nodes, last=False)
    how = max_pool_attributes(each)
    return None if how is None else Step("MaxPool", (image(each.input[0]),), each.output[0], (each,), attributes=how)


def max_pool_attributes(each: NodeProto) -> dict[str, Any] | None:
    """What our kernel is told of a MaxPool; None where it is none, or one that the kernel does not know."""
    if each.op_type != "MaxPool" or len(each.output) != 1:
        return None
    how = plain_attributes(each)
    plain = not how.get("ceil_mode") and set(how.get("dilations", (1,))) == {1}  # type: ignore[arg-type]
    if not plain or how.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    return {name: how[name] for name in ("kernel_shape", "strides", "pads") if name in how}
