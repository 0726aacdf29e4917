"""Binding: the slots of one node to decisions, by the schema's type variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnx import NodeProto

from ampgraph.errors import ModelError
from ampgraph.graph import Decision
from ampgraph.onnx_model.dtypes import NAMES, precision_of
from ampgraph.onnx_model.links import FIXED, LINKS, attribute_of
from ampgraph.onnx_model.schema import Formal, Signature, qualified
from ampgraph.onnx_model.structure import Structure
from ampgraph.onnx_model.types import Type
from ampgraph.precision import Precision

ALL = frozenset(Precision)
NOTHING: frozenset[Precision] = frozenset()
Slots = list[tuple[str, str]]  # (formal name, decision id or "")


@dataclass(frozen=True, slots=True)
class Bound:
    """A node's slots with the decisions they belong to."""

    inputs: Slots
    outputs: Slots
    decisions: dict[str, Decision]
    ties: tuple[tuple[str, str], ...] = ()


def bind(
    node: NodeProto, key: str, schema: Signature | None, incoming: Sequence[Type], outgoing: Sequence[Type]
) -> Bound:
    """Bind an ordinary node's slots. Raises ModelError where one type variable would need two types."""
    _unify(node, key, schema, incoming, outgoing)
    decisions: dict[str, Decision] = {}
    inputs = [
        _slot(node, key, schema, schema.input(i) if schema else None, known, f"in{i}", decisions)
        for i, known in enumerate(incoming)
    ]
    outputs = [
        _slot(node, key, schema, schema.output(i) if schema else None, known, f"out{i}", decisions)
        for i, known in enumerate(outgoing)
    ]
    _pin_containers(decisions, [*incoming, *outgoing])
    return Bound(inputs, outputs, decisions, _followers(node, key, decisions))


def _unify(
    node: NodeProto, key: str, schema: Signature | None, incoming: Sequence[Type], outgoing: Sequence[Type]
) -> None:
    """One type variable has one type: a law that onnx's checker does not know for contrib ops."""
    if schema is None:
        return
    bound: dict[str, str] = {}
    for formal_at, types in ((schema.input, incoming), (schema.output, outgoing)):
        for index, known in enumerate(types):
            formal = formal_at(index)
            if known.dtype and known.kind == "tensor" and formal is not None and formal.homogeneous:
                before = bound.setdefault(formal.type, known.dtype)
                if before != known.dtype and formal.type in schema.constraints:
                    place = f"node {node.name or key!r} ({node.op_type})"
                    fact = f"binds {formal.type} to both {before} and {known.dtype}"
                    raise ModelError(place, fact, "the model is ill-typed: export it again")


def bind_structure(key: str, structure: Structure, incoming: Sequence[Type], outgoing: Sequence[Type]) -> Bound:
    """Bind the slots of If, Loop, Scan or SequenceMap: one decision per state, scanned input or output."""
    decisions: dict[str, Decision] = {}
    inputs = [state(key, structure, structure.input_variable(i), known, decisions) for i, known in enumerate(incoming)]
    outputs = [
        state(key, structure, structure.output_variable(i), known, decisions) for i, known in enumerate(outgoing)
    ]
    return Bound(inputs, outputs, decisions)


def state(
    key: str, structure: Structure, variable: str, known: Type, decisions: dict[str, Decision]
) -> tuple[str, str]:
    """(variable, decision id) of one structural slot; the decision is added when it is new or must be pinned."""
    present = precision_of(known.dtype)
    if present is None or not variable:
        return variable, ""
    name = f"{key}:{variable}"
    pin = structure.pin or ("" if known.kind == "tensor" else f"a {known.kind} admits no cast")
    if name not in decisions or pin:
        decisions[name] = Decision(name, key, variable, "op", present, ALL, pin)
    return variable, name


def _slot(
    node: NodeProto,
    key: str,
    schema: Signature | None,
    formal: Formal | None,
    known: Type,
    spare: str,
    decisions: dict[str, Decision],
) -> tuple[str, str]:
    name = formal.name if formal else spare
    present = precision_of(known.dtype)
    if present is None:
        return name, ""
    variable = _variable(schema, formal, spare)
    made = f"{key}:{variable}"
    found = decisions.get(made)
    if found is None:
        admits, pin = _admits(node, schema, formal, variable)
        principal = not decisions  # the op's time sits on its first type variable
        decisions[made] = Decision(made, key, variable, "op", present, admits | {present}, pin, principal)
    return name, made


def _variable(schema: Signature | None, formal: Formal | None, spare: str) -> str:
    if schema is None or formal is None:
        return spare
    if formal.type not in schema.constraints:
        return formal.name
    return formal.type if formal.homogeneous else f"{formal.type}_{spare}"


def _admits(
    node: NodeProto, schema: Signature | None, formal: Formal | None, variable: str
) -> tuple[frozenset[Precision], str]:
    """What a type variable admits besides what it is, and why it is pinned if it is."""
    if schema is None or formal is None:
        return NOTHING, f"no schema is known for {qualified(node.domain, node.op_type)}"
    if formal.type not in schema.constraints:
        return NOTHING, "the schema fixes the type of this slot"
    if not formal.homogeneous:
        return NOTHING, "its operands may each have a type of their own"
    if node.domain not in ("", "ai.onnx"):
        return schema.admits[variable], ""
    if node.op_type == "Cast" and variable == "T1":
        return _cast_source(node)
    return schema.admits[variable], FIXED.get((node.op_type, variable), "")


def _cast_source(node: NodeProto) -> tuple[frozenset[Precision], str]:
    """What the input of a user's Cast may be: low only where the cast goes to that low type anyway."""
    to = attribute_of(node, "to")
    target = precision_of(NAMES[to.i]) if to else None
    if target is None or target is Precision.FLOAT32:
        return frozenset(), "rounding before the model's own cast could change its result"
    return frozenset((target,)), ""


def _pin_containers(decisions: dict[str, Decision], types: Sequence[Type]) -> None:
    """An op that touches a sequence, optional or map keeps its precision: such values admit no cast."""
    kind = next((known.kind for known in types if known.kind != "tensor" and known.dtype), "")
    if kind:
        for name, decision in decisions.items():
            decisions[name] = replace(decision, pin=f"a {kind} admits no cast")


def _followers(node: NodeProto, key: str, decisions: dict[str, Decision]) -> tuple[tuple[str, str], ...]:
    """An output without its dtype attribute follows an input: the two agree."""
    link = LINKS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if link is None or not link.follows or attribute_of(node, link.attribute) is not None:
        return ()
    pair = f"{key}:{link.follows}", f"{key}:{link.variable}"
    return (pair,) if all(name in decisions for name in pair) else ()
