"""Scores: what the weights of an attention are made of, softmax by softmax, sum by sum, however it is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from onnx import NodeProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.known import computed
from ampgraph.onnx_model.fuse.masks import UNSEEN_BESIDE, Mask
from ampgraph.onnx_model.fuse.net import Array, Net
from ampgraph.onnx_model.fuse.rows import Draft

_SOFTMAX_OF_ONE_AXIS = 13  # the opset from which Softmax is over one axis, the last where none is named


def softmax_of(draft: Draft, name: str) -> NodeProto | None:
    """The softmax over the last axis that makes these weights; rows of no number made zero in between or not."""
    net, name = draft.net, _unguarded(draft, name)
    found = net.maker(name, "Softmax")
    default = -1 if net.opset >= _SOFTMAX_OF_ONE_AXIS else 1
    axis = plain_attributes(found).get("axis", default) if found is not None else None
    rank = len(net.shapes.get(name, ()))
    return found if found is not None and axis in (-1, rank - 1) else None


def is_guarded(draft: Draft, name: str) -> bool:
    """Whether weights that are no number, those of a row that is masked out whole, are made zero."""
    return _unguarded(draft, name) != unfolded(draft, name)


def _unguarded(draft: Draft, name: str) -> str:
    """Weights before those that are no number were made zero."""
    net, name = draft.net, unfolded(draft, name)
    guard = net.maker(name, "Where")
    test = net.maker(guard.input[0], "IsNaN") if guard is not None else None
    if guard is None or test is None or net.scalar(guard.input[1]) != 0.0 or test.input[0] != guard.input[2]:
        return name
    return str(guard.input[2])


def unscaled(draft: Draft, name: str) -> tuple[str, float]:
    """A value without the constant number it is multiplied with or divided by, and that number."""
    scale = 1.0
    while (found := draft.net.maker(name, "Mul", "Div")) is not None:
        numbers = [draft.net.scalar(operand) for operand in found.input]
        if numbers[1] is not None and numbers[1] != 0.0:
            name, scale = found.input[0], scale * (numbers[1] if found.op_type == "Mul" else 1 / numbers[1])
        elif numbers[0] is not None and found.op_type == "Mul":
            name, scale = found.input[1], scale * numbers[0]
        else:
            break
    return name, scale


def unscaled_by_head(net: Net, name: str) -> tuple[str, Array | None]:
    """Scores (batch, heads, tokens, tokens) without the constant number that those of each head are multiplied by."""
    times, heads = net.maker(name, "Mul"), net.shapes.get(name, ())[1:2]
    for value, factor in (times.input, reversed(times.input)) if times is not None and heads else ():
        shape = net.shapes.get(factor, ())
        if shape[-3:] == (*heads, 1, 1) and prod(shape) == heads[0]:
            array = net.table(factor)
            array = computed(net, [factor]).get(factor) if array is None else array
            if array is not None:
                return value, array.reshape(-1)
    return name, None


def unbounded(draft: Draft, name: str) -> tuple[str, float, float]:
    """A value without its constant scale and without a bound by tanh, the scale of both and the bound, 0 for none."""
    inner, scale = unscaled(draft, name)
    tanh = draft.net.maker(inner, "Tanh")
    if tanh is None:
        return inner, scale, 0.0
    value, within = unscaled(draft, tanh.input[0])
    return value, within * scale, scale


@dataclass(frozen=True)
class Parted:
    """Scores, what masks them one after the other, and the nodes that put those on.

    `lifted`: what the masks make of them is never less than float32's lowest number, or one that is nearly as low.
    """

    scores: str
    masks: tuple[Mask, ...] = ()
    nodes: tuple[NodeProto, ...] = ()
    lifted: bool = False


def parted_of(draft: Draft, name: str, *, masked: bool = False) -> Parted | None:
    """What goes into a softmax as scores and their masks; None where no product makes those."""
    net, name = draft.net, unfolded(draft, name)
    inner = net.maker(unbounded(draft, name)[0], "MatMul")
    if inner is not None and not (masked and inner.input[1] in net.constants):
        return Parted(name)
    made = net.maker(name, "Add", "Where", "Max")
    if made is not None and made.op_type == "Max":
        below = next((each for each in made.input if _is_above_floors(net, made, each)), "")
        inside = parted_of(draft, below, masked=masked) if below else None
        return None if inside is None else replace(inside, nodes=(*inside.nodes, made), lifted=True)
    for scores, mask in _readings(net, made) if made is not None else ():
        found = parted_of(draft, scores, masked=True)
        if found is not None and made is not None:
            return replace(found, masks=(*found.masks, mask), nodes=(*found.nodes, made))
    return None


def _is_above_floors(net: Net, made: NodeProto, name: str) -> bool:
    """Whether what a maximum is of beside a value are numbers that no score is below."""
    floors = [net.scalar(each) for each in made.input if each != name]
    return bool(floors) and all(floor is not None and floor <= UNSEEN_BESIDE for floor in floors)


def _readings(net: Net, made: NodeProto) -> list[tuple[str, Mask]]:
    """What may be scores, and the mask that is then put on them."""
    if made.op_type == "Add":
        one, other = made.input
        return [(one, Mask(other)), (other, Mask(one))]
    places = ((slot, net.scalar(made.input[3 - slot])) for slot in (1, 2))
    return [
        (made.input[slot], Mask("", made, slot)) for slot, low in places if low is not None and low <= UNSEEN_BESIDE
    ]


def unfolded(draft: Draft, name: str) -> str:
    """A value before batch and heads became one axis, or two again."""
    made = draft.net.maker(name, "Reshape")
    while made is not None:
        shapes = [draft.net.shapes.get(each, ()) for each in (made.input[0], name)]
        if {len(shape) for shape in shapes} != {3, 4} or shapes[0][-2:] != shapes[1][-2:]:
            break
        name = made.input[0]
        made = draft.net.maker(name, "Reshape")
    return name
