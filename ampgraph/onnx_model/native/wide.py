"""Wide: channels that are no whole vectors, made so with zeros where convolutions alone read them.

The kernels work on eight channels at a time. Filters that give nothing, and columns of zeros in the weights of what
reads them, change no answer: PP-OCR's detection hands 12, 18 and 42 channels from one convolution to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import constants_in, plain_attributes
from ampgraph.onnx_model.fuse.net import Array, copy_without
from ampgraph.onnx_model.native.conv import VECTOR
from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.types import bodies

_RANK = 4
_GATES = ("HardSigmoid", "Sigmoid")
_OF_NOTHING = frozenset(("Gelu", "HardSwish", "Identity", "LeakyRelu", "Relu", "Tanh"))  # nothing, where given that


def widened(model: ModelProto) -> ModelProto:
    """The model with such channels whole vectors; itself where there are none."""
    wide = _Wide.of(model)
    for node in wide.nodes:
        places = _places(wide, node)
        if places is not None:
            wide.widen(node, places)
    if not wide.made:
        return model
    new = copy_without(model, "node", "value_info")
    new.graph.node.extend(wide.nodes)
    new.graph.initializer.extend(wide.made.values())
    new.graph.value_info.extend(value for value in model.graph.value_info if value.name not in wide.changed)
    return new


@dataclass(frozen=True)
class _Places:
    """What a convolution's channels touch: constants added to them, the convolutions that read them, values between."""

    sums: tuple[tuple[NodeProto, int], ...]  # with the slot of the constant
    readers: tuple[NodeProto, ...]
    values: tuple[str, ...]


@dataclass
class _Wide:
    """The nodes, their constants, and who reads what. Grows."""

    nodes: tuple[NodeProto, ...]
    weights: Mapping[str, TensorProto]
    readers: Mapping[str, tuple[NodeProto, ...]]
    makers: Mapping[str, NodeProto]
    fixed: frozenset[str]
    made: dict[str, TensorProto] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: ModelProto) -> _Wide:
        nodes, readers = list[NodeProto](), dict[str, list[NodeProto]]()
        fixed = {value.name for value in model.graph.output}
        for each in model.graph.node:
            node = NodeProto()
            node.CopyFrom(each)
            nodes.append(node)
            for name in dict.fromkeys(node.input):
                readers.setdefault(name, []).append(node)
            for _, body in bodies(node):
                fixed |= captured(body)
        makers = {name: node for node in nodes for name in node.output}
        by_name = {name: tuple(found) for name, found in readers.items()}
        return cls(tuple(nodes), constants_in(model.graph), by_name, makers, frozenset(fixed))

    def tensor(self, name: str) -> TensorProto | None:
        """A constant, as it is by now."""
        return self.made.get(name) or self.weights.get(name)

    def widen(self, conv: NodeProto, places: _Places) -> None:
        """Filters that give nothing, and columns of zeros for them."""
        count = self._dims(conv.input[1])[0]
        more = -count % VECTOR
        self._pad(conv, 1, 0, more)
        if len(conv.input) > 2 and conv.input[2]:
            self._pad(conv, 2, 0, more)
        for sum_, slot in places.sums:
            self._pad(sum_, slot, -3, more)
        for reader in places.readers:
            self._pad(reader, 1, 1, more)
        self.changed.update(places.values)

    def _dims(self, name: str) -> tuple[int, ...]:
        tensor = self.tensor(name)
        return tuple(tensor.dims) if tensor is not None else ()

    def _pad(self, node: NodeProto, slot: int, axis: int, more: int) -> None:
        """A node's constant with so many zeros behind along an axis, under a name of its own."""
        tensor = self.tensor(node.input[slot])
        assert tensor is not None
        array: Array = numpy_helper.to_array(tensor)
        pads = [(0, 0)] * array.ndim
        pads[axis] = (0, more)
        name = f"{node.input[slot]}_ampgraph_wide_{len(self.made)}"
        self.made[name] = numpy_helper.from_array(np.pad(array, pads), name)
        node.input[slot] = name


def _places(wide: _Wide, conv: NodeProto) -> _Places | None:
    """What the channels of a convolution touch, if those are no whole vectors and can be; None where not."""
    weight = _weight(wide, conv)
    if weight is None or weight.dims[0] % VECTOR == 0 or (weight.dims[1] % VECTOR and weight.dims[1] > VECTOR):
        return None
    if len(conv.input) > 2 and conv.input[2] and not _is_here(wide.tensor(conv.input[2])):
        return None
    sums, ends, values = list[tuple[NodeProto, int]](), list[NodeProto](), [conv.output[0]]
    for name in values:
        found = wide.readers.get(name, ())
        if not found or name in wide.fixed:
            return None
        for reader in found:
            slot = _slot_of_row(wide, reader, name, int(weight.dims[0]))
            if slot is not None:
                sums.append((reader, slot))
                values.append(reader.output[0])
            elif _stays_nothing(wide, reader):
                values.extend(each for each in reader.output if each not in values)
            elif reader.input[0] == name and name not in reader.input[1:] and _weight(wide, reader) is not None:
                ends.append(reader)
            else:
                return None
    return _Places(tuple(sums), tuple(ends), tuple(values)) if ends else None


def _weight(wide: _Wide, conv: NodeProto) -> TensorProto | None:
    """The float16 weights of a convolution of images, all channels by all."""
    how = plain_attributes(conv)
    if conv.op_type != "Conv" or conv.domain or how.get("group", 1) != 1 or how.get("auto_pad", "NOTSET") != "NOTSET":
        return None
    weight = wide.tensor(conv.input[1])
    low = _is_here(weight) and weight is not None and weight.data_type == TensorProto.FLOAT16
    return weight if low and weight is not None and len(weight.dims) == _RANK else None


def _is_here(tensor: TensorProto | None) -> bool:
    return tensor is not None and tensor.data_location != TensorProto.EXTERNAL


def _slot_of_row(wide: _Wide, sum_: NodeProto, name: str, count: int) -> int | None:
    """Which input of a sum is a constant number for each channel."""
    if sum_.op_type != "Add" or sum_.domain or len(sum_.input) != 2 or sum_.input[0] == sum_.input[1]:
        return None
    slot = 1 if sum_.input[0] == name else 0
    tensor = wide.tensor(sum_.input[slot])
    dims = tuple(tensor.dims) if tensor is not None and _is_here(tensor) else ()
    return slot if dims[-3:] == (count, 1, 1) and np.prod(dims) == count else None


def _stays_nothing(wide: _Wide, reader: NodeProto) -> bool:
    """Whether a channel of nothing stays one: an activation, or a gate of the value that it alone is multiplied by."""
    if reader.op_type == "Gelu":
        return True  # onnxruntime's, too
    if reader.domain:
        return False
    if reader.op_type in _GATES:
        products = wide.readers.get(reader.output[0], ())
        return len(products) == 1 and _is_gated(wide, products[0])
    return reader.op_type in _OF_NOTHING or _is_gated(wide, reader)


def _is_gated(wide: _Wide, product: NodeProto) -> bool:
    """Whether a product is one of a value and its gate."""
    if product.op_type != "Mul" or product.domain:
        return False
    pairs = (product.input, product.input[::-1])
    makers = [(value, wide.makers.get(gate)) for value, gate in pairs]
    return any(gate is not None and gate.op_type in _GATES and gate.input[0] == value for value, gate in makers)
