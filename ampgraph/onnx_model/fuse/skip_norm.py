"""Skip normalization: a sum of two values and its layer or RMS normalization as one kernel, with the bias before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.flat import flat_of
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.view import Shape

_ROWS = 3  # axes of rows in sequences; more where each head is normalized


@dataclass(frozen=True)
class Norm:
    """A normalization of rows: the nodes that compute it, first to last, its input, scale, shift ("" without)."""

    nodes: tuple[NodeProto, ...]
    value: str
    scale: str
    shift: str
    epsilon: float

    @property
    def output(self) -> str:
        """The normalized value."""
        return str(self.nodes[-1].output[0])

    @property
    def kernel(self) -> str:
        """The kernel of onnxruntime's that adds before it normalizes so."""
        is_layer = self.nodes[0].op_type in ("LayerNormalization", "ReduceMean")  # which takes off the mean
        return "SkipLayerNormalization" if is_layer else "SkipSimplifiedLayerNormalization"


@dataclass(frozen=True)
class Found:
    """A fused normalization: its nodes, what they stand for, the constants they need and the shapes of new values."""

    nodes: tuple[NodeProto, ...]
    removed: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=dict)


def fuse_skip_norm(net: Net) -> Fusion:
    """Every first normalization of a sum."""
    found: dict[str, Found] = {}
    for each in net.graph.node:
        for norm in (layer_norm(net, each), root_mean_square(net, each)):
            fused = _with_sum(net, norm) if norm is not None and norm.value not in found else None
            if norm is not None and fused is not None:
                found[norm.value] = fused
    return as_fusion(net, found.values())


def as_fusion(net: Net, found: Iterable[Found]) -> Fusion:
    """All of them as one replacement; constants of one name are one."""
    every = list(found)
    constants = {tensor.name: tensor for each in every for tensor in each.constants}
    return Fusion(
        tuple(new for each in every for new in each.nodes),
        removed=tuple(old for each in every for old in each.removed),
        constants=tuple(tensor for name, tensor in constants.items() if name not in net.constants),
        shapes={name: shape for each in every for name, shape in each.shapes.items()},
    )


def layer_norm(net: Net, each: NodeProto) -> Norm | None:
    """The layer normalization over the last axis that a node is."""
    if each.op_type != "LayerNormalization" or each.domain:
        return None
    said = plain_attributes(each)
    rank = len(net.shapes.get(each.input[0], ()))
    if rank < 2 or said.get("axis", -1) not in (-1, rank - 1) or len([name for name in each.output if name]) > 1:
        return None
    epsilon = said.get("epsilon", 1e-5)
    shift = each.input[2] if len(each.input) > 2 else ""
    return Norm((each,), each.input[0], each.input[1], shift, epsilon if isinstance(epsilon, float) else 1e-5)


def root_mean_square(net: Net, mean: NodeProto) -> Norm | None:
    """x / sqrt(mean(x^2) + epsilon) * scale, from its mean; with x less its mean before and a shift after a layer's."""
    square = net.maker(mean.input[0], "Pow", "Mul") if mean.op_type == "ReduceMean" else None
    if square is None or not _is_square(net, square) or not is_last_axis(net, mean):
        return None
    value = square.input[0]
    plus = net.sole_reader(mean.output[0], "Add")
    root = net.sole_reader(plus.output[0], "Sqrt") if plus is not None else None
    divided = _divided(net, root, value) if root is not None else ()
    last = net.sole_reader(divided[-1].output[0], "Mul") if divided else None
    if plus is None or root is None or last is None:
        return None
    epsilon = next((found for name in plus.input if (found := net.scalar(name)) is not None), None)
    shape = net.shapes.get(value, ())
    scale = next((name for name in last.input if shape and net.is_vector(name, shape[-1])), "")
    if epsilon is None or not scale or len(shape) < _ROWS:
        return None
    norm = Norm((square, mean, plus, root, *divided, last), value, scale, "", epsilon)
    return _centered(net, norm) or norm


def _centered(net: Net, norm: Norm) -> Norm | None:
    """The layer normalization that an RMS normalization is the end of, as exporters before opset 17 write it."""
    less = net.maker(norm.value, "Sub")
    mean = net.maker(less.input[1], "ReduceMean") if less is not None else None
    if less is None or mean is None or mean.input[0] != less.input[0] or not is_last_axis(net, mean):
        return None
    mine = {id(each) for each in norm.nodes}
    alone = all(id(each) in mine for each in net.readers[norm.value]) and norm.value not in net.fixed
    if not alone or net.sole_reader(mean.output[0], "Sub") is not less:
        return None
    shifted, width = net.sole_reader(norm.output, "Add"), net.shapes[norm.value][-1]
    shift = next((name for name in shifted.input if net.is_vector(name, width)), "") if shifted is not None else ""
    last = (shifted,) if shifted is not None and shift else ()
    return Norm((mean, less, *norm.nodes, *last), less.input[0], norm.scale, shift, norm.epsilon)


def shift_of(norm: Norm, width: int) -> tuple[list[str], tuple[TensorProto, ...]]:
    """What the kernel adds at the end, none where it does not; zeros, a new constant, for a layer's without a shift,
    which has gone into the product that reads it."""
    if norm.kernel != "SkipLayerNormalization":
        return [], ()
    if norm.shift:
        return [norm.shift], ()
    zeros = numpy_helper.from_array(np.zeros(width, np.float32), f"ampgraph_no_shift_{width}")
    return [zeros.name], (zeros,)


def _divided(net: Net, root: NodeProto, value: str) -> tuple[NodeProto, ...]:
    """The nodes that divide the value by a root; none where it is not that."""
    inverse = net.sole_reader(root.output[0], "Reciprocal", "Div")
    if inverse is None:
        return ()
    if inverse.op_type == "Div" and inverse.input[1] == root.output[0]:
        if inverse.input[0] == value:
            return (inverse,)
        if net.scalar(inverse.input[0]) != 1.0:
            return ()
    times = net.sole_reader(inverse.output[0], "Mul")
    return (inverse, times) if times is not None and value in times.input else ()


def _is_square(net: Net, each: NodeProto) -> bool:
    return each.input[0] == each.input[1] if each.op_type == "Mul" else net.scalar(each.input[1]) == 2.0


def is_last_axis(net: Net, mean: NodeProto) -> bool:
    """Whether a reduction is over the last axis, which stays as one place."""
    said = plain_attributes(mean)
    given = net.values(mean.input[1]) if len(mean.input) > 1 else None
    old = said.get("axes", ())  # an attribute before opset 18
    axes = given.reshape(-1).tolist() if given is not None else list(old) if isinstance(old, tuple) else []
    rank = len(net.shapes.get(mean.input[0], ()))
    return said.get("keepdims", 1) == 1 and axes in ([-1], [rank - 1])


def _with_sum(net: Net, norm: Norm) -> Found | None:
    """The fused node and what it stands for; None where the input is no sum of two alike, or has no row to scale."""
    sum_ = net.maker(norm.value, "Add")
    width = net.width(norm.value)
    rows = net.is_vector(norm.scale, width) and (not norm.shift or net.is_vector(norm.shift, width))
    if sum_ is None or not rows:
        return None
    operands = _operands(net, sum_)
    if not operands:
        return None
    before, bias = _biased(net, sum_, width)
    if before is not None:
        value = next(name for name in before.input if name != bias)
        operands = [value if name == before.output[0] else name for name in operands]
    removed = (*([before] if before is not None else []), sum_, *norm.nodes)
    others = [each for each in net.readers[norm.value] if not any(each is mine for mine in norm.nodes)]
    outputs = [norm.output, "", "", norm.value] if others or norm.value in net.fixed else [norm.output]
    shift, zeros = shift_of(norm, width)
    inputs = [*operands, norm.scale, *shift, *([bias] if bias else [])]
    new = with_origin(node(norm.kernel, inputs, outputs, CONTRIB, epsilon=norm.epsilon), removed)
    found = Found((new,), removed) if len(net.shapes[norm.value]) == 3 else _flattened(net, norm, new, removed)
    return replace(found, constants=(*found.constants, *zeros)) if found is not None else None


def _flattened(net: Net, norm: Norm, new: NodeProto, removed: tuple[NodeProto, ...]) -> Found | None:
    """The fused node between reshapes of the operands that are of the value's shape and of what it makes."""
    flat, shape = flat_of(net, norm.value, len(norm.nodes)), net.shapes[norm.value]
    if flat is None:
        return None
    wide = [name for name in dict.fromkeys(new.input) if net.shapes.get(name) == shape]
    made = [name for name in new.output if name]
    names = {name: fresh(net, f"{name}_in_rows_of_{norm.output}") for name in (*wide, *made)}
    before = [flat.flattened(name, names[name]) for name in wide]
    after = [each for name in made for each in flat.restored(names[name], name)]
    for slots in (new.input, new.output):
        slots[:] = [names.get(name, name) for name in slots]
    new.name = new.output[0]
    shapes = dict.fromkeys(names.values(), flat.shape)
    return Found((*before, new, *after), removed, flat.constants, shapes)


def _operands(net: Net, sum_: NodeProto) -> list[str]:
    """The value and what is added to it, of its shape or once for the whole batch; none where they are not alike."""
    made = str(sum_.output[0])
    shape = net.shapes[made]
    alike = [name for name in sum_.input if net.are_alike(name, made)]
    spread = (1, *shape[1:]) if len(shape) == 3 and shape[0] != 1 else None
    once = [name for name in sum_.input if net.shapes.get(name) == spread and net.are_alike(name, made, since=1)]
    return alike + once if alike and len(alike) + len(once) == 2 else []


def _biased(net: Net, sum_: NodeProto, width: int) -> tuple[NodeProto | None, str]:
    """An operand of the sum that is itself a sum with a constant row, and that row."""
    for name in sum_.input:
        before = net.maker(name, "Add") if net.sole_reader(name, "Add") is sum_ else None
        row = next((each for each in before.input if net.is_vector(each, width)), "") if before is not None else ""
        value = next((each for each in before.input if each != row), "") if before is not None else ""
        if before is not None and row and net.shapes.get(value) == net.shapes.get(name):
            return before, row
    return None, ""
