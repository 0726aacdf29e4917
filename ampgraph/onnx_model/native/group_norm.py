"""Group normalization with what goes with it: a change of layout before, a sum by channel, SiLU, a cast after.

onnxruntime's GroupNorm wants channels last and one type: for an image with channels first in float32 that is a
Transpose and a Cast more, each of which reads and writes the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Net
from ampgraph.onnx_model.native.conv import VECTOR, alike
from ampgraph.onnx_model.native.step import NOTHING, Slot, Step, image

LAST = (0, 2, 3, 1)
_MOST_CHANNELS, _MOST_GROUPS = 4096, 256  # what a block of 512 threads has room for
_SILU = 1


@dataclass(frozen=True)
class _Source:
    """An image with channels first, the sum before it ("" for none), and the nodes that go."""

    value: str
    offset: str = ""
    old: tuple[NodeProto, ...] = ()


def group_norm_step(net: Net, each: NodeProto) -> Step | None:
    """onnxruntime's GroupNorm as a kernel of ours; None for what it does not compute, or where nothing is gained."""
    change = net.maker(each.input[0], "Transpose")
    if each.op_type != "GroupNorm" or change is None or not _fits(net, each):
        return None
    if tuple(plain_attributes(change).get("perm", ())) != LAST:  # type: ignore[arg-type]
        return None
    how = plain_attributes(each)
    attributes: dict[str, Any] = {"groups": how["groups"], "epsilon": how.get("epsilon", 1e-5)}
    attributes |= {"activation": "Silu"} if how.get("activation") == _SILU else {}
    rows, kind = tuple(Slot(name) for name in each.input[1:3]), net.source.kinds.get(change.input[0])
    if kind == TensorProto.FLOAT16:
        found = _with_offset(net, change)
        inputs = (image(found.value), *rows, Slot(found.offset) if found.offset else NOTHING)
        return _step(inputs, (*found.old, each), attributes)
    cast = net.sole_reader(each.output[0], "Cast")
    if kind != TensorProto.FLOAT or cast is None or plain_attributes(cast)["to"] != TensorProto.FLOAT16:
        return None
    return _step((Slot(change.input[0]), *rows), (each, cast), {**attributes, "first": 1})


def _step(inputs: tuple[Slot, ...], old: tuple[NodeProto, ...], attributes: dict[str, Any]) -> Step:
    made = old[-1].output[0]
    return Step("GroupNorm", inputs, made, old, last=False, further=(f"{made}_moments",), attributes=attributes)


def _fits(net: Net, each: NodeProto) -> bool:
    how: dict[str, Any] = dict(plain_attributes(each))
    row = net.constants.get(each.input[1])
    if row is None or row.data_type != TensorProto.FLOAT or not how.get("channels_last", 1):
        return False
    channels, groups = row.dims[0], how["groups"]
    return not channels % VECTOR and not channels % groups and channels <= _MOST_CHANNELS and groups <= _MOST_GROUPS


def _with_offset(net: Net, change: NodeProto) -> _Source:
    """The image that is normalized, a sum with one number a channel and image left to the kernel."""
    plain = _Source(change.input[0])
    add = net.maker(change.input[0], "Add")
    if add is None or net.sole_reader(change.input[0], "Transpose") is not change:
        return plain
    for value, offset in (add.input, reversed(add.input)):
        if offset not in net.constants and alike(net, value, add.output[0]) and _is_by_channel(net, offset, value):
            return _Source(value, offset, (add, change))
    return plain


def _is_by_channel(net: Net, offset: str, value: str) -> bool:
    sizes = [(shapes.get(offset), shapes.get(value)) for shapes in (net.shapes, net.others)]
    return all(one is not None and of is not None and one == (*of[:2], 1, 1) for one, of in sizes)


def residual_step(net: Net, add: NodeProto, is_last: bool, cast: NodeProto, other: str) -> Step | None:
    """The float32 sum of an image with channels first and the cast of one with channels last."""
    plain = is_last and net.sole_reader(cast.output[0], "Add") is add and alike(net, other, cast.input[0])
    shape = net.shapes.get(other, ())
    if not plain or len(shape) != len(LAST) or shape[1] % VECTOR or net.source.kinds.get(other) != TensorProto.FLOAT:
        return None
    return Step("Residual", (Slot(other), image(cast.input[0])), add.output[0], (cast, add), last=False)
