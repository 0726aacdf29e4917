"""GEGLU: one half of a projection times the GELU of the other, with the bias before, as onnxruntime's BiasSplitGelu.

On one H100, float16, (2, 4096, 2560): 33.0 us; Split, Gelu and Mul 106.5. Only onnxruntime's CUDA provider has the
kernel, and only for the widths of Stable Diffusion (contrib_ops/cuda/diffusion/bias_split_gelu.cc).
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.group_norm import Row
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, fresh, node, with_origin

WIDTHS = (2560, 5120, 10240)  # of the projection


@dataclass(frozen=True)
class _Gated:
    """A product of a value's left half and the GELU of its right one; `nodes`: that compute it, first to last."""

    nodes: tuple[NodeProto, ...]
    value: str
    bias: str = ""


def fuse_split_gelu(net: Net) -> Fusion:
    """Every GEGLU of a width that the kernel takes. Looks for GELU as one operator."""
    nodes: list[NodeProto] = []
    removed: list[NodeProto] = []
    rows: dict[str, Row] = {}
    for each in net.graph.node:
        found = _gated(net, each) if each.op_type == "Mul" and each.domain in ("", "ai.onnx") else None
        if found is not None:
            bias = found.bias or _zeros(net, rows, net.shapes[found.value][-1])
            new = node("BiasSplitGelu", [found.value, bias], each.output, CONTRIB)
            nodes.append(with_origin(new, found.nodes))
            removed += found.nodes
    constants = (TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[row.size]) for name, row in rows.items())
    return Fusion(tuple(nodes), removed=tuple(removed), constants=tuple(constants), merged=rows)


def _gated(net: Net, times: NodeProto) -> _Gated | None:
    for left, right in (tuple(times.input), tuple(reversed(times.input))):
        gelu = net.makers.get(right)
        if gelu is None or not _is_exact(gelu) or not _is_read_by(net, right, times) or right == left:
            continue
        halves = _halves(net, left, gelu.input[0])
        if halves and _is_read_by(net, left, times) and _is_read_by(net, gelu.input[0], gelu):
            value = halves[0].input[0]
            shape = net.shapes.get(value, ())
            taken = len(shape) == 3 and shape[-1] in WIDTHS and 0 not in shape
            return _biased(net, _Gated((*halves, gelu, times), value), len(halves)) if taken else None
    return None


def _is_exact(each: NodeProto) -> bool:
    return each.op_type == "Gelu" and plain_attributes(each).get("approximate", "none") in ("none", b"none")


def _is_read_by(net: Net, name: str, *readers: NodeProto) -> bool:
    """Whether these nodes alone read a value."""
    found = net.readers.get(name, ())
    return name not in net.fixed and len(found) == len(readers) and all(any(a is b for b in readers) for a in found)


def _halves(net: Net, left: str, right: str) -> tuple[NodeProto, ...]:
    """The nodes that cut a value's last axis into these halves; none where they are not that."""
    one, other = net.maker(left, "Split", "Slice"), net.maker(right, "Split", "Slice")
    if one is None or other is None or one.input[0] != other.input[0]:
        return ()
    whole = net.shapes.get(one.input[0], ())
    half = (*whole[:-1], whole[-1] // 2) if whole and whole[-1] % 2 == 0 else ()
    if not half or net.shapes.get(left) != half or net.shapes.get(right) != half:
        return ()
    if one is other:
        return (one,) if list(one.output) == [left, right] else ()
    starts = [_start(net, each, whole[-1]) for each in (one, other)]
    return (one, other) if starts == [0, half[-1]] else ()


def _start(net: Net, each: NodeProto, width: int) -> int | None:
    """Where a slice with a step of one begins, seen from the front; None for what is no such slice."""
    given = [net.values(name) if name else None for name in each.input[1:]] if each.op_type == "Slice" else []
    if not given or given[0] is None or given[0].size != 1:
        return None
    steps = given[3] if len(given) > 3 else None
    if len(given) > 3 and each.input[4] and (steps is None or steps.tolist() != [1]):
        return None
    start = int(given[0].reshape(-1)[0])
    return start + width if start < 0 else start


def _biased(net: Net, found: _Gated, cuts: int) -> _Gated:
    """With the constant row that is added before, where nothing but the cuts reads the sum."""
    sum_ = net.maker(found.value, "Add")
    shape = net.shapes[found.value]
    if sum_ is None or not _is_read_by(net, found.value, *found.nodes[:cuts]):
        return found
    bias = next((name for name in sum_.input if net.is_vector(name, shape[-1]) and net.is_float(name)), "")
    value = next((name for name in sum_.input if name != bias), "")
    if not bias or net.shapes.get(value) != shape:
        return found
    return _Gated((sum_, *found.nodes), value, bias)


def _zeros(net: Net, rows: dict[str, Row], width: int) -> str:
    made = next((name for name, row in rows.items() if row.size == width), "") or fresh(net, f"zeros_{width}", rows)
    rows[made] = Row("", width)
    return made
