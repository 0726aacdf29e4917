"""Types of outputs that onnx's inference leaves out, contrib ops above all: read from the schema's type variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import NodeProto

from ampgraph.onnx_model.links import LINKS, linked_dtype
from ampgraph.onnx_model.schema import Formal, Signature, qualified
from ampgraph.onnx_model.types import Type

NOTHING_KNOWN = Type("")
ABSENT = Type("", "")  # an optional input or output that is left empty

_SPELLED = {"float": "float32", "double": "float64"}


def output_type(
    node: NodeProto, schema: Signature | None, index: int, types: Mapping[str, Type], incoming: Sequence[Type]
) -> Type:
    """Type of an output: inferred, else said by an attribute, shared with an input, or the only one allowed."""
    name = node.output[index]
    if not name:
        return ABSENT
    known = types.get(name, NOTHING_KNOWN)
    formal = schema.output(index) if schema else None
    if known.dtype or schema is None or formal is None:
        return known
    return _said(node, schema, formal, incoming) or _bound(schema, formal.type, incoming) or _only(schema, formal)


def _said(node: NodeProto, schema: Signature, formal: Formal, incoming: Sequence[Type]) -> Type | None:
    link = LINKS.get(qualified(node.domain, node.op_type))
    if link is None or link.variable != formal.type:
        return None
    dtype = linked_dtype(node, link)
    return Type(dtype) if dtype else _bound(schema, link.follows, incoming)


def _bound(schema: Signature, variable: str, incoming: Sequence[Type]) -> Type | None:
    for position, source in enumerate(incoming):
        other = schema.input(position)
        if source.dtype and other is not None and other.type == variable and other.homogeneous:
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
