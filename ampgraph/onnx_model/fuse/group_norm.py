"""Group normalization, and the SiLU after it, as onnxruntime's GroupNorm: one kernel, which takes channels last.

Exporters spell it Reshape, InstanceNormalization, Reshape, Mul, Add, or, from opset 21 on, GroupNormalization, which
onnxruntime takes apart. On one H100, float16, (2, 64, 64, 320) in 32 groups with SiLU: 10.6 us; the first three of
those five alone 24.8. The changes of layout around it meet those around channels-last convolutions and vanish.
Only onnxruntime's CUDA provider has the kernel (contrib_ops/cuda/diffusion/group_norm.cc).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Array, Recipe
from ampgraph.onnx_model.fuse.view import Shape

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # channels
MOST_IN_GROUP = 512  # channels that a block of the kernel sums
PER_THREAD = 2  # channels that a thread reads at once
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Row:
    """One number a channel: a constant of any shape as a vector, or `fill` where there is none (name "")."""

    name: str
    size: int
    fill: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.name,)

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        given = known[self.name].reshape(-1) if self.name else np.float32(self.fill)
        return np.ascontiguousarray(np.broadcast_to(given, (self.size,)))


@dataclass(frozen=True)
class _Norm:
    """A group normalization: its nodes, first to last, its input, and constants by channel ("" for none)."""

    nodes: tuple[NodeProto, ...]
    value: str
    groups: int
    epsilon: float
    scale: str = ""
    shift: str = ""
    silu: bool = False

    @property
    def output(self) -> str:
        """The normalized value."""
        return str(self.nodes[-1].output[0])


@dataclass(frozen=True)
class _New:
    """What comes in. Grows."""

    nodes: list[NodeProto] = field(default_factory=list)
    removed: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)


def fuse_group_norm(net: Net) -> Fusion:
    """Every group normalization of images that the kernel takes."""
    new = _New()
    for norm in _found(net):
        _emit(net, new, norm)
    return Fusion(
        tuple(new.nodes),
        removed=tuple(new.removed),
        constants=tuple(new.constants.values()),
        merged=new.recipes,
        shapes=new.shapes,
    )


def _found(net: Net) -> Iterator[_Norm]:
    for each in net.graph.node:
        if each.domain not in ("", "ai.onnx"):
            continue
        norm = _spelled_out(net, each) if each.op_type == "InstanceNormalization" else _operator(net, each)
        if norm is not None and _is_taken(net, norm):
            yield _with_silu(net, norm)


def _is_taken(net: Net, norm: _Norm) -> bool:
    """Whether the kernel takes it: images, and an even number of channels in a group, that fit a block."""
    shape = net.shapes.get(norm.value, ())
    if len(shape) != 4 or 0 in shape or norm.groups < 1 or shape[1] % norm.groups:
        return False
    size = shape[1] // norm.groups
    return size % PER_THREAD == 0 and size <= MOST_IN_GROUP


# what is found


def _operator(net: Net, each: NodeProto) -> _Norm | None:
    """GroupNormalization; before opset 21 its scale was one number a group."""
    said = plain_attributes(each)
    channels = net.shapes.get(each.input[0], (0, 0))[1:2] if each.op_type == "GroupNormalization" else ()
    if not channels or net.opset < 21 or said.get("stash_type", 1) != 1:
        return None
    if not all(net.is_float(name) and net.is_vector(name, channels[0]) for name in each.input[1:3]):
        return None
    groups, epsilon = said.get("num_groups"), said.get("epsilon", _EPSILON)
    if not isinstance(groups, int) or not isinstance(epsilon, float):
        return None
    return _Norm((each,), each.input[0], groups, epsilon, each.input[1], each.input[2])


def _spelled_out(net: Net, each: NodeProto) -> _Norm | None:
    """The channels of each group as one, normalized, and back; then scaled and shifted by channel."""
    before, after = net.maker(each.input[0], "Reshape"), net.sole_reader(each.output[0], "Reshape")
    if before is None or after is None or after.input[0] != each.output[0] or not _is_plain(net, each):
        return None
    value = before.input[0]
    shape, rows = net.shapes.get(value, ()), net.shapes.get(each.input[0], ())
    grouped = len(shape) > 2 and len(rows) == 3 and rows[0] == shape[0] and prod(rows) == prod(shape)
    same = net.shapes.get(after.output[0]) == shape and net.others.get(after.output[0]) == net.others.get(value)
    if not grouped or not same:
        return None
    epsilon = plain_attributes(each).get("epsilon", _EPSILON)
    norm = _Norm((before, each, after), value, rows[1], epsilon if isinstance(epsilon, float) else _EPSILON)
    scaled, scale = _by_channel(net, norm, "Mul")
    if scaled is not None:
        norm = replace(norm, nodes=(*norm.nodes, scaled), scale=scale)
    shifted, shift = _by_channel(net, norm, "Add")
    return replace(norm, nodes=(*norm.nodes, shifted), shift=shift) if shifted is not None else norm


def _is_plain(net: Net, each: NodeProto) -> bool:
    """Whether an InstanceNormalization only normalizes: by ones and zeros."""
    for name, wanted in zip(each.input[1:], (1.0, 0.0), strict=True):
        values = net.values(name)
        if values is None or not net.is_float(name) or not np.all(values == wanted):
            return False
    return True


def _by_channel(net: Net, norm: _Norm, op: str) -> tuple[NodeProto | None, str]:
    """The only reader of what is normalized so far, and its constant, where that is a number or one a channel."""
    each = net.sole_reader(norm.output, op)
    shape = net.shapes[norm.value]
    name = next((name for name in each.input if name != norm.output), "") if each is not None else ""
    if not net.is_float(name) or len(net.constants[name].dims) > len(shape):
        return None, ""
    dims = [1] * (len(shape) - len(net.constants[name].dims)) + list(net.constants[name].dims)
    fits = dims[1] in (1, shape[1]) and prod(dims) == dims[1] and (dims[1] == shape[1] or not _is_apart(net, name))
    return (each, name) if fits else (None, "")


def _with_silu(net: Net, norm: _Norm) -> _Norm:
    """The normalization with the x * sigmoid(x) that alone reads it."""
    readers = net.readers.get(norm.output, ())
    swish = net.sole_reader(norm.output, "Swish")
    if swish is not None and plain_attributes(swish).get("alpha", 1.0) == 1.0:
        return replace(norm, nodes=(*norm.nodes, swish), silu=True)
    gate = next((each for each in readers if each.op_type == "Sigmoid" and not each.domain), None)
    times = net.sole_reader(gate.output[0], "Mul") if gate is not None else None
    if gate is None or times is None or len(readers) != 2 or norm.output in net.fixed:
        return norm
    if sorted(times.input) != sorted((norm.output, gate.output[0])):
        return norm
    return replace(norm, nodes=(*norm.nodes, gate, times), silu=True)


# what comes in


def _emit(net: Net, new: _New, norm: _Norm) -> None:
    """The kernel between two changes of layout; its constants stay float32, whatever the precision."""
    count, channels, *image = net.shapes[norm.value]
    turned, made = (fresh(net, f"{norm.output}_{word}", new.shapes) for word in ("channels_last", "grouped"))
    scale, shift = _row(net, new, norm.scale, channels, 1.0), _row(net, new, norm.shift, channels, 0.0)
    kernel = node(
        "GroupNorm",
        [turned, scale, shift],
        [made],
        CONTRIB,
        epsilon=norm.epsilon,
        groups=norm.groups,
        activation=int(norm.silu),
        channels_last=1,
    )
    there, back = (
        node("Transpose", [norm.value], [turned], perm=LAST),
        node("Transpose", [made], [norm.output], perm=FIRST),
    )
    new.nodes.extend((there, with_origin(kernel, norm.nodes), back))
    new.removed.extend(norm.nodes)
    new.shapes[turned] = new.shapes[made] = (count, *image, channels)


def _row(net: Net, new: _New, name: str, channels: int, fill: float) -> str:
    """The name of a vector: the constant itself where it is one, else a new value, made once."""
    if name and net.is_vector(name, channels):
        return name
    stem = name or ("ones" if fill else "zeros")
    made = next((key for key, found in new.recipes.items() if found == Row(name, channels, fill)), "")
    if made:
        return made
    made = fresh(net, f"{stem}_by_channel", (*new.recipes, *new.shapes))
    if _is_apart(net, name):
        return _flattened(net, new, name, made)
    new.recipes[made] = Row(name, channels, fill)
    new.constants[made] = TensorProto(name=made, data_type=TensorProto.FLOAT, dims=[channels])
    return made


def _is_apart(net: Net, name: str) -> bool:
    """Whether a constant's data lie in another file, where recipes do not reach."""
    return bool(name) and net.constants[name].data_location == TensorProto.EXTERNAL


def _flattened(net: Net, new: _New, name: str, made: str) -> str:
    """A vector made when the model is opened."""
    every = fresh(net, f"{made}_shape", new.constants)
    new.constants[every] = numpy_helper.from_array(np.array([-1], np.int64), every)
    new.nodes.append(node("Reshape", [name, every], [made]))
    new.shapes[made] = (int(prod(net.constants[name].dims)),)
    return made
