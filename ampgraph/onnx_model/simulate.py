"""True low-precision results on the CPU: a mixed model rewritten to compute in float32 and round where the target does.

onnxruntime's CPU provider runs many float16 ops in float32 and removes casts, so running a converted model there shows
nothing. `simulate` returns a model without low-precision arithmetic: every op that computes in float16 or bfloat16
computes in float32 (the accumulation type of the target's kernels) and its result goes through a cast to the low type
and back, which no optimizer level of onnxruntime removes from a float32 graph. Overflow becomes infinity, subnormals
and signs of zero stay. Kernels that round between their steps are expanded first (`stepwise`).

Not modelled, with the difference that it made on an H100 in relative L2: the per-step rounding of the state of LSTM
and RNN (1e-3 over 64 steps); products rounded before a bias is added in Gemm and Conv, SkipLayerNormalization's sum,
probabilities inside fused attention and the weights of linear Resize (4e-4 each); and CumSum's running sum in float16
(0.2 over 3,000 ones), which no rule lowers. Contrib ops without a CPU kernel are evaluated where their steps are known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx
import onnx.inliner
import onnx_ir as ir
from onnx_ir import convenience, traversal
from onnx_ir.passes.common import InlinePass

from ampgraph.onnx_model.dense import with_dense
from ampgraph.onnx_model.element_types import LOW, bodies, fill_element_types
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.raising import opset_of
from ampgraph.onnx_model.schema import Signature, signature
from ampgraph.onnx_model.stepwise import (
    CUDA_ONLY,
    DOMAIN,
    OLDEST_OPSET,
    SCHEMA_FUNCTIONS,
    STEPPED,
    cuda_only,
    function_for,
    steps_of,
)

# Results are some of the operands' elements, already rounded; casts would only cost time.
_MOVES = frozenset(
    (
        "Abs", "Compress", "Concat", "Constant", "ConstantOfShape", "DepthToSpace", "Expand", "EyeLike", "Flatten",
        "Gather", "GatherElements", "GatherND", "Identity", "If", "Loop", "Max", "MaxPool", "Min", "Neg", "OneHot",
        "Pad", "Relu", "Reshape", "ReverseSequence", "Scan", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile",
        "TopK", "Transpose", "Trilu", "Unsqueeze", "Where",
    )
)  # fmt: skip
# Ops that look at the bits, the spelling or the dtype of what they are given: fed with the true low type.
_LITERAL = frozenset(("BitCast", "Cast", "CastLike"))
_DTYPE_ATTRIBUTES = ("dtype", "output_dtype", "output_datatype", "precision", "stash_type")


def simulate(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model with the same interface whose float32 arithmetic gives the numbers of `model`'s low-precision arithmetic.

    The data of initializers must be in the proto (load external data first). Run it at any optimization level.
    """
    whole = ir.from_proto(with_dense(_without_functions(model)))
    whole.graph.sort()  # what other converters write is not always sorted
    _forget_inner_shapes(whole)
    fill_element_types(whole)
    if _expand_steps(whole):
        InlinePass()(whole)
        fill_element_types(whole)
    state = _State(_low_values(whole), _names(whole), whole.graph.opset_imports)
    _raise_graph(whole.graph, state)
    _restore_outputs(whole.graph, state)
    _raise_inputs(whole.graph, state)
    return ir.to_proto(whole)


def for_any_provider(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with operators that only CUDA has a kernel for in standard ones; itself where there are none."""
    if not cuda_only(model):
        return model
    whole = ir.from_proto(with_dense(model))
    fill_element_types(whole)
    _expand_steps(whole, low_too=False)
    InlinePass()(whole)
    return ir.to_proto(whole)


@dataclass
class _State:
    """What the rewrite must remember: the low type that values had, names in use, opsets."""

    low: dict[ir.Value, ir.DataType]
    names: set[str | None]
    opsets: dict[str, int] = field(default_factory=dict)

    def fresh(self, stem: str | None) -> str:
        """A new value name made of `stem`."""
        name = f"{stem}~"
        while name in self.names:
            name += "~"
        self.names.add(name)
        return name


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Model-local functions, and schema functions that the target expands, inlined."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if any(("", node.op_type) in SCHEMA_FUNCTIONS for node in walk(model.graph)):
        model = _with_defaults(model)
        model = onnx.inliner.inline_selected_functions(model, list(SCHEMA_FUNCTIONS), inline_schema_functions=True)
    return model


def _with_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose calls of schema functions say every attribute: inlining binds no default."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = opset_of(model)
    for node in walk(copy.graph):
        if ("", node.op_type) in SCHEMA_FUNCTIONS:
            said = {attribute.name for attribute in node.attribute}
            known = onnx.defs.get_schema(node.op_type, opset, "").attributes
            node.attribute.extend(each.default_value for name, each in known.items() if name not in said)
    return copy


def _forget_inner_shapes(model: ir.Model) -> None:
    """A shape that a file states wrongly of an inner value harms nobody until casts bear it too."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for node in graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None


def _expand_steps(model: ir.Model, *, low_too: bool = True) -> bool:
    """Turn calls of CUDA's own kernels, and low-precision ones of stepwise kernels, into calls of functions.

    Whether there were any.
    """
    opset = model.graph.opset_imports.get("", 1)
    if opset < OLDEST_OPSET:
        return False
    for node in list(traversal.RecursiveGraphIterator(model.graph)):
        low = node.outputs[0].dtype if node.outputs else None
        stepped = (low_too and low in LOW and node.op_type in STEPPED) or _is_cuda_only(node)
        proto = ir.to_proto(node) if stepped else None
        steps = steps_of(proto) if proto is not None else None
        if proto is not None and steps is not None and low is not None:
            name = f"{node.op_type}_{len(model.functions)}"
            function = function_for(proto, steps, name, int(low), opset)
            model.functions[DOMAIN, name, ""] = ir.serde.deserialize_function(function)
            node.domain, node.op_type = DOMAIN, name
            node.attributes.clear()
            model.graph.opset_imports[DOMAIN] = 1
    return bool(model.functions)


def _is_cuda_only(node: ir.Node) -> bool:
    return node.domain == "com.microsoft" and node.op_type in CUDA_ONLY


def _low_values(model: ir.Model) -> dict[ir.Value, ir.DataType]:
    found: dict[ir.Value, ir.DataType] = {}
    for graph in (model.graph, *model.graph.subgraphs()):
        produced = (output for node in graph for output in node.outputs)
        for value in (*graph.inputs, *graph.initializers.values(), *produced):
            if value.dtype in LOW and value.name:  # an output left out has a type and no name
                found[value] = value.dtype
    return found


def _names(model: ir.Model) -> set[str | None]:
    nodes = traversal.RecursiveGraphIterator(model.graph)
    inner = {value.name for node in nodes for value in (*node.inputs, *node.outputs) if value is not None}
    return inner | {value.name for value in (*model.graph.inputs, *model.graph.initializers.values())}


def _raise_graph(graph: ir.Graph, state: _State) -> None:
    """Turn every low value of a graph and its bodies into a float32 value that holds low-precision numbers."""
    for value in graph.initializers.values():
        if value in state.low and not value.is_graph_input():
            _raise_initializer(value)
    for node in list(graph):
        for body in bodies(node):
            for value in body.inputs:
                value.type = _raised(value.type)
            _raise_graph(body, state)
        _raise_node(graph, node, state)


def _raise_initializer(value: ir.Value) -> None:
    if value.const_value is not None:
        value.const_value = _raised_tensor(value.const_value)
        value.type = ir.TensorType(ir.DataType.FLOAT)


def _raise_node(graph: ir.Graph, node: ir.Node, state: _State) -> None:
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    if not any(value in state.low for value in values):
        return
    if _is_literal(node, state):
        _feed_low(graph, node, state)
        return
    _raise_attributes(node)
    for output in node.outputs:
        if output in state.low:
            rounds = isinstance(output.type, ir.TensorType) and node.op_type not in _MOVES
            output.type = _raised(output.type)
            if rounds:
                _round(graph, node, output, state)


def _is_literal(node: ir.Node, state: _State) -> bool:
    """Whether a node needs its low operands as they are: it inspects them, or has no float32 form."""
    schema = signature(node.domain, node.op_type, state.opsets.get(node.domain, 1))
    if node.op_type in _LITERAL or schema is None:
        return True
    inputs = [schema.input(index) for index, value in enumerate(node.inputs) if value in state.low]
    outputs = [schema.output(index) for index, value in enumerate(node.outputs) if value in state.low]
    return any(formal is not None and not _admits_float32(schema, formal.type) for formal in (*inputs, *outputs))


def _admits_float32(schema: Signature, variable: str) -> bool:
    return any("tensor(float)" in text for text in schema.constraints.get(variable, (variable,)))


def _feed_low(graph: ir.Graph, node: ir.Node, state: _State) -> None:
    for index, value in enumerate(node.inputs):
        if value is not None and value in state.low and isinstance(value.type, ir.TensorType):
            down = _cast(value, state.low[value], state.fresh(value.name))
            graph.insert_before(node, down)
            node.replace_input_with(index, down.outputs[0])
    for output in node.outputs:
        if output in state.low and isinstance(output.type, ir.TensorType):
            up = _cast(None, ir.DataType.FLOAT, output.name)
            _take_over(graph, node, output, [up], state)


def _round(graph: ir.Graph, node: ir.Node, output: ir.Value, state: _State) -> None:
    """Send an output through its low type; the rounded value takes over its name and its uses."""
    down = _cast(None, state.low[output], state.fresh(output.name))
    up = _cast(down.outputs[0], ir.DataType.FLOAT, output.name)
    _take_over(graph, node, output, [down, up], state)


def _take_over(graph: ir.Graph, node: ir.Node, output: ir.Value, casts: list[ir.Node], state: _State) -> None:
    final = casts[-1].outputs[0]
    final.shape = output.shape
    state.low[final] = state.low[output]
    convenience.replace_all_uses_with(output, final, replace_graph_outputs=True)
    output.name = state.fresh(output.name)
    casts[0].replace_input_with(0, output)
    graph.insert_after(node, casts)


def _cast(source: ir.Value | None, to: ir.DataType, name: str | None) -> ir.Node:
    output = ir.Value(name=name, type=ir.TensorType(to), shape=source.shape if source is not None else None)
    return ir.Node("", "Cast", [source], [ir.AttrInt64("to", int(to))], outputs=[output])


def _raise_attributes(node: ir.Node) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in LOW:
            node.attributes[name] = ir.AttrTensor(name, _raised_tensor(attribute.as_tensor()))
        elif name in _DTYPE_ATTRIBUTES and attribute.as_int() in LOW:
            node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))


def _raised_tensor(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy().astype("float32"), name=tensor.name)


def _raised(kind: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    """The type with float32 for the low element type, however deep it lies in sequences and optionals."""
    if isinstance(kind, ir.SequenceType | ir.OptionalType):
        return type(kind)(_raised(kind.elem_type) or kind.elem_type)
    return ir.TensorType(ir.DataType.FLOAT) if isinstance(kind, ir.TensorType) and kind.dtype in LOW else kind


def _restore_outputs(graph: ir.Graph, state: _State) -> None:
    """Give the model's low tensor outputs their type back; an output that is an input has never lost it."""
    for index, value in enumerate(graph.outputs):
        if value in state.low and isinstance(value.type, ir.TensorType) and not value.is_graph_input():
            name, value.name = value.name, state.fresh(value.name)
            down = _cast(value, state.low[value], name)
            graph.append(down)
            graph.outputs[index] = down.outputs[0]


def _raise_inputs(graph: ir.Graph, state: _State) -> None:
    """Let what reads a low tensor input read a float32 cast of it."""
    for value in graph.inputs:
        if value in state.low and isinstance(value.type, ir.TensorType):
            uses = tuple(value.uses())
            if not uses:  # at most an output just as it is
                continue
            up = _cast(value, ir.DataType.FLOAT, state.fresh(value.name))
            for node, index in uses:
                node.replace_input_with(index, up.outputs[0])
            graph.insert_before(graph[0], up)
        else:
            value.type = _raised(value.type)
