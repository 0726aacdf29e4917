"""Pool: the means and largest values of images that kernels of ours compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.excite import mean_at
from ampgraph.onnx_model.native.step import Step, image

_WINDOW = ("kernel_shape", "strides", "pads", "count_include_pad")
_RANK = 4
Sizes = tuple[int | None, ...] | None


def pool_step(net: Net, each: NodeProto) -> Step | None:
    """The mean over all pixels, or the largest of windows or their means; None for all else."""
    nodes = mean_at(net, each)
    if nodes:
        kept = flat_or_not(net, nodes)
        return Step("Mean", (image(each.input[0]),), nodes[-1].output[0], nodes, last=False, attributes=kept)
    how = window_attributes(net, each)
    if how is None:
        return None
    return Step(each.op_type, (image(each.input[0]),), each.output[0], (each,), attributes=how)


def flat_or_not(net: Net, nodes: tuple[NodeProto, ...]) -> dict[str, int]:
    """What our Mean is told of the nodes of one: whether what it makes is an image of one pixel, or a row."""
    shape = net.shapes.get(nodes[-1].output[0])
    return {"keepdims": 0} if shape is not None and len(shape) < _RANK else {}


def window_attributes(net: Net, each: NodeProto) -> dict[str, Any] | None:
    """What our kernel is told of a MaxPool or AveragePool; None where it is neither, or one that none knows.

    Sizes that are rounded up are those of an image with a wider border, whose pixels are never the largest.
    """
    if each.op_type not in ("MaxPool", "AveragePool") or len(each.output) != 1:
        return None
    how = plain_attributes(each)
    plain = set(how.get("dilations", (1,))) == {1}  # type: ignore[arg-type]
    if not plain or how.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    found: dict[str, Any] = {name: how[name] for name in _WINDOW if name in how}
    if not how.get("ceil_mode"):
        return found
    wider = _with_border(found, *(net.sizes(name) for name in (each.input[0], each.output[0])))
    means = each.op_type == "AveragePool" and wider is not None and _border_of(wider) != _border_of(found)
    return None if means else wider  # of a border that comes by rounding no definition says whether it counts


def _border_of(how: dict[str, Any]) -> tuple[int, ...]:
    return tuple(how.get("pads", (0, 0, 0, 0)))


def _with_border(how: dict[str, Any], size: Sizes, wanted: Sizes) -> dict[str, Any] | None:
    """A window with as much border below and to the right as gives the wanted sizes; None where one is free."""
    if size is None or wanted is None or None in (*size[2:], *wanted[2:]):
        return None
    pads, strides = np.array(how.get("pads", (0, 0, 0, 0))), np.array(how.get("strides", (1, 1)))
    reach = (np.array(wanted[2:]) - 1) * strides + np.array(how["kernel_shape"])
    after = np.maximum(pads[2:], reach - np.array(size[2:]) - pads[:2])
    if any(after >= how["kernel_shape"]):  # windows of nothing but border
        return None
    return {**how, "pads": tuple(int(pad) for pad in (*pads[:2], *after))}
