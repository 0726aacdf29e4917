"""Element types of every value, contrib ops and what follows them included, where onnx's own inference stops.

Works on onnx-ir models and needs no shapes and no weights: a node's output types follow from its attributes, its bodies
or, by unifying type variables, from its schema and the types of its inputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import onnx_ir as ir

from ampgraph.onnx_model.schema import Formal, Signature, signature

Kind = ir.TypeProtocol | None
LOW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

_DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
_TENSOR = re.compile(r"tensor\((\w+)\)")
_SPELLED = {"float": ir.DataType.FLOAT, "double": ir.DataType.DOUBLE}


def fill_element_types(model: ir.Model) -> None:
    """Set the type of every value that has none, in place."""
    _fill_graph(model.graph, model.graph.opset_imports)


def bodies(node: ir.Node) -> list[ir.Graph]:
    """The subgraphs of a node."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def _fill_graph(graph: ir.Graph, opsets: dict[str, int]) -> None:
    for value in graph.initializers.values():
        if value.type is None and value.const_value is not None:
            value.type = ir.TensorType(value.const_value.dtype)
    for node in graph:
        _fill_body_inputs(node)
        for body in bodies(node):
            _fill_graph(body, opsets)
        _fill_outputs(node, opsets.get(node.domain, 1))


def _fill_outputs(node: ir.Node, opset: int) -> None:
    schema = signature(node.domain, node.op_type, opset)
    for index, output in enumerate(node.outputs):
        if output.type is None:
            output.type = _typed_by_op(node, index) or _typed_by_schema(node, index, schema)


def _fill_body_inputs(node: ir.Node) -> None:
    """Body inputs may leave their types to the values they are fed with."""
    if node.op_type not in ("Loop", "Scan"):
        return
    given = list(node.inputs) if node.op_type == "Scan" else [None, None, *node.inputs[2:]]
    for body in bodies(node):
        for target, source in zip(body.inputs, given, strict=False):
            if target.type is None and source is not None:
                target.type = source.type


def _typed_by_op(node: ir.Node, index: int) -> Kind:
    """What an op says of its outputs other than through type variables."""
    rule = _BY_OP.get(node.op_type)
    if rule is not None:
        return rule(node, index)
    for name in _DTYPE_ATTRIBUTES:
        if name in node.attributes and node.attributes[name].as_int() != 0:
            return ir.TensorType(ir.DataType(node.attributes[name].as_int()))
    return None


def _constant(node: ir.Node, _: int) -> Kind:
    for name, attribute in node.attributes.items():
        if name == "value":
            return ir.TensorType(attribute.as_tensor().dtype)
        if name == "sparse_value":
            return ir.TensorType(attribute.value.values.dtype)
        if name.startswith("value_"):
            return ir.TensorType(_CONSTANT_ATTRIBUTES[name.removesuffix("s")])
    return ir.TensorType(ir.DataType.FLOAT) if node.op_type == "ConstantOfShape" else None


_CONSTANT_ATTRIBUTES = {
    "value_float": ir.DataType.FLOAT,
    "value_int": ir.DataType.INT64,
    "value_string": ir.DataType.STRING,
}


def _of_body(node: ir.Node, index: int) -> Kind:
    skipped = 1 if node.op_type == "Loop" else 0  # a Loop's body returns its condition first
    outputs = bodies(node)[0].outputs
    return outputs[index + skipped].type if index + skipped < len(outputs) else None


def _generated(node: ir.Node, _: int) -> Kind:
    """Random and window ops: the attribute, else the input they are like, else float."""
    for name in _DTYPE_ATTRIBUTES:
        if name in node.attributes and node.attributes[name].as_int() != 0:
            return ir.TensorType(ir.DataType(node.attributes[name].as_int()))
    if node.op_type == "Multinomial":
        return ir.TensorType(ir.DataType.INT32)
    like = node.op_type in ("EyeLike", "Bernoulli", "RandomNormalLike", "RandomUniformLike")
    source = node.inputs[0] if like and node.inputs else None
    return source.type if source is not None else ir.TensorType(ir.DataType.FLOAT)


def _quantized(slot: int, usual: ir.DataType) -> Callable[[ir.Node, int], Kind]:
    """Of the type that its zero point in a slot has; without one as its attribute says, or the usual one."""

    def rule(node: ir.Node, index: int) -> Kind:
        zero = node.inputs[slot] if len(node.inputs) > slot else None
        if zero is not None:
            return zero.type
        said = node.attributes["output_dtype"].as_int() if "output_dtype" in node.attributes else 0
        return ir.TensorType(ir.DataType(said) if said else usual)

    return rule


def _first_input(node: ir.Node) -> Kind:
    return next((value.type for value in node.inputs if value is not None and value.type is not None), None)


def _wrap(outer: Callable[[ir.TensorType], Kind]) -> Callable[[ir.Node, int], Kind]:
    def rule(node: ir.Node, _: int) -> Kind:
        inner = _first_input(node)
        return outer(inner) if isinstance(inner, ir.TensorType) else None

    return rule


def _element(node: ir.Node, _: int) -> Kind:
    outer = _first_input(node)
    return outer.elem_type if isinstance(outer, ir.SequenceType | ir.OptionalType) else outer


def _sequence_map(node: ir.Node, index: int) -> Kind:
    inner = _of_body(node, index)
    return ir.SequenceType(inner) if isinstance(inner, ir.TensorType) else None


def _optional(node: ir.Node, _: int) -> Kind:
    inner = _first_input(node)
    if inner is None and "type" in node.attributes:
        inner = node.attributes["type"].value.type
    return ir.OptionalType(inner) if isinstance(inner, ir.TensorType | ir.SequenceType) else None


def _empty_sequence(node: ir.Node, index: int) -> Kind:
    inner = _generated(node, index)
    return ir.SequenceType(inner) if isinstance(inner, ir.TensorType) else None


_BY_OP: dict[str, Callable[[ir.Node, int], Kind]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant,
    "If": _of_body,
    "Loop": _of_body,
    "Scan": _of_body,
    "SequenceMap": _sequence_map,
    "SequenceConstruct": _wrap(ir.SequenceType),
    "SplitToSequence": _wrap(ir.SequenceType),
    "SequenceEmpty": _empty_sequence,
    "SequenceAt": _element,
    "ConcatFromSequence": _element,
    "Optional": _optional,
    "OptionalGetElement": _element,
    "QGemm": _quantized(8, ir.DataType.FLOAT),
    "QuantizeLinear": _quantized(2, ir.DataType.UINT8),
    "CastLike": lambda node, _: node.inputs[1].type if node.inputs[1] is not None else None,
    **dict.fromkeys(
        (
            "EyeLike", "Bernoulli", "Multinomial", "RandomNormal", "RandomUniform", "RandomNormalLike",
            "RandomUniformLike", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix",
        ),
        _generated,
    ),
}  # fmt: skip


def _typed_by_schema(node: ir.Node, index: int, schema: Signature | None) -> Kind:
    formal = schema.output(index) if schema is not None else None
    if schema is None or formal is None:
        return None
    if formal.type not in schema.constraints:
        return _parse(formal.type)
    bound = _bound(formal, schema, node.inputs)
    if bound is not None:
        return bound
    allowed = schema.constraints[formal.type]
    return _parse("tensor(float)" if "tensor(float)" in allowed else min(allowed))


def _bound(output: Formal, schema: Signature, inputs: Iterable[ir.Value | None]) -> Kind:
    """The type that some input gives to the output's type variable."""
    for index, value in enumerate(inputs):
        formal = schema.input(index)
        if formal is not None and formal.type == output.type and value is not None and value.type is not None:
            return value.type
    return None


def _parse(text: str) -> Kind:
    """Read "tensor(float16)" or "seq(tensor(int64))"; maps are not told apart."""
    match = _TENSOR.search(text)
    if match is None:
        return None
    name = match.group(1)
    tensor = ir.TensorType(_SPELLED[name] if name in _SPELLED else ir.DataType[name.upper()])
    return ir.SequenceType(tensor) if text.startswith("seq(") else tensor
