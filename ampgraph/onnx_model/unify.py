"""Types of outputs that onnx's inference leaves out, contrib ops above all: read from the schema's type variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ampgraph.onnx_model.schema import Formal, Signature
from ampgraph.onnx_model.types import Type

NOTHING_KNOWN = Type("")
ABSENT = Type("", "absent")  # an optional input or output that is left empty

_SPELLED = {"float": "float32", "double": "float64"}


def output_type(
    schema: Signature | None, index: int, name: str, types: Mapping[str, Type], incoming: Sequence[Type]
) -> Type:
    """Type of an output: inferred, else that of an input of the same type variable, else the only one allowed."""
    if not name:
        return ABSENT
    known = types.get(name, NOTHING_KNOWN)
    formal = schema.output(index) if schema else None
    if known.dtype or schema is None or formal is None:
        return known
    return _bound(schema, formal, incoming) or _only(schema, formal)


def _bound(schema: Signature, formal: Formal, incoming: Sequence[Type]) -> Type | None:
    if not formal.homogeneous:
        return None
    for position, source in enumerate(incoming):
        other = schema.input(position)
        if source.dtype and other is not None and other.type == formal.type:
            return Type(source.dtype, source.kind)
    return None


def _only(schema: Signature, formal: Formal) -> Type:
    allowed = schema.constraints.get(formal.type, frozenset((formal.type,)))
    return _read(next(iter(allowed))) if len(allowed) == 1 else NOTHING_KNOWN


def _read(text: str) -> Type:
    """Read "tensor(float)" or "seq(tensor(float))"."""
    kind, _, rest = text.removesuffix(")").partition("(")
    if kind == "tensor":
        return Type(_SPELLED.get(rest, rest))
    inner = _read(rest) if kind in ("seq", "optional") else NOTHING_KNOWN
    return Type(inner.dtype, {"seq": "sequence"}.get(kind, kind)) if inner.dtype else NOTHING_KNOWN


def may_carry_float(schema: Signature | None, formal: Formal | None) -> bool:
    """Whether a slot of unknown type may hold a float or a container of floats."""
    if schema is None or formal is None:
        return True
    allowed = schema.constraints.get(formal.type, (formal.type,))
    return any("float" in text or "(" in text.removeprefix("tensor(") for text in allowed)
