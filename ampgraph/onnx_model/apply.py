"""Apply: write a plan into a copy of the model it was made for. Mechanical: knows no rule and takes no decision.

Casts stand right after their producer, or at the head of the body they serve. Graph inputs and outputs keep their
names; where an output needs a cast, the cast takes the output's name and the producer a new one. How a constant is
rounded is `rounding`'s and `tensors.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from ampgraph.graph import PrecisionGraph, Use, Value
from ampgraph.onnx_model import external
from ampgraph.onnx_model.annotate import annotate_cast, annotate_constant, annotate_op
from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.dtypes import ELEM_TYPES, precision_of
from ampgraph.onnx_model.links import LINKS, set_dtype
from ampgraph.onnx_model.names import all_value_names, node_ids, walk
from ampgraph.onnx_model.rounding.filters import rounded
from ampgraph.onnx_model.rounding.rests import keep_rest
from ampgraph.onnx_model.rounding.roundings import Roundings, roundings
from ampgraph.onnx_model.schema import qualified
from ampgraph.onnx_model.tensors import LOW_TYPES, elements
from ampgraph.onnx_model.types import bodies
from ampgraph.plan import Cast, Plan
from ampgraph.precision import Precision

OPSET_OF_CASTS = 13  # where a model imports no opset of ONNX's own


def apply(
    model: ModelProto, graph: PrecisionGraph, plan: Plan, folder: Path | None = None, *, rests: bool = True
) -> ModelProto:
    """The model with the plan in it. `graph` is what lift made of this very model.

    `rests`: whether small constants keep what rounding took from them (rounding/rests.py); of use to our kernels alone.
    Constants whose data lie in the source's files still point there, marked as pending (`external.is_pending`).
    """
    context = _context(model, graph, plan, folder or Path(), rests)
    result = ModelProto()
    for descriptor, value in model.ListFields():
        if descriptor.name == "graph":
            continue
        if isinstance(value, int | str):
            setattr(result, descriptor.name, value)
        else:
            getattr(result, descriptor.name).extend(value)
    if plan.casts and not any(entry.domain in ("", "ai.onnx") for entry in model.opset_import):
        result.opset_import.add(domain="", version=OPSET_OF_CASTS)
    _rewrite(context, model.graph, result.graph, "", context.walk())
    if model.ir_version < 4:
        _list_initializers_as_inputs(result.graph)
    return result


@dataclass(frozen=True)
class _Context:
    """Everything that the rewrite looks up."""

    graph: PrecisionGraph
    plan: Plan
    folder: Path
    ids: Mapping[int, str]
    own: Mapping[str, str]  # value id -> name of the value as its producer makes it
    cast_names: Mapping[Cast, str]
    after: Mapping[str, tuple[Cast, ...]]  # value id -> casts that stand after its producing node
    heads: Mapping[str, tuple[Cast, ...]]  # scope -> casts at its head
    copies: Mapping[tuple[str, Precision], str]  # constant value id and precision -> name
    uses: Mapping[tuple[str, int, str], Use]  # (op, slot, scope)
    roundings: Roundings
    labels: Mapping[Cast | tuple[str, Precision], str]  # names of new nodes: of casts and of copies of Constant nodes

    def walk(self) -> Iterator[str]:
        """Op ids in walk order."""
        return iter(self.ids.values())

    def wanted(self, decision: str) -> Precision:
        """The planned precision of a decision."""
        return self.plan.choices[decision].precision

    def value_named(self, name: str, scope: str) -> Value | None:
        """The value that a scope itself defines under a name."""
        key = f"{scope}:{name}" if scope else name
        found = self.graph.values.get(key)
        while found is not None and (found.name, found.scope) != (name, scope):
            key += "'"
            found = self.graph.values.get(key)
        return found

    def native(self, value: Value) -> Precision | None:
        """The precision that a constant has under its own name; None when no float use wants it."""
        return _native(self.graph, self.plan, value)

    def name_for(self, use: Use) -> str:
        """Name of the copy of a value that a use reads."""
        value, wanted = self.graph.values[use.value], self.wanted(use.decision)
        if value.constant is not None and not value.producer:
            return self.copies.get((value.id, wanted), value.name)
        if value.producer and self.wanted(value.producer) is wanted:
            return self.own.get(value.id, value.name)
        scope: str | None = use.scope
        while scope is not None:
            name = self.cast_names.get(Cast(value.id, wanted, scope))
            if name is not None:
                return name
            scope = None if scope == value.scope else self.graph.scopes[scope].parent
        return self.own.get(value.id, value.name)


def _context(model: ModelProto, graph: PrecisionGraph, plan: Plan, folder: Path, rests: bool) -> _Context:
    fresh = _Names(all_value_names(model))
    renamed = _renamed_outputs(graph, plan)
    own = {value: fresh.make(f"{graph.values[value].name}_{low}") for value, low in renamed.items()}
    cast_names = {}
    after: dict[str, tuple[Cast, ...]] = {}
    heads: dict[str, tuple[Cast, ...]] = {}
    for cast in plan.casts:
        value = graph.values[cast.value]
        keeps_name = cast.value in renamed and cast.scope == "" and _output_precision(graph, plan, value) is cast.to
        cast_names[cast] = value.name if keeps_name else fresh.make(f"{value.name}_{cast.to}")
        if value.op and cast.scope == value.scope:
            after[value.id] = (*after.get(value.id, ()), cast)
        else:
            heads[cast.scope] = (*heads.get(cast.scope, ()), cast)
    copies = {
        (key, precision): graph.values[key].name
        if precision is _native(graph, plan, graph.values[key])
        else fresh.make(f"{graph.values[key].name}_{precision}")
        for key, wanted in plan.parameters.items()
        for precision in wanted
    }
    uses = {(use.op, use.slot, use.scope): use for use in graph.uses}
    nodes = _Names({node.name for node in walk(model.graph)})
    labels: dict[Cast | tuple[str, Precision], str] = {
        cast: nodes.make(f"Cast_{graph.values[cast.value].name}_to_{cast.to}") for cast in plan.casts
    }
    labels.update((copy, nodes.make(name)) for copy, name in copies.items() if name != graph.values[copy[0]].name)
    ids, how = node_ids(model.graph), roundings(model, graph, plan, folder, rests=rests)
    return _Context(graph, plan, folder, ids, own, cast_names, after, heads, copies, uses, how, labels)


def _native(graph: PrecisionGraph, plan: Plan, value: Value) -> Precision | None:
    """The precision that keeps a constant's name: a graph output's; else its own, or the only one wanted."""
    wanted = plan.parameters.get(value.id, ())
    given_out = _output_precision(graph, plan, value)
    if given_out in wanted:
        return given_out
    own = precision_of(value.dtype)
    return own if own in wanted or len(wanted) != 1 else wanted[0]


def _renamed_outputs(graph: PrecisionGraph, plan: Plan) -> dict[str, Precision]:
    """Graph outputs made in another precision than they are given out in -> the precision they are made in."""
    found = {}
    for use in graph.uses:
        value = graph.values[use.value]
        if use.op == "" and value.producer:
            made = plan.choices[value.producer].precision
            if made is not plan.choices[use.decision].precision:
                found[value.id] = made
    return found


def _output_precision(graph: PrecisionGraph, plan: Plan, value: Value) -> Precision | None:
    choice = plan.choices.get(f"output:{value.name}") if not value.scope else None
    return choice.precision if choice else None


class _Names:
    """A supply of names that nothing in the model has."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def make(self, wish: str) -> str:
        """`wish`, with a number where it is taken."""
        name, number = wish, 1
        while name in self._taken:
            number += 1
            name = f"{wish}_{number}"
        self._taken.add(name)
        return name


def _rewrite(context: _Context, source: GraphProto, target: GraphProto, scope: str, ids: Iterator[str]) -> None:
    target.name = source.name
    if source.HasField("doc_string"):  # an empty one is one more field
        target.doc_string = source.doc_string
    target.metadata_props.extend(source.metadata_props)
    target.quantization_annotation.extend(source.quantization_annotation)
    target.sparse_initializer.extend(source.sparse_initializer)
    _initializers(context, source, target, scope)
    for cast in context.heads.get(scope, ()):
        _add_cast(context, cast, target)
    for node in source.node:
        _node(context, node, target, scope, ids)
    _interface(context, source, target, scope)
    _value_info(context, source, target, scope)


def _node(context: _Context, node: NodeProto, target: GraphProto, scope: str, ids: Iterator[str]) -> None:
    op_id = next(ids)
    if constant_tensor(node) is not None:
        _constant_node(context, node, target, scope)
        return
    copy = target.node.add()
    copy.CopyFrom(node)
    op = context.graph.ops[op_id]
    for index, slot in enumerate(op.inputs):
        if slot.decision:
            name = context.name_for(context.uses[op_id, index, scope])
            if name != context.graph.values[slot.value].name:
                copy.input[index] = name
    for index, slot in enumerate(op.outputs):
        if slot.value in context.own:
            copy.output[index] = context.own[slot.value]
    _set_linked_dtype(context, copy, op_id)
    annotate_op(copy, context.graph, context.plan, op)
    for (_, original), name in zip(bodies(copy) if op.bodies else (), op.bodies, strict=True):
        body = GraphProto()
        _rewrite(context, original, body, name, ids)
        original.CopyFrom(body)
    for slot in op.outputs:
        for cast in context.after.get(slot.value, ()):
            _add_cast(context, cast, target)


def _set_linked_dtype(context: _Context, node: NodeProto, op_id: str) -> None:
    link = LINKS.get(qualified(node.domain, node.op_type))
    decision = context.graph.decisions.get(f"{op_id}:{link.variable}") if link else None
    if link is None or decision is None:
        return
    planned = context.wanted(decision.id)
    if planned is not decision.present and not (link.follows and link.attribute not in _names_of(node)):
        set_dtype(node, link, planned)


def _names_of(node: NodeProto) -> set[str]:
    return {attribute.name for attribute in node.attribute}


def _add_cast(context: _Context, cast: Cast, target: GraphProto) -> None:
    value = context.graph.values[cast.value]
    name = context.cast_names[cast]
    node = target.node.add(op_type="Cast", name=context.labels[cast])
    node.input.append(context.own.get(value.id, value.name))
    node.output.append(name)
    node.attribute.add(name="to", type=AttributeProto.INT, i=ELEM_TYPES[cast.to])
    annotate_cast(node, context.graph, context.plan, cast)


def _initializers(context: _Context, source: GraphProto, target: GraphProto, scope: str) -> None:
    for tensor in source.initializer:
        value = context.value_named(tensor.name, scope)
        assert value is not None  # lift saw this very model
        wanted = (context.wanted(value.producer),) if value.producer else context.plan.parameters.get(value.id, ())
        if not wanted:
            target.initializer.add().CopyFrom(tensor)
        for precision in wanted:
            name = context.copies.get((value.id, precision), tensor.name)
            _converted(context, tensor, value, name, precision, target.initializer.add())


def _converted(
    context: _Context, tensor: TensorProto, value: Value, name: str, precision: Precision, target: TensorProto
) -> None:
    if tensor.data_type == ELEM_TYPES[precision]:
        target.CopyFrom(tensor)
        target.name = name
        return
    target.name, target.data_type, target.doc_string = name, ELEM_TYPES[precision], tensor.doc_string
    target.dims.extend(tensor.dims)
    target.metadata_props.extend(tensor.metadata_props)
    filters, plain = context.roundings.filters.get(value.id), _is_plain(value, precision)
    outside, keeps_rest = external.is_external(tensor), value.id in context.roundings.rests
    parts = rounded(tensor, context.folder, filters, precision, plain=plain)
    data = b"" if outside and not keeps_rest else b"".join(parts)
    if keeps_rest:
        keep_rest(target, elements(tensor, context.folder), np.frombuffer(data, LOW_TYPES[precision]))
    if outside:
        target.data_location = TensorProto.EXTERNAL
        target.external_data.extend(tensor.external_data)
        external.mark_pending(target, filters.text() if filters else "")
    else:
        target.raw_data = data


def _is_plain(value: Value, precision: Precision) -> bool:
    """Whether rounding to nearest is all there is to do."""
    loss = value.constant.conversions.get(precision) if value.constant else None
    return loss is not None and not loss.overflowed and not loss.flushed


def _constant_node(context: _Context, node: NodeProto, target: GraphProto, scope: str) -> None:
    tensor = constant_tensor(node)
    assert tensor is not None  # the caller asked
    value = context.value_named(node.output[0], scope)
    assert value is not None  # lift saw this very model
    wanted = context.plan.parameters.get(value.id, ())
    if not wanted:
        copy = target.node.add()
        copy.CopyFrom(node)
        annotate_constant(copy, context.graph, value.id, precision_of(value.dtype))
    for precision in wanted:
        copy = target.node.add()
        copy.CopyFrom(node)
        annotate_constant(copy, context.graph, value.id, precision)
        copy.output[0] = context.copies[value.id, precision]
        if node.name and context.native(value) is not precision:
            copy.name = context.labels[value.id, precision]
        if tensor.data_type != ELEM_TYPES[precision]:
            del copy.attribute[:]
            attribute = copy.attribute.add(name="value", type=AttributeProto.TENSOR)
            _converted(context, tensor, value, tensor.name, precision, attribute.t)


def _interface(context: _Context, source: GraphProto, target: GraphProto, scope: str) -> None:
    for value in source.input:
        copy = target.input.add()
        copy.CopyFrom(value)
        found = context.value_named(value.name, scope)
        _retype(copy, _made_as(context, found) if found else None)
    for index, value in enumerate(source.output):
        copy = target.output.add()
        copy.CopyFrom(value)
        use = context.uses.get((context.graph.scopes[scope].owner, index, scope))
        if use is not None:
            if scope:
                copy.name = context.name_for(use)
            _retype(copy, context.wanted(use.decision))


def _made_as(context: _Context, value: Value) -> Precision | None:
    """The precision a value has under its own name."""
    if value.id in context.own:
        return _output_precision(context.graph, context.plan, value)
    if value.producer:
        return context.wanted(value.producer)
    return context.native(value) if value.id in context.plan.parameters else None


def _retype(value: ValueInfoProto, precision: Precision | None) -> None:
    """Set the element type of a tensor value; other kinds of value keep theirs."""
    if precision is not None and value.type.HasField("tensor_type"):
        value.type.tensor_type.elem_type = ELEM_TYPES[precision]


def _value_info(context: _Context, source: GraphProto, target: GraphProto, scope: str) -> None:
    for value in source.value_info:
        copy = target.value_info.add()
        copy.CopyFrom(value)
        found = context.value_named(value.name, scope)
        if found is not None:
            _retype(copy, _made_as(context, found))


def _list_initializers_as_inputs(graph: GraphProto) -> None:
    """Before IR version 4 every initializer is also listed as an input."""
    listed = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in listed:
            value = graph.input.add(name=tensor.name)
            value.type.tensor_type.elem_type = tensor.data_type
            for size in tensor.dims:
                value.type.tensor_type.shape.dim.add(dim_value=size)
