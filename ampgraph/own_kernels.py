"""What kernels of ampgraph's own compute of a graph, for prices of models that run in `ampgraph.Session` with them.

The same conditions as onnx_model/native has on a converted model, read off a graph on which nothing is decided yet. A
session takes these kernels where images are seldom turned between theirs and others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from ampgraph.graph import Attribute, Op, PrecisionGraph
from ampgraph.judgement import Judgement
from ampgraph.neighbours import is_by_channel, only_reader, other_operand, readers
from ampgraph.options import Options
from ampgraph.precision import Precision

_VECTOR = 8  # channels that a thread of the kernels works on
_ACROSS = {3: (1, 2), 5: (1, 2), 7: (1,)}  # strides by the size of a depthwise kernel
_DEPTHWISE = {((size, size), (down, by)) for size, strides in _ACROSS.items() for down in (1, 2) for by in strides}
_GATES = ("Sigmoid", "HardSigmoid")
_GELUS = ("Gelu", "com.microsoft.Gelu")
_SIX = (0.0, 6.0)
_FEW = 12  # of ours for each other one, before and after which images may be turned, see native/rewrite.py
_SIXTH = 1 / 6
_RANKS = (3, 4)  # of what convolutions along one axis work on, and of images


@dataclass(frozen=True)
class OwnKernels:
    """Ids of the convolutions that are ours in low precision, and of the ops that are then part of them, with whose.

    `ties`: decisions of theirs that agree, or the one kernel would not be there.
    """

    convolutions: frozenset[str] = frozenset()
    carried: Mapping[str, str] = field(default_factory=dict)
    ties: tuple[tuple[str, str], ...] = ()

    def tied(self, judgement: Judgement) -> Judgement:
        """What to decide under at these prices; a plan from elsewhere may have it otherwise."""
        return replace(judgement, ties=(*judgement.ties, *self.ties))


NONE = OwnKernels()


def own_kernels(graph: PrecisionGraph, judgement: Judgement, options: Options) -> OwnKernels:
    """Ours in a graph under what may be low, where the options count on them: in float16 alone there are any, and
    measured costs are of onnxruntime's.

    Convolutions of one pixel, as in squeeze and excite, turn no image and count for neither side. A bias, an activation
    and a sum with an image of the same shape, before it or after, or with numbers by channel after it, go with a
    convolution that they follow, where nothing else reads what is between; a product with such numbers goes with a
    depthwise one.
    """
    if not options.native or options.costs is not None or options.precision is not Precision.FLOAT16:
        return NONE
    found = [op for op in graph.ops.values() if op.type in ("Conv", "ConvTranspose")]
    found = [op for op in found if _may_be_low(op, graph, judgement) and _pixels(op, graph) != 1]
    wide = frozenset(_widened(found, graph))
    ours = [op for op in found if _is_ours(op, graph, wide)]
    if _FEW * (len(found) - len(ours)) > len(ours):
        return NONE
    carried: dict[str, str] = {}
    for op in ours:
        parts = takewhile(lambda part: all(_may_be_low(each, graph, judgement) for each in part), _carried(op, graph))
        carried.update((each.id, op.id) for part in parts for each in part if each.id not in carried)
    ties = tuple((_decision(conv, graph), _decision(id, graph)) for id, conv in carried.items())
    return OwnKernels(frozenset(op.id for op in ours), carried, ties)


def _may_be_low(op: Op, graph: PrecisionGraph, judgement: Judgement) -> bool:
    return judgement.verdicts[_decision(op.id, graph)].legal


def _decision(op: str, graph: PrecisionGraph) -> str:
    """The one that carries the op's time."""
    return next(each.id for each in graph.decisions_of[op] if each.principal)


def _pixels(op: Op, graph: PrecisionGraph) -> int:
    shape = graph.values[op.outputs[0].value].shape
    return math.prod(shape[2:]) if shape is not None else 0


def _widened(convolutions: Sequence[Op], graph: PrecisionGraph) -> Iterator[str]:
    """What convolutions make, and what goes with them, whose channels are made whole vectors for others to read."""
    for op in convolutions:
        weight = graph.values[op.inputs[1].value].shape
        is_image = op.type == "Conv" and weight is not None and len(weight) == _RANKS[1] and _is_of_all(op)
        if not is_image or weight is None or weight[0] % _VECTOR == 0:
            continue
        made = op.outputs[0].value
        bias = _bias(op, made, graph)
        made = bias.outputs[0].value if bias is not None else made
        active = tuple(each for each in _activation(made, graph) if each.type != "Clip")
        made = active[-1].outputs[0].value if active else made
        found = readers(made, graph)
        if found and all(each.type == "Conv" and _is_of_all(each) for each in found):
            yield from (op.outputs[0].value, made)


def _is_of_all(conv: Op) -> bool:
    """Whether each filter reads all channels."""
    return conv.attributes.get("group", 1) == 1 and conv.attributes.get("auto_pad", "NOTSET") == "NOTSET"


def _is_ours(op: Op, graph: PrecisionGraph, wide: Collection[str]) -> bool:
    weight = graph.values[op.inputs[1].value]
    if op.scope or weight.constant is None or weight.shape is None:
        return False
    if len(weight.shape) not in _RANKS or op.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    count, depth, *kernel = weight.shape
    group = op.attributes.get("group", 1)
    if op.type == "ConvTranspose":
        return group == 1 and "output_shape" not in op.attributes and count % _VECTOR == depth % _VECTOR == 0
    if (count % _VECTOR and op.outputs[0].value not in wide) or not isinstance(group, int):
        return False
    if op.inputs[0].value in wide:
        return group == 1
    if group == 1 or depth > 1:
        return group * depth % _VECTOR == 0 or (group == 1 and depth < _VECTOR)
    strides, dilations = (op.attributes.get(name, (1,) * len(kernel)) for name in ("strides", "dilations"))
    whole = (1, 1) in (dilations, strides)
    return group == count and whole and (tuple(kernel), strides) in _DEPTHWISE


def _carried(conv: Op, graph: PrecisionGraph) -> Iterator[tuple[Op, ...]]:
    """What goes with a convolution, in the order of the kernels: normalization, bias, sum, activation, or sum last."""
    value = conv.outputs[0].value
    weight = graph.values[conv.inputs[1].value].shape
    depthwise = conv.type == "Conv" and weight is not None and weight[1] == 1
    steps = [_norm, _bias] if depthwise else [_norm, _bias, _sum]
    summed = False
    for step in steps:
        op = step(conv, value, graph)
        if op is not None:
            yield (op,)
            value, summed = op.outputs[0].value, step is _sum
    active = _activation(value, graph)
    yield active
    value = active[-1].outputs[0].value if active else ""
    for last in _after_activation(conv, value, graph, depthwise) if active and not summed else ():
        yield (last,)


def _after_activation(conv: Op, value: str, graph: PrecisionGraph, depthwise: bool) -> Iterator[Op]:
    """A sum with an image or with numbers by channel; of a depthwise one with numbers alone, a product before it."""
    product = _by_channel(value, graph, "Mul") if depthwise else None
    if product is not None:
        yield product
        value = product.outputs[0].value
    add = (None if depthwise else _sum(conv, value, graph)) or _by_channel(value, graph, "Add")
    if add is not None:
        yield add


def _by_channel(value: str, graph: PrecisionGraph, kind: str) -> Op | None:
    """What alone reads a value and takes constants beside it, one or a number a channel."""
    op = only_reader(value, graph, kind)
    return op if op is not None and is_by_channel(other_operand(op, value), value, graph) else None


def _norm(_: Op, value: str, graph: PrecisionGraph) -> Op | None:
    norm = only_reader(value, graph, "BatchNormalization")
    constant = norm is not None and all(graph.values[slot.value].constant is not None for slot in norm.inputs[1:])
    return norm if constant else None


def _bias(conv: Op, value: str, graph: PrecisionGraph) -> Op | None:
    add = only_reader(value, graph, "Add")
    if add is None or len(conv.inputs) > 2:
        return None
    other = graph.values[other_operand(add, value)]
    weight = graph.values[conv.inputs[1].value].shape
    if weight is None or other.constant is None or other.shape is None:
        return None
    wanted = (weight[int(conv.type == "ConvTranspose")], *(1 for _ in weight[2:]))
    return add if other.shape[-len(wanted) :] == wanted else None


def _sum(_: Op, value: str, graph: PrecisionGraph) -> Op | None:
    add = only_reader(value, graph, "Add")
    other = graph.values[other_operand(add, value)] if add is not None else None
    same = (
        other is not None and other.constant is None and other.id != value and other.shape == graph.values[value].shape
    )
    return add if same else None


def _activation(value: str, graph: PrecisionGraph) -> tuple[Op, ...]:
    alone = only_reader(value, graph, "Relu", "HardSwish", "Clip", *_GELUS)
    if alone is not None:
        return (alone,) if _is_known(alone, graph) else ()
    found = readers(value, graph)
    gates = [op for op in found if op.type in _GATES]
    if len(found) != 2 or len(gates) != 1 or not _is_usual(gates[0]):
        return ()
    product = only_reader(gates[0].outputs[0].value, graph, "Mul")
    if product is None or {slot.value for slot in product.inputs} != {value, gates[0].outputs[0].value}:
        return ()
    return gates[0], product


def _is_known(alone: Op, graph: PrecisionGraph) -> bool:
    if alone.type == "Clip":
        return _bounds(alone, graph) == _SIX
    return alone.type not in _GELUS or alone.attributes.get("approximate", "none") == "none"


def _is_usual(gate: Op) -> bool:
    """Whether x times it is Silu or HardSwish: of hard ones that whose slope is a sixth."""
    slope, shift = gate.attributes.get("alpha", 0.2), gate.attributes.get("beta", 0.5)
    return gate.type == "Sigmoid" or (
        isinstance(slope, float) and math.isclose(slope, _SIXTH, rel_tol=1e-5) and shift == 0.5
    )


def _bounds(cut: Op, graph: PrecisionGraph) -> tuple[Attribute | None, ...]:
    """What a Clip cuts off below and above, as inputs or, before opset 11, as attributes."""
    if cut.attributes:
        return cut.attributes.get("min"), cut.attributes.get("max")
    values = [graph.values[slot.value] for slot in cut.inputs[1:] if slot.value]
    return tuple(value.constant.scalar if value.constant else None for value in values)
