"""Known: values that follow from constants and from sizes alone, whatever the data, and what they are."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Array, Net
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.single_op import IR_VERSION
from ampgraph.onnx_model.types import bodies

MEASURES = ("Shape", "Size")
TURNING = ("Cast", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")  # change no number
PICKING = ("Gather", "GatherElements", "GatherND", "Slice", "Tile")  # take some of the numbers
_LARGEST = 2**25  # elements of all values; more are not computed
_WHOLE = (TensorProto.INT64, TensorProto.INT32)
_RANDOM = frozenset(("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"))


def without_data(net: Net) -> set[str]:
    """Values that follow from constants and from sizes."""
    apart = {name for name, tensor in net.constants.items() if tensor.data_location == TensorProto.EXTERNAL}
    return following(net, {*net.constants, *_sizes(net)} - apart)


def following(net: Net, known: Iterable[str]) -> set[str]:
    """These values and what follows from them alone."""
    sure = {"", *known}
    for each in net.graph.node:
        plain = each.domain in ("", "ai.onnx") and each.op_type not in _RANDOM and not any(bodies(each))
        if plain and each.input and sure.issuperset(each.input):
            sure.update(each.output)
    return sure


def _sizes(net: Net) -> dict[str, Array]:
    """What sizes alone decide: results that inference computed, and the shapes of values."""
    found = dict(net.computed)
    for each in net.graph.node:
        shape = net.shapes.get(each.input[0]) if each.op_type in MEASURES and not each.domain else None
        if shape is not None:
            ends = {entry.name: entry.i for entry in each.attribute}
            part = shape[ends.get("start", 0) : ends.get("end")]
            found[each.output[0]] = np.array(part if each.op_type == "Shape" else prod(shape), np.int64)
    return found


def whole_maker(net: Net, name: str, *types: str) -> NodeProto | None:
    """The node that makes a value, if it is one of these; of casts those that hold any size."""
    made = net.maker(name, *types)
    return None if made is not None and plain_attributes(made).get("to", TensorProto.INT64) not in _WHOLE else made


def is_size(net: Net, name: str) -> bool:
    """Whether a value is a size as it stands in a shape, or a constant."""
    made = whole_maker(net, name, *TURNING, *PICKING, "Shape")
    if name in net.constants or made is None:
        return name in net.constants
    return made.op_type == "Shape" or is_size(net, made.input[0])


def ancestors(net: Net, names: Iterable[str], known: Iterable[str]) -> tuple[list[NodeProto], set[str]]:
    """The nodes that make these values of what is known, in order, and what they read of that."""
    leaves, wanted = set(known), set(names)
    nodes = []
    for each in reversed(net.graph.node):
        if wanted.intersection(each.output) and leaves.isdisjoint(each.output):
            nodes.append(each)
            wanted.update(each.input)
    return nodes[::-1], leaves & wanted


def computed(net: Net, names: Iterable[str]) -> dict[str, Array]:
    """These values at the net's sizes; none of them where onnxruntime cannot compute one."""
    if sum(prod(net.shapes.get(name, (_LARGEST + 1,))) for name in names) > _LARGEST:
        return {}
    sizes = _sizes(net)
    nodes, leaves = ancestors(net, names, {*sizes, *net.constants})
    values = {name: sizes[name] if name in sizes else net.table(name) for name in leaves}
    known = {name: value for name, value in values.items() if value is not None}
    wanted = [name for name in names if name not in known]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    constants = [numpy_helper.from_array(value, name) for name, value in known.items()]
    graph = helper.make_graph(nodes, "masks", [], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", net.opset)], ir_version=IR_VERSION)
    try:
        results = run(open_session(model, provider=CPU, optimize="disabled"), {}) if wanted else {}
    except Exception:  # onnxruntime's exceptions share no base class
        return {}
    return {name: known[name] if name in known else results[name] for name in names}
