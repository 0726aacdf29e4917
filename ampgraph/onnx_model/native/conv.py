"""Convolutions with what follows them: bias, residual, activation, and with what scales their input."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Net
from ampgraph.onnx_model.native.step import HARD_SIGMOIDS, LATE, LATE_ROW, NOTHING, Slot, Step, constant, image

PADDED, BLOCKS = "_image", "_image_in_blocks"  # names of images whose channels are padded, in fours, end so
VECTOR = 8  # channels that a thread of the kernels works on, and that tensor cores want
_DEPTHWISE = {(3, 1), (3, 2), (5, 1), (5, 2), (7, 1)}  # kernel, stride across
_DOWN = (1, 2)  # strides from row to row
_GATED: Mapping[str, str] = {"Sigmoid": "Silu", "HardSigmoid": "HardSwish"}  # what x times a gate of x is
_SIX = (0.0, 6.0)
_NUMBERS, _EPSILON = 4, 1e-5  # of a batch normalization: scale, bias, mean and variance; where none is said
_RANK = 4


@dataclass(frozen=True)
class Chain:
    """A convolution and the nodes after it that go with it, so far: `output` is the value they make.

    `norm`: what a batch normalization multiplies by and adds, by channel, which becomes part of weights and bias.
    `late`: whether the residual is added after the activation. `after`: what results are multiplied by then and what is
    added to them, by channel.
    """

    conv: NodeProto
    old: tuple[NodeProto, ...]
    output: str
    bias: str = ""
    norm: tuple[Array, Array] | None = None
    residual: str = ""
    activation: str = ""
    late: bool = False
    after: tuple[Array, Array] | None = None


def chain_of(net: Net, conv: NodeProto, taken: Collection[int] = (), *, sums: bool = True) -> Chain:
    """A convolution with all that can go with it: each is the only reader of what is before it.

    `taken`: ids of nodes that go with others. `sums`: with other images, too.
    """
    given = conv.input[2] if len(conv.input) > 2 else ""
    chain = Chain(conv, (conv,), conv.output[0], given)
    for further in (_with_norm, _with_bias, *(_SUMS if sums else _NUMBERS_AFTER)):
        longer = further(net, chain)
        if any(id(each) in taken for each in longer.old):
            break
        chain = longer
    return chain


def _with_norm(net: Net, chain: Chain) -> Chain:
    """A batch normalization by constants, where weights stay in float16's range."""
    norm = net.sole_reader(chain.output, "BatchNormalization")
    numbers = numbers_of(net, norm) if norm is not None else None
    weight = net.table(chain.conv.input[1])
    if norm is None or numbers is None or weight is None:
        return chain
    longer = replace(chain, old=(*chain.old, norm), output=norm.output[0], norm=numbers)
    return longer if np.abs(_scaled(longer, weight)).max(initial=0) <= np.finfo(np.float16).max else chain


def numbers_of(net: Net, norm: NodeProto) -> tuple[Array, Array] | None:
    """What a batch normalization in inference multiplies by and adds, float64 by channel; None unless by constants."""
    how = plain_attributes(norm)
    found = [array.astype(np.float64) for name in norm.input[1:] if (array := net.table(name)) is not None]
    if norm.domain or len(norm.output) != 1 or how.get("training_mode") or len(found) != _NUMBERS:
        return None
    scale, bias, mean, variance = found
    by = scale / np.sqrt(variance + float(how.get("epsilon", _EPSILON)))  # type: ignore[arg-type]
    return by, bias - mean * by


def _scaled(chain: Chain, weight: Array) -> Array:
    """Weights by the number for each channel that is made, where there is one."""
    if chain.norm is None:
        return weight
    axis = int(chain.conv.op_type == "ConvTranspose")
    by = chain.norm[0].reshape([-1 if place == axis else 1 for place in range(_RANK)])
    return np.asarray(weight.astype(np.float64) * by)


def _with_bias(net: Net, chain: Chain) -> Chain:
    add = net.sole_reader(chain.output, "Add")
    if add is None or chain.bias or chain.norm is not None:
        return chain
    other = _other(add, chain.output)
    channels = net.constants[chain.conv.input[1]].dims[int(chain.conv.op_type == "ConvTranspose")]
    known = net.constants.get(other)
    if known is None or list(known.dims)[-3:] != [channels, 1, 1] or np.prod(known.dims) != channels:
        return chain
    return replace(chain, old=(*chain.old, add), output=add.output[0], bias=other)


def _with_residual(net: Net, chain: Chain) -> Chain:
    add = net.sole_reader(chain.output, "Add")
    if add is None or chain.residual:
        return chain
    other = _other(add, chain.output)
    if other in net.constants or not alike(net, other, chain.output):
        return chain
    return replace(chain, old=(*chain.old, add), output=add.output[0], residual=other)


def _with_activation(net: Net, chain: Chain) -> Chain:
    found = activation(net, chain.output)
    if found is None:
        return chain
    kind, nodes = found
    return replace(chain, old=(*chain.old, *nodes), output=nodes[-1].output[0], activation=kind)


def _with_late_residual(net: Net, chain: Chain) -> Chain:
    found = _with_residual(net, chain)
    return replace(found, late=True) if found is not chain and chain.activation else chain


def _with_scale(net: Net, chain: Chain) -> Chain:
    """A product with constants after the activation."""
    product = net.sole_reader(chain.output, "Mul")
    by = by_channel(net, chain.output, product) if product is not None and chain.activation else None
    if product is None or by is None:
        return chain
    return replace(chain, old=(*chain.old, product), output=product.output[0], after=(by, np.zeros_like(by)))


def _with_shift(net: Net, chain: Chain) -> Chain:
    """A sum with constants after the activation."""
    add = net.sole_reader(chain.output, "Add")
    more = by_channel(net, chain.output, add) if add is not None and chain.activation and not chain.residual else None
    if add is None or more is None:
        return chain
    by = np.ones_like(more) if chain.after is None else chain.after[0]
    return replace(chain, old=(*chain.old, add), output=add.output[0], after=(by, more))


def by_channel(net: Net, name: str, each: NodeProto) -> Array | None:
    """What a node takes beside an image, a number a channel as float32; None where it is something else."""
    other, sizes = _other(each, name), net.shapes.get(name, ())
    known = net.exact(other) if _is_low(net, other) else None
    if known is None or len(sizes) != _RANK or known.ndim > _RANK:
        return None
    if known.size != 1 and (known.size != sizes[1] or known.shape[-3:] != (sizes[1], 1, 1)):
        return None
    return np.broadcast_to(known.reshape(-1), sizes[1]).astype(np.float32)


def _is_low(net: Net, name: str) -> bool:
    return name in net.constants and net.constants[name].data_type == TensorProto.FLOAT16


_SUMS = (_with_residual, _with_activation, _with_late_residual, _with_shift)
_NUMBERS_AFTER = (_with_activation, _with_scale, _with_shift)


def activation(net: Net, name: str) -> tuple[str, tuple[NodeProto, ...]] | None:
    """The activation that alone reads a value, with its nodes."""
    alone = net.sole_reader(name, "Relu", "HardSwish")
    if alone is not None:
        return ("Relu" if alone.op_type == "Relu" else "HardSwish"), (alone,)
    gelu = _gelu(net, name)
    if gelu is not None:
        return "Gelu", (gelu,)
    cut = net.sole_reader(name, "Clip")
    if cut is not None:
        return ("Relu6", (cut,)) if _bounds(net, cut) == _SIX else None
    readers = net.readers.get(name, ())
    if name in net.fixed or len(readers) != 2:
        return None
    gates = [each for each in readers if each.op_type in _GATED and not each.domain]
    if len(gates) != 1 or (gates[0].op_type == "HardSigmoid" and not is_usual(gates[0])):
        return None
    product = net.sole_reader(gates[0].output[0], "Mul")
    if product is None or {*product.input} != {name, gates[0].output[0]}:
        return None
    return _GATED[gates[0].op_type], (gates[0], product)


def _gelu(net: Net, name: str) -> NodeProto | None:
    """GELU by erf that alone reads a value, ONNX's or onnxruntime's."""
    readers = net.readers.get(name, ())
    if name in net.fixed or len(readers) != 1 or readers[0].op_type != "Gelu":
        return None
    exact = plain_attributes(readers[0]).get("approximate", "none") in ("none", b"none")
    return readers[0] if exact and readers[0].domain in ("", "ai.onnx", CONTRIB) else None


def _bounds(net: Net, cut: NodeProto) -> tuple[float | None, ...]:
    """What a Clip cuts off below and above, as inputs or, before opset 11, as attributes; None where that is open."""
    given = {entry.name: entry.f for entry in cut.attribute}
    if given:
        return given.get("min"), given.get("max")
    return tuple(net.scalar(name) if name else None for name in [*cut.input[1:], "", ""][:2])


def is_usual(gate: NodeProto) -> bool:
    """Whether a HardSigmoid is x / 6 + 1 / 2, cut off."""
    return slope_of(gate) == "HardSigmoid"


def slope_of(gate: NodeProto) -> str:
    """Which of the kernels' HardSigmoids one is; empty where it is none of them."""
    given = {entry.name: entry.f for entry in gate.attribute}
    alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
    return next((name for name, slope in HARD_SIGMOIDS.items() if beta == 0.5 and np.isclose(alpha, slope)), "")


def alike(net: Net, one: str, other: str) -> bool:
    """Whether two values have the same shape, whatever the sizes of free dimensions."""
    shapes = [(net.shapes.get(name), net.others.get(name)) for name in (one, other)]
    return shapes[0] == shapes[1] and None not in shapes[0]


def _other(add: NodeProto, name: str) -> str:
    return str(add.input[1] if add.input[0] == name else add.input[0])


def conv_step(net: Net, conv: NodeProto, taken: Collection[int] = ()) -> Step | None:
    """A convolution that a kernel of ours computes, with what goes with it that is not `taken`; None for others."""
    weight = _weight(net, conv)
    if weight is None:
        return None
    how = plain_attributes(conv)
    group, plain = how.get("group", 1), how.get("auto_pad", "NOTSET") == "NOTSET"
    if not plain or weight.shape[0] % VECTOR:
        return None
    depthwise = group == weight.shape[0] and weight.shape[1] == 1
    if depthwise:
        chain = chain_of(net, conv, taken, sums=False)
        return _depthwise(net, chain) if _has_kernel(how, weight) else None
    chain = chain_of(net, conv, taken)
    weight = _scaled(chain, weight)
    if group == 1 and weight.shape[1] % VECTOR == 0:
        return _dense(net, chain, weight, image(conv.input[0]))
    if group == 1 and weight.shape[1] < VECTOR and conv.input[0] not in net.constants:
        return _of_image(net, chain, weight)
    if weight.shape[1] > 1 and group * weight.shape[1] % VECTOR == 0:
        step = _dense(net, chain, weight, image(conv.input[0]))
        return replace(step, attributes={**step.attributes, "group": group})
    return None


def transposed_step(net: Net, conv: NodeProto, taken: Collection[int] = ()) -> Step | None:
    """A transposed convolution of all channels that a kernel of ours computes, likewise."""
    weight, how = _weight(net, conv), plain_attributes(conv)
    plain = how.get("auto_pad", "NOTSET") == "NOTSET" and how.get("group", 1) == 1 and "output_shape" not in how
    if weight is None or not plain or weight.shape[0] % VECTOR or weight.shape[1] % VECTOR:
        return None
    chain = chain_of(net, conv, taken)
    weight = _scaled(chain, weight)
    step = _dense(net, chain, weight, image(conv.input[0]), "TransposedConv")
    wider = tuple(how.get("output_padding", (0, 0)))  # type: ignore[arg-type]
    return replace(step, attributes={**step.attributes, "output_padding": wider})


def _weight(net: Net, conv: NodeProto) -> Array | None:
    known = net.constants.get(conv.input[1])
    is_ours = known is not None and known.data_type == TensorProto.FLOAT16 and len(known.dims) == _RANK
    is_ours = is_ours and known is not None and known.data_location != TensorProto.EXTERNAL
    return net.table(conv.input[1]) if is_ours else None


def _has_kernel(how: Mapping[str, Any], weight: Array) -> bool:
    strides, dilations = how.get("strides", (1, 1)), how.get("dilations", (1, 1))
    square = weight.shape[2] == weight.shape[3] and strides[0] in _DOWN
    whole = tuple(dilations) == (1, 1) or tuple(strides) == (1, 1)
    return square and whole and (weight.shape[2], strides[1]) in _DEPTHWISE


def _window(conv: NodeProto) -> dict[str, tuple[int, ...]]:
    how = plain_attributes(conv)
    usual = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    return {name: tuple(how.get(name, value)) for name, value in usual.items()}  # type: ignore[arg-type]


def _bias(net: Net, chain: Chain, channels: int) -> Slot:
    """As the tensor cores' kernels take it: weights make up for what it lost (rounding/roundings.py)."""
    return _added(net, chain, channels, net.table(chain.bias) if chain.bias else None, np.float16)


def _added(net: Net, chain: Chain, channels: int, known: Array | None, kind: npt.DTypeLike) -> Slot:
    array = np.zeros(channels) if known is None else known.reshape(-1)
    name = chain.bias or chain.conv.input[1]
    if chain.norm is not None:
        array, name = array * chain.norm[0] + chain.norm[1], chain.output
    return constant(f"{name}_bias", array.astype(kind))


def _step(net: Net, chain: Chain, op: str, inputs: tuple[Slot, ...], extra: tuple[NodeProto, ...] = ()) -> Step:
    attributes: dict[str, Any] = {"activation": chain.activation} if chain.activation else {}
    attributes |= {**_window(chain.conv), **({"late": LATE} if chain.late else {})}
    return Step(op, inputs, chain.output, (*extra, *chain.old), attributes=attributes)


def _dense(net: Net, chain: Chain, weight: Array, x: Slot, op: str = "Conv") -> Step:
    laid = constant(chain.conv.input[1], np.ascontiguousarray(weight.transpose(0, 2, 3, 1), np.float16))
    bias = _bias(net, chain, weight.shape[0 if op == "Conv" else 1])
    return _with_sum(_step(net, chain, op, (x, laid, bias)), chain)


def _with_sum(step: Step, chain: Chain) -> Step:
    """With the image or the row that is added."""
    if chain.after is not None:
        row = constant(f"{chain.output}_row", chain.after[1])
        return replace(step, inputs=(*step.inputs, row), attributes={**step.attributes, "late": LATE_ROW})
    return replace(step, inputs=(*step.inputs, image(chain.residual) if chain.residual else NOTHING))


def _of_image(net: Net, chain: Chain, weight: Array) -> Step:
    """Of few channels: those that lack are zeros, in the image and in the weights; with stride 2, pixels two by two."""
    window = _window(chain.conv)
    blocks = _blocks(weight, window)
    if blocks is None:
        laid = np.zeros((weight.shape[0], *weight.shape[2:], VECTOR), np.float16)
        laid[..., : weight.shape[1]] = weight.transpose(0, 2, 3, 1)
    else:
        laid, pads = blocks
        window = {"strides": (1, 1), "pads": pads, "dilations": (1, 1)}
    name = f"{chain.conv.input[0]}{PADDED if blocks is None else BLOCKS}"
    inputs = (Slot(name), constant(chain.conv.input[1], laid), _bias(net, chain, laid.shape[0]))
    step = _with_sum(_step(net, chain, "Conv", inputs), chain)
    return replace(step, attributes={**step.attributes, **window})


def _blocks(weight: Array, window: dict[str, tuple[int, ...]]) -> tuple[Array, tuple[int, ...]] | None:
    """Weights and pads of the same convolution over blocks of 2 x 2 pixels; None where it is not the same at all sizes.

    With `before` pixels of padding, taps begin at an even pixel if one more is put before them where that is odd.
    """
    count, channels, *kernel = weight.shape
    top, left, bottom, right = window["pads"]
    sides = list(zip((top, left), (bottom, right), kernel, strict=True))
    odd = all((before + after - size) % 2 for before, after, size in sides)
    if window["strides"] != (2, 2) or window["dilations"] != (1, 1) or 4 * channels > 2 * VECTOR or not odd:
        return None
    first = [(before + 1) // 2 for before, _, _ in sides]
    shift = [2 * blocks - before for blocks, (before, _, _) in zip(first, sides, strict=True)]
    taps = [(size + more + 1) // 2 for size, more in zip(kernel, shift, strict=True)]
    last = [
        (before + after - size) // 2 - blocks + tap
        for (before, after, size), blocks, tap in zip(sides, first, taps, strict=True)
    ]
    if min(last) < 0:
        return None
    wide = np.zeros((count, channels, 2 * taps[0], 2 * taps[1]), np.float16)
    wide[:, :, shift[0] : shift[0] + kernel[0], shift[1] : shift[1] + kernel[1]] = weight
    split = wide.reshape(count, channels, taps[0], 2, taps[1], 2).transpose(0, 2, 4, 3, 5, 1)
    laid = np.zeros((count, *taps, 2 * VECTOR), np.float16)
    laid[..., : 4 * channels] = split.reshape(count, *taps, 4 * channels)
    return laid, (*first, *last)


def image_step(net: Net, conv: NodeProto, made: str) -> Step:
    """What makes the padded image that such a convolution reads; a cast before it goes with it."""
    name = conv.input[0]
    cast = net.maker(name, "Cast")
    source = cast.input[0] if cast is not None and _is_float(net, cast.input[0]) else name
    how = {"channels": net.constants[conv.input[1]].dims[1], "block": 2 if made.endswith(BLOCKS) else 1}
    return Step("Image", (Slot(source),), made, (), last=False, attributes=how)


def _is_float(net: Net, name: str) -> bool:
    kinds = {value.name: value.type.tensor_type.elem_type for value in net.graph.input}
    return kinds.get(name) == TensorProto.FLOAT


def _depthwise(net: Net, chain: Chain) -> Step:
    weight = net.exact(chain.conv.input[1])
    assert weight is not None  # `_weight` saw it
    by_tap = _scaled(chain, weight)[:, 0].transpose(1, 2, 0)
    laid = constant(chain.conv.input[1], np.ascontiguousarray(by_tap, np.float32))
    bias = _added(net, chain, len(weight), net.exact(chain.bias) if chain.bias else None, np.float32)
    after = () if chain.after is None else (constant(f"{chain.output}_after", np.stack(chain.after)),)
    step = _step(net, chain, "DepthwiseConv", (image(chain.conv.input[0]), laid, bias, *after))
    return replace(step, attributes={**step.attributes, "group": len(weight)})
