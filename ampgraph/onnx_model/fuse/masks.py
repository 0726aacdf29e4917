"""Masks: what is added to scores before their softmax, one thing or several, as the one tensor that kernels take.

Several become one sum, made once for all layers. Where one of them is a choice of 0 and a number so low that no score
is seen beside it, the sum is a choice too: the other or that number. It says the same in float32, and in float16, where
the lowest number is not, as a mask alone does.

That number is lifted off float32's lowest, where nothing is seen beside either: kernels that take exponents to base 2
multiply scores by log2(e) first, which makes a row that is masked out whole one of infinities, and its result NaN (so
onnxruntime's own masks have -1e30 there, kCutlassSafeMaskFilterValue; pull requests 27831 and 28958). ONNX's attention
answers such a row with zeros, on the CPU from float32's lowest number on, on CUDA from -1e30 on: so it is above both.
It is the row of a padding token before the first one, where a mask is causal.
That no score comes near such a number is taken for granted of all products of what a model computes, as of the one that
kernels compute themselves.

A choice that is known to fall on 0 everywhere, as exporters write it where a module is called without a mask, is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Net, node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.tokens import tokens_of
from ampgraph.onnx_model.fuse.view import Shape

_AXES_ARE_INPUTS = 13  # the opset from which Unsqueeze takes them so
_AXES_OF_MIN_ARE_INPUTS = 18  # the same of ReduceMin
_SHAPE_OF_ONE_AXIS = 15  # the opset from which Shape takes a start and an end
UNSEEN_BESIDE = -1e29  # what scores added to it leave as it is, in float32
_LARGEST = 1e22  # of what such a number is added to: less than half of its last place
_LARGEST_WHOLE = 2.0**64
_PRODUCT = 1e16  # a product of what a model computes, as scores themselves are
_WHOLE = frozenset((TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL))
_COUNTING = ("Add", "CumSum", "Mul", "Sub")
_MOVING = ("Cast", "Expand", "Gather", "GatherElements", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_COMPUTING = ("Add", "Div", "MatMul", "Mul")
_LIFTED, _NOTHING, _NO_WEIGHT = "masked_out", "masked_by_nothing", "without_weight"


@dataclass(frozen=True)
class Rows:
    """What is masked: scores of the queries of a base (batch, tokens, width), in heads, for so many keys."""

    base: str
    heads: int
    keys: int


@dataclass(frozen=True)
class Mask:
    """A value that is added to scores; or a choice of them, one of its operands, and a number in their place."""

    name: str
    choice: NodeProto | None = None
    slot: int = 0  # of the scores


def total_of(draft: Draft, masks: tuple[Mask, ...], rows: Rows, old: NodeProto, *, lifted: bool = False) -> str | None:
    """All masks as one that is added; "" without any, None where it cannot be made.

    `lifted`: None, too, where it cannot be lifted off float32's lowest number.
    """
    masks = tuple(mask for mask in masks if not _says_nothing(draft.net, mask))
    names = [_by_heads(draft, mask.name, rows, old) for mask in masks if mask.choice is None]
    if None in names:
        return None
    given = [name for name in names if name is not None]
    if len(given) == len(masks):
        return _sum_of(draft, given, old, lifted=lifted)
    small = all(_is_small(draft, name) for name in given)
    if lifted and not small:
        return None
    total: str | None = ""
    for mask in masks:
        if mask.choice is not None:
            total = _replaced(draft, mask.choice, mask.slot, total, old, lifted=small)
        else:
            total = _added(draft, [*filter(None, [total]), given.pop(0)], old)
        if total is None:
            return None
    return total


def _says_nothing(net: Net, mask: Mask) -> bool:
    """Whether a choice is known to fall on 0, or on the scores, everywhere."""
    choice, slot = mask.choice, mask.slot
    if choice is None:
        choice = net.maker(mask.name, "Where")
        slot = next((slot for slot in (1, 2) if choice is not None and net.scalar(choice.input[slot]) == 0.0), 0)
    if choice is None or not slot:
        return False
    spread = net.maker(choice.input[0], "Expand")
    known = net.table(choice.input[0] if spread is None else spread.input[0])
    return known is not None and bool((known if slot == 1 else ~known).all())


def _sum_of(draft: Draft, masks: list[str], old: NodeProto, *, lifted: bool) -> str | None:
    """All that is added."""
    chosen = next((name for name in masks if _choice(draft.net, name) is not None), "")
    others = [name for name in masks if name != chosen]
    known = bool(chosen) and all(_is_small(draft, name) for name in others)
    if known:
        made = draft.net.makers[chosen]
        slot = next(slot for slot in (1, 2) if draft.net.scalar(made.input[slot]) == 0.0)
        return _replaced(draft, made, slot, _added(draft, others, old) or made.input[slot], old, lifted=True)
    return None if lifted and masks else _added(draft, masks, old)


def _choice(net: Net, name: str) -> tuple[str, str, str] | None:
    """The operands of a choice between 0 and a number that no score is seen beside; None for all else."""
    made = net.maker(name, "Where")
    numbers = [net.scalar(each) for each in made.input[1:]] if made is not None else []
    low = next((number for number in numbers if number is not None and number <= UNSEEN_BESIDE), None)
    return tuple(made.input) if made is not None and low is not None and 0.0 in numbers else None


def _is_small(draft: Draft, name: str) -> bool:
    """Whether no number that a value can hold is seen beside the low one."""
    return _reach(draft, name) < _LARGEST


def _reach(draft: Draft, name: str) -> float:
    """What the numbers of a value are never above, by size: of tables, whole numbers, products, and what adds them."""
    net, made = draft.net, _made(draft, name, *_MOVING, *_COMPUTING)
    if name in net.constants:
        values = net.table(name) if net.is_float(name) else None
        return inf if values is None else float(np.max(np.abs(values), initial=0.0))
    if made is None:
        return inf
    if made.op_type in _COMPUTING:
        return _computed(draft, made)
    if made.op_type == "Cast" and _is_whole(draft, made.input[0]):
        return _LARGEST_WHOLE
    return _reach(draft, made.input[0])


def _computed(draft: Draft, made: NodeProto) -> float:
    """The reach of a sum, product or quotient."""
    if made.op_type == "MatMul":
        return _PRODUCT
    one = _reach(draft, made.input[0])
    if made.op_type == "Div":
        by = draft.net.scalar(made.input[1])
        return one / abs(by) if by else inf
    other = _reach(draft, made.input[1])
    return one + other if made.op_type == "Add" else one * other


def _is_whole(draft: Draft, name: str) -> bool:
    """Whether a value is known to hold whole numbers or truths."""
    net, made = draft.net, _made(draft, name, *_MOVING, *_COUNTING)
    if name in net.constants:
        return net.constants[name].data_type in _WHOLE
    given = next((each.type.tensor_type.elem_type for each in net.graph.input if each.name == name), 0)
    if given or made is None:
        return given in _WHOLE
    kind = plain_attributes(made).get("to") if made.op_type == "Cast" else None
    return kind in _WHOLE if kind is not None else _is_whole(draft, made.input[0])


def _made(draft: Draft, name: str, *types: str) -> NodeProto | None:
    """What makes a value, new or the model's own, if it is one of these standard operators."""
    found = draft.made.get(name)
    return draft.net.maker(name, *types) if found is None else found if found.op_type in types else None


def _replaced(
    draft: Draft, choice: NodeProto, slot: int, other: str | None, old: NodeProto, *, lifted: bool
) -> str | None:
    """A choice again, with another value in a place; 0 for "". Beside infinity a row masked out whole is none."""
    inputs = list(choice.input)
    inputs[slot] = other or _number(draft, _NOTHING, 0.0)
    if lifted and draft.net.scalar(inputs[3 - slot]) != -inf:
        inputs[3 - slot] = _number(draft, _LIFTED, UNSEEN_BESIDE)
    shapes = [shape_of(draft, name) for name in (inputs[0], other) if name]
    return None if None in shapes else _once(draft, node("Where", inputs, [f"{inputs[slot]}_masked"]), shapes, old)


def _number(draft: Draft, name: str, value: float) -> str:
    return name if name in draft.constants else draft.table(name, np.array(value, np.float32))


def _integers(draft: Draft, *values: int) -> str:
    name = "_".join(("integers", *map(str, values)))
    return name if name in draft.constants else draft.integers(name, values)


def _by_heads(draft: Draft, name: str, rows: Rows, old: NodeProto) -> str | None:
    """A value of which batch and heads are one axis, with the two apart; any other as it is."""
    shape, heads = shape_of(draft, name), rows.heads
    both = draft.shapes[rows.base][0] * heads
    if shape is None or len(shape) != 3 or shape[0] in (1, heads) or shape[0] != both:
        return name
    if draft.net.opset < _SHAPE_OF_ONE_AXIS:
        return None
    made = f"{name}_by_heads"
    if made in draft.made:
        return made
    sizes = draft.add(node("Shape", [name], [f"{made}_sizes"], start=1), (2,), old)
    first = draft.integers(f"{made}_heads", (-1, heads))
    wanted = draft.add(node("Concat", [first, sizes], [f"{made}_shape"], axis=0), (4,), old)
    return draft.add(node("Reshape", [name, wanted], [made]), (both // heads, heads, *shape[1:]), old)


def _added(draft: Draft, masks: Iterable[str], old: NodeProto) -> str | None:
    """The sum of all."""
    total = ""
    for other in masks:
        shapes = [shape_of(draft, name) for name in (total, other) if name]
        if None in shapes:
            return None
        total = _once(draft, node("Add", [total, other], [f"{total}_with_{other}"]), shapes, old) if total else other
    return total


def _once(draft: Draft, new: NodeProto, shapes: list[Shape | None], old: NodeProto) -> str:
    """What a node of operands of these shapes makes, which it makes once."""
    said = (new.op_type, new.input, new.attribute)
    alike = (each for each in draft.made.values() if (each.op_type, each.input, each.attribute) == said)
    known = next(alike, None)
    if known is not None:
        return str(known.output[0])
    return draft.add(new, np.broadcast_shapes(*(shape for shape in shapes if shape is not None)), old)


def shape_of(draft: Draft, name: str) -> Shape | None:
    """The shape of a value, new or the model's own."""
    return draft.shapes.get(name) or draft.net.shapes.get(name)


def may_be_empty(draft: Draft, masks: tuple[Mask, ...]) -> bool:
    """Whether masks may hold -inf, which alone leaves a row without any weight: choices of another number do not."""
    return any(draft.net.scalar(number) in (-inf, None) for mask in masks for number in _lows(draft, mask))


def _lows(draft: Draft, mask: Mask) -> list[str]:
    """What a mask may have its lowest numbers from: of a choice, that which is not 0 and stands for no scores."""
    choice, slot = mask.choice, mask.slot
    if choice is None:
        choice = draft.net.maker(mask.name, "Where")
        slot = next((slot for slot in (1, 2) if choice is not None and draft.net.scalar(choice.input[slot]) == 0.0), 0)
    return [choice.input[3 - slot]] if choice is not None and slot else [mask.name]


def with_zeros(draft: Draft, result: str, mask: str, old: NodeProto) -> NodeProto:
    """What makes zeros of the rows of a result (batch, tokens, width) that a mask (-, 1, tokens, keys) leaves empty.

    -inf is compared, not reduced: on an H200 rows were missed by their ReduceMax.
    """
    first, _, tokens, keys = shape_of(draft, mask) or ()
    of_all, of_rows, of_tokens = (first, 1, tokens, keys), (first, 1, tokens), (first, tokens, 1)
    as_input = draft.net.opset >= _AXES_OF_MIN_ARE_INPUTS
    given, axes = ([_integers(draft, 3)], None) if as_input else ([], [3])
    hidden = _once(draft, node("Equal", [mask, _number(draft, _NO_WEIGHT, -inf)], [f"{mask}_hides"]), [of_all], old)
    counted = _once(draft, node("Cast", [hidden], [f"{hidden}_float"], to=TensorProto.FLOAT), [of_all], old)
    least = _once(draft, node("ReduceMin", [counted, *given], [f"{mask}_all"], axes=axes, keepdims=0), [of_rows], old)
    column = _once(draft, node("Transpose", [least], [f"{least}_by_token"], perm=[0, 2, 1]), [of_tokens], old)
    empty = _once(draft, node("Cast", [column], [f"{mask}_empty"], to=TensorProto.BOOL), [of_tokens], old)
    return node("Where", [empty, _number(draft, _NOTHING, 0.0), result], [f"{result}_or_nothing"])


def four_axes(draft: Draft, name: str | None, rows: Rows, old: NodeProto) -> str | None:
    """The mask as onnxruntime takes it: four axes, the last two whole. None where it cannot be."""
    batch, tokens = draft.shapes[rows.base][:2]
    shape = shape_of(draft, name) if name else ()
    if not name or shape is None:
        return "" if name == "" else None
    if len(shape) > 4 or shape[-1:] != (rows.keys,):
        return None
    if len(shape) < 4:
        axes = range(4 - len(shape))
        shape = (1,) * (4 - len(shape)) + shape
        if draft.net.opset < _AXES_ARE_INPUTS:
            new = node("Unsqueeze", [name], [f"{name}_4d"], axes=list(axes))
        else:
            new = node("Unsqueeze", [name, _integers(draft, *axes)], [f"{name}_4d"])
        name = _once(draft, new, [shape], old)
    if shape[0] not in (1, batch) or shape[1] not in (1, rows.heads) or shape[2] not in (1, tokens):
        return None
    return name if shape[2] == tokens else _spread(draft, name, shape, rows.base, old)


def _spread(draft: Draft, name: str, shape: Shape, query: str, old: NodeProto) -> str | None:
    """The mask once for every query, however many there are."""
    if draft.net.opset < _SHAPE_OF_ONE_AXIS:
        return None
    tokens, (like, axis) = draft.shapes[query][1], tokens_of(draft, query)
    size = _once(draft, node("Shape", [like], [f"{name}_tokens"], start=axis, end=axis + 1), [(1,)], old)
    ones, one = _integers(draft, 1, 1), _integers(draft, 1)
    wanted = _once(draft, node("Concat", [ones, size, one], [f"{name}_shape"], axis=0), [(4,)], old)
    whole = (*shape[:2], tokens, shape[3])
    return _once(draft, node("Expand", [name, wanted], [f"{name}_spread"]), [whole], old)
