"""Lift: an ONNX model to a PrecisionGraph. Reads schemas, types and constants; takes no decision.

The model must be prepared (`prepare.py`): functions inlined, nodes in topological order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from ampgraph.errors import ModelError
from ampgraph.graph import Constant, Decision, Op, PrecisionGraph, Scope, Slot, Use, Value
from ampgraph.onnx_model import tensors
from ampgraph.onnx_model.attributes import constant_tensor, plain_attributes
from ampgraph.onnx_model.binding import ALL, bind, bind_structure, state
from ampgraph.onnx_model.dtypes import NAMES, precision_of
from ampgraph.onnx_model.names import node_ids
from ampgraph.onnx_model.prepare import captured
from ampgraph.onnx_model.schema import qualified, signature
from ampgraph.onnx_model.structure import Structure, structure_of
from ampgraph.onnx_model.types import Type, bodies, infer, modelled_inputs, type_of, types_in
from ampgraph.onnx_model.unify import ABSENT, NOTHING_KNOWN, output_type
from ampgraph.precision import Precision

FIRST_BFLOAT16_CAST = 13  # the opset whose Cast knows bfloat16
Types = Mapping[str, Type]  # of one graph, by name


def lift(
    model: ModelProto,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    precision: Precision | None = Precision.FLOAT16,
    folder: Path | None = None,
    known: Mapping[str, tuple[int, ...]] | None = None,
    measured: Mapping[str, Constant] | None = None,
) -> PrecisionGraph:
    """Lift a prepared model.

    `shapes`: concrete shapes of graph inputs by name, for those with free dimensions. `precision`: the low precision
    that constants are measured for; None measures no constant. `folder`: where external data lie. `known`: shapes of
    values that no inference tells. `measured`: what is known of constants already.
    Raises ModelError when the graph does not type-check or its external data cannot be read.
    """
    draft = _Draft(
        {o.domain: o.version for o in model.opset_import},
        precision,
        folder or Path(),
        node_ids(model.graph),
        measured or {},
    )
    inferred = infer(model, modelled_inputs(model, shapes or {}), sizes=precision is not None, known=known)
    draft.scopes[""] = Scope("", None, "", 1.0)
    _lift_main(draft, model, inferred.graph)
    if draft.opsets.get("", draft.opsets.get("ai.onnx", FIRST_BFLOAT16_CAST)) < FIRST_BFLOAT16_CAST:
        draft.decisions = {
            key: replace(decision, admits=(decision.admits - {Precision.BFLOAT16}) | {decision.present})
            for key, decision in draft.decisions.items()
        }
    return PrecisionGraph(
        "onnx",
        draft.opsets,
        draft.scopes,
        draft.values,
        draft.ops,
        draft.decisions,
        tuple(draft.uses),
        tuple(draft.ties),
        tuple(draft.notes),
    )


def constants_of(graph: PrecisionGraph, names: Iterable[str]) -> dict[str, Constant]:
    """What is known of the main graph's constants of these names, for `lift` of another model that has them too."""
    found = {name: graph.values[name] for name in names if name in graph.values}
    return {name: value.constant for name, value in found.items() if value.constant is not None and not value.scope}


class _Environment(dict[str, str]):
    """Name in the model -> value id; a name that a body does not define is looked up where the body stands."""

    def __init__(self, outer: _Environment | None = None) -> None:
        super().__init__()
        self.outer = outer

    def __missing__(self, name: str) -> str:
        if self.outer is None:
            raise KeyError(name)
        return self.outer[name]


@dataclass
class _Draft:
    """The graph while it is being read; private to this module and gone when lift returns."""

    opsets: dict[str, int]
    precision: Precision | None
    folder: Path
    ids: Mapping[int, str]  # position in walk order -> op id
    measured: Mapping[str, Constant]  # by name in the main graph
    scopes: dict[str, Scope] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=lambda: {"": ABSENT})  # by value id
    ops: dict[str, Op] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    ties: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    walked: int = 0

    def next_id(self) -> str:
        """The id of the next node in walk order."""
        self.walked += 1
        return self.ids[self.walked - 1]

    def opset(self, domain: str) -> int:
        """The opset a node of this domain binds to."""
        default = self.opsets.get("", self.opsets.get("ai.onnx", 1))
        return default if domain in ("", "ai.onnx") else self.opsets.get(domain, 1)

    def type_of(self, key: str) -> Type:
        """What is known of a value; nothing of an empty optional."""
        return self.types.get(key, NOTHING_KNOWN)

    def facts(self, data: Mapping[str, TensorProto], scope: str) -> Mapping[str, Constant]:
        """What is to be known of constants' data, by name."""
        if self.precision is None:
            return {name: tensors.unmeasured(tensor) for name, tensor in data.items()}
        known = {} if scope else self.measured
        new = [name for name in data if name not in known]
        found = tensors.measure_all([data[name] for name in new], self.folder, self.precision)
        return {**known, **dict(zip(new, found, strict=True))}

    def scalar_of(self, slot: Slot) -> float | None:
        """The constant scalar in a slot."""
        value = self.values.get(slot.value)
        return value.constant.scalar if value and value.constant else None

    def decide(self, decision: Decision) -> str:
        """Record a decision and return its id."""
        self.decisions[decision.id] = decision
        return decision.id


def _lift_main(draft: _Draft, model: ModelProto, inferred: GraphProto) -> None:
    graph = model.graph
    environment = _Environment()
    types = types_in(inferred)
    trained = _names_in_training(model)
    inputs = {value.name for value in graph.input}
    _constants(draft, graph, "", environment, (inputs if model.ir_version >= 4 else set()) | trained)
    for value in graph.input:
        if value.name not in environment:
            _interface_input(draft, value.name, types[value.name], environment)
    for tensor in graph.initializer:
        if tensor.name not in environment:
            _interface_input(draft, tensor.name, types[tensor.name], environment)
    _nodes(draft, graph, inferred, "", environment, types)
    _pin_trained(draft, [environment[name] for name in sorted(trained) if name in environment])
    for index, value in enumerate(graph.output):
        found = draft.values[_resolve(environment, value.name, "graph output")]
        present = precision_of(found.dtype or type_of(value.type).dtype)
        if present:
            pin = "" if found.kind == "tensor" else f"a {found.kind} admits no cast"
            key = draft.decide(Decision(f"output:{value.name}", value.name, "", "output", present, ALL, pin))
            draft.uses.append(Use(found.id, key, "", index, ""))
            if found.producer.startswith("input:"):  # the same name on both sides: no room for a cast
                draft.ties.append((found.producer, key))


def _names_in_training(model: ModelProto) -> set[str]:
    """Names of the main graph that its training graphs read or assign."""
    names: set[str] = set()
    for training in model.training_info:
        names.update(entry.key for entry in (*training.initialization_binding, *training.update_binding))
        for graph in (training.initialization, training.algorithm):
            names.update(captured(graph))
    return names


def _pin_trained(draft: _Draft, values: list[str]) -> None:
    for value in values:
        producer = draft.values[value].producer
        if producer:
            draft.decide(replace(draft.decisions[producer], pin="the model's training graph names it"))


def _interface_input(draft: _Draft, name: str, known: Type, environment: _Environment) -> None:
    present = precision_of(known.dtype)
    key = ""
    if present:
        pin = "" if known.kind == "tensor" else f"a {known.kind} admits no cast"
        key = draft.decide(Decision(f"input:{name}", name, "", "input", present, ALL, pin))
    _value(draft, environment, name, "", known, producer=key)


def _constants(draft: _Draft, graph: GraphProto, scope: str, environment: _Environment, overridable: set[str]) -> None:
    data = [tensor for tensor in graph.initializer if tensor.name not in overridable]
    facts = draft.facts({tensor.name: tensor for tensor in data}, scope)
    for tensor in data:
        known = Type(NAMES[tensor.data_type], "tensor", tuple(tensor.dims))
        _value(draft, environment, tensor.name, scope, known, constant=facts[tensor.name])
    for sparse in graph.sparse_initializer:
        known = Type(NAMES[sparse.values.data_type], "sparse", tuple(sparse.dims))
        present = precision_of(known.dtype)
        name = sparse.values.name
        key = f"input:{scope}{name}"
        if present:
            draft.decide(Decision(key, name, "", "input", present, ALL, "a sparse initializer admits no cast"))
        _value(draft, environment, name, scope, known, producer=key if present else "")


def _value(
    draft: _Draft,
    environment: _Environment,
    name: str,
    scope: str,
    known: Type,
    producer: str = "",
    op: str = "",
    constant: Constant | None = None,
) -> str:
    key = f"{scope}:{name}" if scope else name
    while key in draft.values:  # a name in the main graph may look like this
        key += "'"
    draft.values[key] = Value(key, name, scope, known.dtype, known.kind, known.shape, producer, op, constant)
    draft.types[key] = known
    environment[name] = key
    return key


def _resolve(environment: _Environment, name: str, place: str) -> str:
    try:
        return environment[name]
    except KeyError:
        raise ModelError(
            place, f"reads the value {name!r} that nothing produces", "repair or export the model again"
        ) from None


def _nodes(
    draft: _Draft, graph: GraphProto, inferred: GraphProto, scope: str, environment: _Environment, types: Types
) -> None:
    constants = {node.output[0]: tensor for node in graph.node if (tensor := constant_tensor(node)) is not None}
    facts = draft.facts(constants, scope)
    for node, twin in zip(graph.node, inferred.node, strict=True):
        key = draft.next_id()
        name = node.output[0] if node.output else ""
        tensor = constants.get(name)
        if tensor is not None:
            known = Type(NAMES[tensor.data_type], "tensor", tuple(tensor.dims))
            _value(draft, environment, name, scope, known, constant=facts[name])
        else:
            _node(draft, node, twin, key, scope, environment, types)


def _node(
    draft: _Draft, node: NodeProto, twin: NodeProto, key: str, scope: str, environment: _Environment, types: Types
) -> None:
    """Bind a node's slots, then record its decisions, uses, products, the op itself and its bodies."""
    schema = signature(node.domain, node.op_type, draft.opset(node.domain))
    sources = _sources(environment, node, key)
    incoming = [draft.types.get(source, NOTHING_KNOWN) for source in sources]
    outgoing = [output_type(node, schema, index, types, incoming) for index in range(len(node.output))]
    structure = structure_of(node, schema)
    if structure is None:
        bound = bind(node, key, schema, incoming, outgoing)
    else:
        structure = structure.knowing(incoming, outgoing)
        bound = bind_structure(key, structure, incoming, outgoing)
    draft.decisions.update(bound.decisions)
    draft.ties.extend(bound.ties)
    inputs = []
    for index, (formal, decision) in enumerate(bound.inputs):
        inputs.append(Slot(sources[index], formal, decision))
        if decision:
            draft.uses.append(Use(sources[index], decision, key, index, scope))
    outputs = []
    for name, known, (formal, decision) in zip(node.output, outgoing, bound.outputs, strict=True):
        value = _value(draft, environment, name, scope, known, producer=decision, op=key) if name else ""
        outputs.append(Slot(value, formal, decision))
    version = schema.since_version if schema else 0
    kind = qualified(node.domain, node.op_type)
    attributes = plain_attributes(node) if node.attribute else {}
    names = tuple([f"{key}/{name}" for name, _ in bodies(node)]) if node.attribute else ()
    op = Op(key, node.name, kind, version, scope, tuple(inputs), tuple(outputs), attributes, names)
    draft.ops[key] = op
    if names:
        _bodies(draft, op, structure, node, twin, environment)


def _sources(environment: _Environment, node: NodeProto, key: str) -> list[str]:
    try:
        return [environment[name] if name else "" for name in node.input]
    except KeyError as missing:
        place = f"node {node.name or key!r} ({node.op_type})"
        fact = f"reads the value {missing.args[0]!r} that nothing produces"
        raise ModelError(place, fact, "repair or export the model again") from None


def _bodies(
    draft: _Draft,
    op: Op,
    structure: Structure | None,
    node: NodeProto,
    twin: NodeProto,
    environment: _Environment,
) -> None:
    outer = draft.scopes[op.scope].frequency
    repeats = structure.repeats(draft.scalar_of, op.inputs, draft.values) if structure else 1.0
    for (_, body), (_, inferred), name in zip(bodies(node), bodies(twin), op.bodies, strict=True):
        draft.scopes[name] = Scope(name, op.scope, op.id, outer * repeats)
        _body(draft, op, structure, body, inferred, name, _Environment(environment))


def _body(
    draft: _Draft,
    op: Op,
    structure: Structure | None,
    body: GraphProto,
    inferred: GraphProto,
    name: str,
    environment: _Environment,
) -> None:
    types = types_in(inferred)
    outer = [draft.type_of(slot.value) for slot in op.inputs]
    spare = name.removeprefix(f"{op.id}/")
    _constants(draft, body, name, environment, {value.name for value in body.input})
    for index, value in enumerate(body.input):
        known = types.get(value.name, NOTHING_KNOWN)
        if structure is not None and not known.dtype:
            known = structure.type_into_body(index, outer)
        variable = structure.body_input_variable(index) if structure else f"{spare}.in{index}"
        _, producer = state(op.id, structure, variable, known, draft.decisions)
        _value(draft, environment, value.name, name, known, producer=producer)
    _nodes(draft, body, inferred, name, environment, types)
    for index, value in enumerate(body.output):
        found = _resolve(environment, value.name, f"body {name}")
        variable = structure.body_output_variable(index) if structure else f"{spare}.out{index}"
        _, key = state(op.id, structure, variable, draft.types[found], draft.decisions)
        if key:
            draft.uses.append(Use(found, key, op.id, index, name))
