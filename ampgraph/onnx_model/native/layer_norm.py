"""Layer and root mean square normalization of float16 rows, with the sums before them, as a kernel of ours.

onnxruntime's gives a block to each row, however short: on one H200, Swin-T at batch 32, five of the launches with 96 to
320 columns take 0.31 of 3.0 ms (benchmarks/gpu_kernels.py). Ours holds a row in registers, of as many threads as it has
work for, and normalizes the sum before it is rounded.

Sums with their normalization on one H200, microseconds a layer, onnxruntime's and ours (benchmarks/native_ops.py):
100,352 x 96 63 and 23, 25,088 x 192 18 and 9.5, 8,192 x 320 7.7 and 5.9, 6,272 x 384 6.4 and 5.3; but 8,192 x 512 8.4
and 9.0, 2,048 x 1,024 4.7 and 5.1, 197 x 768 2.6 and 3.1, 784 x 192 2.9 and 3.1. Of 3,072 x 768 5.9 and 5.6, of 6,304 x
768 both 9.6. MiniLM at batch 16, 13 of 512 x 384 in a plain run: 1.03 ms, with ours 1.18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Net
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.native.rows import is_low
from ampgraph.onnx_model.native.step import NOTHING, Slot, Step

WIDEST = 10_240  # columns that the threads of a block hold
_ENOUGH = 1 << 18  # elements: of fewer, the host's part is what counts
_NARROW = 384  # columns: up to these ours is faster at any number of rows
_SKIP, _PLACELESS = 3, 5  # of our inputs: which is the sum's other part, and how many there are without places
_SUM = 3  # the output of onnxruntime's operators that is what they normalize


@dataclass(frozen=True)
class _Kind:
    """An operator: what its inputs are, in order, epsilon where none is given, and whether it leaves the mean in."""

    inputs: tuple[str, ...]
    epsilon: float
    simple: bool = False


_KINDS: Mapping[tuple[str, str], _Kind] = {
    (CONTRIB, "SkipLayerNormalization"): _Kind(("x", "skip", "gamma", "beta", "bias"), 1e-12),
    (CONTRIB, "SkipSimplifiedLayerNormalization"): _Kind(("x", "skip", "gamma", "bias"), 1e-12, simple=True),
    ("", "LayerNormalization"): _Kind(("x", "gamma", "beta"), 1e-5),
    ("", "RMSNormalization"): _Kind(("x", "gamma"), 1e-5, simple=True),
    ("", "SimplifiedLayerNormalization"): _Kind(("x", "gamma"), 1e-5, simple=True),
}
NORMS = tuple(name for _, name in _KINDS)


def layer_norm_step(net: Net, each: NodeProto) -> Step | None:
    """A normalization of float16 rows by constant ones; None for other operators, types, axes, widths and results."""
    kind = _KINDS.get(("" if each.domain == "ai.onnx" else each.domain, each.op_type))
    if kind is None or any(each.output[1:_SUM]):
        return None
    given, how = dict(zip(kind.inputs, each.input, strict=False)), plain_attributes(each)
    if not _has_rows(net, given) or not (each.domain == CONTRIB or _is_of_rows(net, given["x"], how)):
        return None
    if _is_zero(net, given.get("skip", "")):
        del given["skip"]
    inputs = tuple(Slot(given[name]) if given.get(name) else NOTHING for name in ("x", "gamma", "beta", "skip", "bias"))
    attributes = {"epsilon": how.get("epsilon", kind.epsilon), **({"simple": 1} if kind.simple else {})}
    made = _read_sum(net, each)
    return Step("LayerNorm", inputs, each.output[0], (each,), last=False, further=made, attributes=attributes)


def saves_a_launch(step: Step) -> bool:
    """Whether a step stands for more than one operator of onnxruntime's: not a normalization or copy of rows alone."""
    return step.op not in ("LayerNorm", "Rows") or (step.op == "LayerNorm" and len(step.inputs) > _PLACELESS)


def gains(net: Net, step: Step) -> bool:
    """Whether ours is the faster: not where wide rows, or few, are summed and normalized, and nothing else.

    A step that reads or leaves rows at their places saves launches.
    """
    if step.op == "Rows" or saves_a_launch(step) or step.inputs[_SKIP] == NOTHING:
        return True
    width: int = net.constants[step.inputs[1].name].dims[0]
    alike = (step.inputs[0].name, step.inputs[_SKIP].name, step.output, *step.further)
    shape = next((net.shapes[name] for name in alike if name in net.shapes), None)
    return width <= _NARROW and (shape is None or prod(shape) >= _ENOUGH)


def _has_rows(net: Net, given: Mapping[str, str]) -> bool:
    """Whether what scales and shifts are constant rows of float16, as wide as our kernel can be.

    They say how wide all is, and for onnxruntime's operators of which type.
    """
    gamma = net.constants.get(given.get("gamma", ""))
    width = gamma.dims[0] if gamma is not None and len(gamma.dims) == 1 else 0
    names = [given[part] for part in ("gamma", "beta", "bias") if given.get(part)]
    rows = all(net.is_vector(name, width) and net.constants[name].data_type == TensorProto.FLOAT16 for name in names)
    return rows and 0 < width <= WIDEST and width % VECTOR == 0


def _is_of_rows(net: Net, name: str, how: Mapping[str, Any]) -> bool:
    """Whether a standard operator normalizes the last axis alone of float16, in float32."""
    shape = net.shapes.get(name)
    axes = (-1,) if shape is None else (-1, len(shape) - 1)
    return how.get("axis", -1) in axes and how.get("stash_type", 1) == TensorProto.FLOAT and is_low(net, name)


def _is_zero(net: Net, name: str) -> bool:
    """Whether a value is constant zeros, as stand for a sum that is none (fuse/row_norm.py)."""
    table = net.table(name) if name in net.constants else None
    return table is not None and not table.any()


def _read_sum(net: Net, each: NodeProto) -> tuple[str, ...]:
    made = each.output[_SUM] if len(each.output) > _SUM else ""
    return (made,) if made and (made in net.readers or made in net.fixed) else ()
