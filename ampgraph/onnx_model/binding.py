"""Binding: the slots of one node to decisions, by the schema's type variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from onnx import NodeProto

from ampgraph.errors import ModelError
from ampgraph.graph import Decision
from ampgraph.onnx_model.dtypes import NAMES, precision_of
from ampgraph.onnx_model.links import FIXED, LINKS, attribute_of
from ampgraph.onnx_model.schema import Formal, Signature, qualified
from ampgraph.onnx_model.structure import UNKNOWN_TYPE, Structure
from ampgraph.onnx_model.types import Type, bodies
from ampgraph.onnx_model.unify import may_carry_float
from ampgraph.precision import Precision

ALL = frozenset(Precision)
NOTHING: frozenset[Precision] = frozenset()
BODIES_UNKNOWN = "what it does with its bodies is not known"
UNSET = "nothing in a file would set its type"
Slots = list[tuple[str, str]]  # (formal name, decision id or "")


@dataclass(frozen=True, slots=True)
class Bound:
    """A node's slots with the decisions they belong to."""

    inputs: Slots
    outputs: Slots
    decisions: dict[str, Decision]
    ties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Variable:
    """A decision before it belongs to a node."""

    name: str
    present: Precision
    admits: frozenset[Precision]
    pin: str
    principal: bool


@dataclass(frozen=True, slots=True)
class _Pattern:
    """How nodes of one kind bind: (formal, variable or "") per slot, and the variables. Shared by all of them."""

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    variables: tuple[_Variable, ...]
    ties: tuple[tuple[str, str], ...]
    clash: tuple[str, str, str] | None  # a type variable and the two types it would need


def bind(
    node: NodeProto, key: str, schema: Signature | None, incoming: Sequence[Type], outgoing: Sequence[Type]
) -> Bound:
    """Bind an ordinary node's slots. Raises ModelError where one type variable would need two types."""
    op = qualified(node.domain, node.op_type)
    target = _cast_target(node, incoming) if op in ("Cast", "CastLike") else None
    link = LINKS.get(op)
    follows = link is not None and bool(link.follows) and attribute_of(node, link.attribute) is None
    taken = tuple([(known.dtype, known.kind) for known in incoming])
    given = tuple([(known.dtype, known.kind) for known in outgoing])
    has_bodies = bool(node.attribute) and any(True for _ in bodies(node))
    pattern = _pattern(op, schema, taken, given, target, follows, has_bodies)
    if pattern.clash is not None:
        fact = "binds {} to both {} and {}".format(*pattern.clash)
        raise ModelError(f"node {node.name or key!r} ({op})", fact, "the model is ill-typed: export it again")
    ids = {variable.name: f"{key}:{variable.name}" for variable in pattern.variables}
    ids[""] = ""
    decisions = {
        ids[v.name]: Decision(ids[v.name], key, v.name, "op", v.present, v.admits, v.pin, v.principal)
        for v in pattern.variables
    }
    return Bound(
        [(formal, ids[variable]) for formal, variable in pattern.inputs],
        [(formal, ids[variable]) for formal, variable in pattern.outputs],
        decisions,
        tuple((ids[a], ids[b]) for a, b in pattern.ties),
    )


Kinds = tuple[tuple[str, str], ...]  # (dtype, kind) per slot


@lru_cache(maxsize=8192)
def _pattern(
    op: str,
    schema: Signature | None,
    incoming: Kinds,
    outgoing: Kinds,
    target: Precision | None,
    follows: bool,
    has_bodies: bool,
) -> _Pattern:
    variables: dict[str, _Variable] = {}
    inputs = [
        _slot(op, schema, schema.input(i) if schema else None, dtype, f"in{i}", target, variables)
        for i, (dtype, _) in enumerate(incoming)
    ]
    outputs = [
        _slot(op, schema, schema.output(i) if schema else None, dtype, f"out{i}", target, variables)
        for i, (dtype, _) in enumerate(outgoing)
    ]
    pin = BODIES_UNKNOWN if has_bodies else _common_pin(schema, incoming, outgoing)
    if pin:
        variables = {name: replace(found, pin=pin) for name, found in variables.items()}
    link = LINKS.get(op)
    pair = (link.follows, link.variable) if link and follows else None
    ties = [pair] if pair and all(name in variables for name in pair) else []
    principal = next((v for v in variables.values() if v.principal), None)
    for unset in _unset(op, variables, frozenset(name for _, name in inputs)):
        if principal and principal.name != unset.name and principal.present is unset.present:
            ties.append((principal.name, unset.name))
        else:
            variables[unset.name] = replace(unset, pin=UNSET)
    clash = _clash(schema, incoming, outgoing)
    return _Pattern(tuple(inputs), tuple(outputs), tuple(variables.values()), tuple(ties), clash)


def _unset(op: str, variables: Mapping[str, _Variable], carried: frozenset[str]) -> list[_Variable]:
    """Variables that neither an input that is there nor an attribute sets: inference gives them the op's main type."""
    link = LINKS.get(op)
    linked = link.variable if link else ""
    return [v for v in variables.values() if not v.pin and v.name not in carried and v.name != linked]


def _common_pin(schema: Signature | None, incoming: Kinds, outgoing: Kinds) -> str:
    """Why nothing of a node can move: it touches what admits no cast, or something of unknown type."""
    for formal_at, kinds in ((schema and schema.input, incoming), (schema and schema.output, outgoing)):
        for index, (dtype, kind) in enumerate(kinds):
            if dtype and kind != "tensor":
                return f"a {kind} admits no cast"
            if not dtype and kind and may_carry_float(schema, formal_at(index) if formal_at else None):
                return UNKNOWN_TYPE
    return ""


def _clash(schema: Signature | None, incoming: Kinds, outgoing: Kinds) -> tuple[str, str, str] | None:
    """One type variable has one type: a law that onnx's checker does not know for contrib ops."""
    if schema is None:
        return None
    bound: dict[str, str] = {}
    for formal_at, kinds in ((schema.input, incoming), (schema.output, outgoing)):
        for index, (dtype, kind) in enumerate(kinds):
            formal = formal_at(index)
            if dtype and kind == "tensor" and formal and formal.homogeneous and formal.type in schema.constraints:
                before = bound.setdefault(formal.type, dtype)
                if before != dtype:
                    return formal.type, before, dtype
    return None


def bind_structure(key: str, structure: Structure, incoming: Sequence[Type], outgoing: Sequence[Type]) -> Bound:
    """Bind the slots of If, Loop, Scan or SequenceMap: one decision per state, scanned input or output."""
    decisions: dict[str, Decision] = {}
    taken = [(structure.input_variable(i), known) for i, known in enumerate(incoming)]
    given = [(structure.output_variable(i), known) for i, known in enumerate(outgoing)]
    inputs = [state(key, structure, name, known, decisions) for name, known in taken]
    outputs = [state(key, structure, name, known, decisions) for name, known in given]
    return Bound(inputs, outputs, decisions)


def state(
    key: str, structure: Structure | None, variable: str, known: Type, decisions: dict[str, Decision]
) -> tuple[str, str]:
    """(variable, decision id) of one slot of a structure, or of a body nobody knows (None).

    The decision is added when it is new or must be pinned.
    """
    present = precision_of(known.dtype)
    if present is None or not variable:
        return variable, ""
    name = f"{key}:{variable}"
    admits, pin = (structure.admits, structure.pin_of(variable)) if structure else (NOTHING, BODIES_UNKNOWN)
    pin = pin or ("" if known.kind == "tensor" else f"a {known.kind} admits no cast")
    if name not in decisions or pin:
        decisions[name] = Decision(name, key, variable, "op", present, admits | {present}, pin)
    return variable, name


def _slot(
    op: str,
    schema: Signature | None,
    formal: Formal | None,
    dtype: str,
    spare: str,
    target: Precision | None,
    variables: dict[str, _Variable],
) -> tuple[str, str]:
    name = formal.name if formal else spare
    present = precision_of(dtype)
    if present is None:
        return name, ""
    variable = _variable(schema, formal, spare)
    if variable not in variables:
        admits, pin = _admits(op, schema, formal, variable, target)
        principal = not variables  # the op's time sits on its first type variable
        variables[variable] = _Variable(variable, present, admits | {present}, pin, principal)
    return name, variable


def _variable(schema: Signature | None, formal: Formal | None, spare: str) -> str:
    if schema is None or formal is None:
        return spare
    if formal.type not in schema.constraints:
        return formal.name
    return formal.type if formal.homogeneous else f"{formal.type}_{spare}"


def _admits(
    op: str, schema: Signature | None, formal: Formal | None, variable: str, target: Precision | None
) -> tuple[frozenset[Precision], str]:
    """What a type variable admits besides what it is, and why it is pinned if it is."""
    if schema is None or formal is None:
        return NOTHING, f"no schema is known for {op}"
    if formal.type not in schema.constraints:
        return NOTHING, "the schema fixes the type of this slot"
    if not formal.homogeneous:
        return NOTHING, "its operands may each have a type of their own"
    if op in ("Cast", "CastLike") and variable == "T1":  # low only where the cast goes to that low type anyway
        if target is None or target is Precision.FLOAT32:
            return NOTHING, "rounding before the model's own cast could change its result"
        return frozenset((target,)), ""
    return schema.admits[variable], FIXED.get((op, variable), "")


def _cast_target(node: NodeProto, incoming: Sequence[Type]) -> Precision | None:
    if node.op_type == "CastLike":
        return precision_of(incoming[1].dtype) if len(incoming) > 1 else None
    to = attribute_of(node, "to")
    return precision_of(NAMES[to.i]) if to else None
