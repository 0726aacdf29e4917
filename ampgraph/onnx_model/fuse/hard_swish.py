"""HardSwish: x * clip(x + 3, 0, 6) / 6 as one operator, two where the opset has none of that name.

PaddlePaddle and older versions of torch spell it out (MobileNetV3, Howard et al. 2019): four operators that each read
and write the whole activation, and before opset 12 a Clip that onnxruntime's CUDA provider has in float32 alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh, node, with_origin

_OWN_OPERATOR = 14  # the opset that HardSwish came with
_SLOPE = 1 / 6
_CLOSE = 1e-6

Found = tuple[tuple[NodeProto, ...], tuple[NodeProto, ...], str]  # new, removed, kind


def fuse_hard_swish(net: Net) -> Fusion:
    """Every clip that is part of a hard swish, or of a hard sigmoid."""
    clips = (each for each in net.graph.node if each.op_type == "Clip" and not each.domain)
    found = [each for clip in clips for each in _from_clip(net, clip)]
    kinds: dict[str, int] = {}
    for *_, kind in found:
        kinds[kind] = kinds.get(kind, 0) + 1
    new = tuple(each for made, *_ in found for each in made)
    return Fusion(new, removed=tuple(each for _, removed, _ in found for each in removed), kinds=kinds)


def _from_clip(net: Net, clip: NodeProto) -> Iterator[Found]:
    plus = net.maker(clip.input[0], "Add") if _bounds(net, clip) == (0.0, 6.0) else None
    value = _other_side(net, plus, 3.0) if plus is not None else ""
    if plus is None or not value or net.sole_reader(plus.output[0], "Clip") is None:
        return
    steps, divided, multiplied = [plus, clip], False, False
    while (following := net.sole_reader(steps[-1].output[0], "Mul", "Div")) is not None:
        if not divided and _is_sixth(net, following, steps[-1].output[0]):
            divided = True
        elif not multiplied and _is_by(following, steps[-1].output[0], value):
            multiplied = True
        else:
            break
        steps.append(following)
    if divided and net.shapes.get(value) is not None and net.shapes[value] == net.shapes.get(steps[-1].output[0]):
        yield _as_swish(net, value, steps) if multiplied else _as_sigmoid(value, steps)


def _as_swish(net: Net, value: str, steps: list[NodeProto]) -> Found:
    """One HardSwish, or a HardSigmoid and a product."""
    if net.opset >= _OWN_OPERATOR:
        return (with_origin(node("HardSwish", [value], steps[-1].output), steps),), tuple(steps), "HardSwish"
    slope = fresh(net, f"{steps[-1].output[0]}_slope")
    sigmoid = node("HardSigmoid", [value], [slope], alpha=_SLOPE, beta=0.5)
    product = node("Mul", [value, slope], steps[-1].output)
    return (with_origin(sigmoid, steps[:2]), with_origin(product, steps[2:])), tuple(steps), "HardSigmoid"


def _as_sigmoid(value: str, steps: list[NodeProto]) -> Found:
    new = node("HardSigmoid", [value], steps[-1].output, alpha=_SLOPE, beta=0.5)
    return (with_origin(new, steps),), tuple(steps), "HardSigmoid"


def _bounds(net: Net, clip: NodeProto) -> tuple[float | None, float | None]:
    """Attributes before opset 11, inputs from there on."""
    if net.opset < 11:
        said = plain_attributes(clip)
        low, high = said.get("min"), said.get("max")
        return (low if isinstance(low, float) else None), (high if isinstance(high, float) else None)
    names = [*clip.input[1:], "", ""]
    low_, high_ = (net.scalar(name) if name else None for name in names[:2])
    return low_, high_


def _other_side(net: Net, sum_: NodeProto, number: float) -> str:
    """The operand that this number is added to, "" where it is another one."""
    for value, constant in (tuple(sum_.input), tuple(reversed(sum_.input))):
        if net.scalar(constant) == number:
            return str(value)
    return ""


def _is_sixth(net: Net, step: NodeProto, value: str) -> bool:
    if step.op_type == "Div":
        return step.input[0] == value and net.scalar(step.input[1]) == 6.0
    numbers = [net.scalar(name) for name in step.input if name != value]
    return any(number is not None and abs(number - _SLOPE) < _CLOSE for number in numbers)


def _is_by(step: NodeProto, value: str, other: str) -> bool:
    return step.op_type == "Mul" and set(step.input) == {value, other} and value != other
