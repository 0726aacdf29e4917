"""A bias and a residual added at once, as onnxruntime's BiasAdd, where no normalization takes the sum.

On one H100, float16, (32, 3136, 256): 88.8 us; two sums 104.8. That is no reason to lose the CPU provider, which has no
such kernel: it is done where another operator of the model has only CUDA's already.
"""

from __future__ import annotations

from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, node, with_origin
from ampgraph.onnx_model.stepwise import CUDA_ONLY

_NORMS = ("LayerNormalization", "RMSNormalization")


def fuse_bias_add(net: Net) -> Fusion:
    """Every sum of three, one of them a constant row."""
    if not any(each.domain == CONTRIB and each.op_type in CUDA_ONLY for each in net.graph.node):
        return Fusion(())
    found: dict[str, tuple[NodeProto, tuple[NodeProto, ...]]] = {}
    for each in net.graph.node:
        pair = _from_sum(net, each) if each.op_type == "Add" and each.domain in ("", "ai.onnx") else None
        if pair is not None and not any(name in found for name in each.input):
            found[each.output[0]] = pair
    pairs = found.values()
    return Fusion(tuple(new for new, _ in pairs), removed=tuple(old for _, removed in pairs for old in removed))


def _from_sum(net: Net, sum_: NodeProto) -> tuple[NodeProto, tuple[NodeProto, ...]] | None:
    """The kernel that stands for a sum and the one before it."""
    shape = net.shapes.get(sum_.output[0], ())
    if len(shape) != 3 or any(each.op_type in _NORMS for each in net.readers.get(sum_.output[0], ())):
        return None
    for name, rest in (tuple(sum_.input), tuple(reversed(sum_.input))):
        before = net.maker(name, "Add") if net.sole_reader(name, "Add") is sum_ else None
        bias = next((each for each in before.input if net.is_vector(each, shape[-1])), "") if before is not None else ""
        value = next((each for each in before.input if each != bias), "") if before is not None else ""
        if before is not None and bias and net.are_alike(value, rest, sum_.output[0]):
            new = node("BiasAdd", [value, bias, rest], sum_.output, CONTRIB)
            return with_origin(new, (before, sum_)), (before, sum_)
    return None
