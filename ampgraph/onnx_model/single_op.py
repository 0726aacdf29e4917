"""One operator of a model as a model of its own, repeated, in any precision.

All copies read the same inputs. onnxruntime neither fuses them, since none reads another, nor removes them, though only
the first one's outputs are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.helper import tensor_dtype_to_np_dtype

from ampgraph.graph import Op, PrecisionGraph, Slot
from ampgraph.kernels import KernelTable, kernel_law
from ampgraph.onnx_model import external
from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.dtypes import ELEM_TYPES, NAMES
from ampgraph.onnx_model.links import LINKS, set_dtype
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.run import Array
from ampgraph.onnx_model.timing import Tensor
from ampgraph.onnx_model.types import bodies
from ampgraph.precision import Precision

SMALL = 4096  # elements: constants up to this size are the model's own, larger weights are drawn
IR_VERSION = 8  # the least that knows every type used here
_NUMBERS = {name: number for number, name in NAMES.items()}
# Weights that stay in the device's cache from one copy to the next would come too cheap: copies take turns among
# several, up to this many bytes together.
_LARGE_WEIGHT, _WEIGHTS = 1 << 20, 1 << 26


@dataclass(frozen=True)
class Single:
    """A model that holds `copies` of one operator."""

    model: ModelProto
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    copies: int
    options: Mapping[str, str] = field(default_factory=dict)  # of the CUDA provider, as a session sets them


def known_tensors(model: ModelProto, inferred: ModelProto) -> dict[str, TensorProto]:
    """Small constants by name: the model's own, and the sizes that shape inference computed."""
    found: dict[str, TensorProto] = {}
    for source in (inferred, model):
        found.update((tensor.name, tensor) for tensor in _initializers(source.graph))
        for node in walk(source.graph):
            tensor = constant_tensor(node)
            if tensor is not None:
                found[node.output[0]] = tensor
    small = (math.prod(tensor.dims) <= SMALL and not external.is_external(tensor) for tensor in found.values())
    return {name: tensor for (name, tensor), keep in zip(found.items(), small, strict=True) if keep}


def _initializers(graph: GraphProto) -> list[TensorProto]:
    own = list(graph.initializer)
    return own + [tensor for node in graph.node for _, body in bodies(node) for tensor in _initializers(body)]


def low_variables(
    op: Op, graph: PrecisionGraph, precision: Precision, table: KernelTable | None
) -> frozenset[str] | None:
    """The op's decisions that are low when it runs in a low precision; None where its principal one cannot be."""
    decisions = graph.decisions_of[op.id]
    law = kernel_law(table, op, decisions, precision)
    low = {each.id for each in decisions if each.is_open(precision) and each.id not in law.forbidden}
    both_ways = {*law.implications, *law.ties, *((b, a) for a, b in law.ties)}
    for _ in decisions:
        low -= {a for a, b in both_ways if b not in low}
    return frozenset(low) if any(each.principal and each.id in low for each in decisions) else None


def single_op(
    op: Op,
    node: NodeProto,
    graph: PrecisionGraph,
    known: Mapping[str, TensorProto],
    precision: Precision,
    low: frozenset[str],
    copies: int,
) -> Single:
    """The op in a precision: `low` are its decisions that take it, the others stay as they are."""
    inputs: dict[str, Tensor] = {}
    weights: dict[str, list[TensorProto]] = {}
    named = {value: f"i{index}" for index, value in enumerate(dict.fromkeys(slot.value for slot in op.inputs))}
    named[""] = ""
    for slot in op.inputs:
        name = named[slot.value]
        if not name or name in inputs or name in weights:
            continue
        kind = _tensor(slot, graph, precision, low)
        data = _constant(slot, graph, known, kind)
        if data is None:
            inputs[name] = kind
        else:
            weights[name] = _turns(name, kind, data, copies)
    outputs = {f"o{i}": _tensor(slot, graph, precision, low) for i, slot in enumerate(op.outputs) if slot.value}
    bare = _bare(node, op, precision, low)
    names = [named[slot.value] for slot in op.inputs]
    nodes = [_copy(bare, op, names, weights, index) for index in range(copies)]
    made = helper.make_graph(
        nodes,
        "single",
        [helper.make_tensor_value_info(name, kind.elem_type, kind.shape) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, kind.elem_type, kind.shape) for name, kind in outputs.items()],
        [tensor for turns in weights.values() for tensor in turns],
    )
    opsets = [onnx.OperatorSetIdProto(domain=domain, version=version) for domain, version in graph.opsets.items()]
    return Single(helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION), inputs, outputs, copies)


_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LAST, _FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def channels_last(single: Single, op: Op) -> Single:
    """A low convolution of images as an ampgraph session runs it: channels last, its bias inside if it has one group.

    Images come and go with channels last, so that the changes of layout that onnxruntime puts around it cancel out.
    """
    images = {name: tensor for name, tensor in {**single.inputs, **single.outputs}.items() if len(tensor.shape) == 4}
    if op.type not in _CONVOLUTIONS or not {"i0", "o0"} <= images.keys():
        return single
    model, turned = ModelProto(), {name: _turned(images[name]) for name in ("i0", "o0")}
    model.CopyFrom(single.model)
    graph = model.graph
    for value in (*graph.input, *graph.output):
        if value.name in turned:
            value.CopyFrom(helper.make_tensor_value_info(value.name, *astuple(turned[value.name])))
    after = []
    for node in graph.node:
        node.input[0], made = "i0_first", node.output[0]
        node.output[0] = f"{made}_first"
        after.append(helper.make_node("Transpose", [node.output[0]], [made], f"{made}_last", perm=_LAST))
    before = helper.make_node("Transpose", ["i0"], ["i0_first"], "i0_first", perm=_FIRST)
    nodes = [before, *map(_copied, graph.node), *after]
    graph.ClearField("node")
    graph.node.extend(nodes)
    alone = int(op.attributes.get("group", 1) == 1)
    options = {"prefer_nhwc": "1", "fuse_conv_bias": str(alone)}
    return replace(
        single,
        model=model,
        inputs={**single.inputs, "i0": turned["i0"]},
        outputs={**single.outputs, "o0": turned["o0"]},
        options=options,
    )


def _copied(node: NodeProto) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _turned(tensor: Tensor) -> Tensor:
    return Tensor(tensor.elem_type, tuple(tensor.shape[axis] for axis in _LAST))


def cast_model(elements: int, source: Precision, target: Precision, copies: int) -> Single:
    """Casts of one vector."""
    kinds = {"i0": Tensor(ELEM_TYPES[source], (elements,)), "o0": Tensor(ELEM_TYPES[target], (elements,))}
    nodes = [
        helper.make_node("Cast", ["i0"], [f"o0_{index}" if index else "o0"], to=ELEM_TYPES[target])
        for index in range(copies)
    ]
    ends = {name: helper.make_tensor_value_info(name, kind.elem_type, kind.shape) for name, kind in kinds.items()}
    made = helper.make_graph(nodes, "casts", [ends["i0"]], [ends["o0"]])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=IR_VERSION)
    return Single(model, {"i0": kinds["i0"]}, {"o0": kinds["o0"]}, copies)


def _tensor(slot: Slot, graph: PrecisionGraph, precision: Precision, low: frozenset[str]) -> Tensor:
    value = graph.values[slot.value]
    assert value.shape is not None  # what has a shape class has shapes
    return Tensor(ELEM_TYPES[precision] if slot.decision in low else _NUMBERS[value.dtype], value.shape)


def _constant(slot: Slot, graph: PrecisionGraph, known: Mapping[str, TensorProto], kind: Tensor) -> Array | None:
    """A constant's data; None for what is computed when the model runs."""
    value = graph.values[slot.value]
    tensor = known.get(value.name)
    is_constant = value.constant is not None
    sized = tensor is not None and tuple(tensor.dims) == value.shape and NAMES.get(tensor.data_type) == value.dtype
    if tensor is not None and sized and (is_constant or not slot.decision):
        with np.errstate(over="ignore"):
            return numpy_helper.to_array(tensor).astype(tensor_dtype_to_np_dtype(kind.elem_type))
    return _drawn(kind) if is_constant else None


def _drawn(kind: Tensor) -> Array:
    dtype = tensor_dtype_to_np_dtype(kind.elem_type)
    count = math.prod(kind.shape)
    if kind.elem_type in ELEM_TYPES.values():
        drawn = np.random.default_rng(0).standard_normal(min(count, 1 << 16), np.float32) * 0.1
        return np.resize(drawn.astype(dtype), kind.shape)
    return np.zeros(kind.shape, dtype)


def _turns(name: str, kind: Tensor, data: Array, copies: int) -> list[TensorProto]:
    count = max(1, min(copies, _WEIGHTS // kind.bytes)) if kind.bytes >= _LARGE_WEIGHT else 1
    raw = np.ascontiguousarray(data).tobytes()
    return [
        TensorProto(name=f"{name}_{turn}", data_type=kind.elem_type, dims=kind.shape, raw_data=raw)
        for turn in range(count)
    ]


def _bare(node: NodeProto, op: Op, precision: Precision, low: frozenset[str]) -> NodeProto:
    """The node's type and attributes, an attribute that sets a low variable's type included."""
    bare = NodeProto(op_type=node.op_type, domain=node.domain)
    bare.attribute.extend(each for each in node.attribute if each.type != AttributeProto.GRAPH)
    link = LINKS.get(op.type)
    if link is not None and f"{op.id}:{link.variable}" in low:
        set_dtype(bare, link, precision)
    return bare


def _copy(bare: NodeProto, op: Op, names: list[str], weights: Mapping[str, list[TensorProto]], index: int) -> NodeProto:
    node = NodeProto()
    node.CopyFrom(bare)
    node.name = f"copy{index}"
    for name in names:
        turns = weights.get(name)
        node.input.append(turns[index % len(turns)].name if turns else name)
    for place, slot in enumerate(op.outputs):
        node.output.append((f"o{place}_{index}" if index else f"o{place}") if slot.value else "")
    return node
