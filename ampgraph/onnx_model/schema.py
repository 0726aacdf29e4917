"""Operator signatures: from onnx.defs, and for contrib domains from onnxruntime's own registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import onnx

from ampgraph.onnx_model.dtypes import TENSOR_TYPES
from ampgraph.precision import Precision


@dataclass(frozen=True, slots=True)
class Formal:
    """A formal parameter; `type` is a type variable or a fixed type such as "tensor(float)"."""

    name: str
    type: str
    variadic: bool
    homogeneous: bool


@dataclass(frozen=True, eq=False)
class Signature:
    """An operator schema at one version, reduced to what decides precision."""

    since_version: int
    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]
    constraints: Mapping[str, frozenset[str]]  # type variable -> allowed type strings

    def input(self, index: int) -> Formal | None:
        """The formal that input `index` binds to."""
        return _formal(self.inputs, index)

    def output(self, index: int) -> Formal | None:
        """The formal that output `index` binds to."""
        return _formal(self.outputs, index)

    @cached_property
    def admits(self) -> Mapping[str, frozenset[Precision]]:
        """Precisions that each type variable may be bound to as a tensor."""
        return {
            variable: frozenset(precision for precision, text in TENSOR_TYPES.items() if text in allowed)
            for variable, allowed in self.constraints.items()
        }


def qualified(domain: str, op_type: str) -> str:
    """The op's type as ampgraph writes it: no prefix for ai.onnx."""
    return op_type if domain in ("", "ai.onnx") else f"{domain}.{op_type}"


@cache
def signature(domain: str, op_type: str, opset: int) -> Signature | None:
    """The schema that a node of this domain binds to at this opset; None for a custom op."""
    domain = "" if domain == "ai.onnx" else domain
    try:
        return _signature(onnx.defs.get_schema(op_type, opset, domain))
    except onnx.defs.SchemaError:
        schema = _runtime_schemas().get((domain, op_type))
        return None if schema is None else _signature(schema)


def _signature(schema: Any) -> Signature:  # noqa: ANN401  (onnx and onnxruntime share no type here)
    return Signature(
        schema.since_version,
        tuple(_formals(schema.inputs)),
        tuple(_formals(schema.outputs)),
        {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints},
    )


@cache
def known_types() -> frozenset[str]:
    """Every operator that onnx or onnxruntime has had a schema of, in any version; loads onnxruntime."""
    standard = {qualified(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    return frozenset(standard.union(qualified(*key) for key in _runtime_schemas()))


def _formal(formals: tuple[Formal, ...], index: int) -> Formal | None:
    if index < len(formals):
        return formals[index]
    return formals[-1] if formals and formals[-1].variadic else None


def _formals(formals: Any) -> list[Formal]:  # noqa: ANN401  (onnx and onnxruntime share no type here)
    names = (
        ("type_str", "is_homogeneous") if formals and hasattr(formals[0], "type_str") else ("typeStr", "isHomogeneous")
    )
    return [
        Formal(formal.name, getattr(formal, names[0]), formal.option.name == "Variadic", getattr(formal, names[1]))
        for formal in formals
    ]


@cache
def _runtime_schemas() -> Mapping[tuple[str, str], Any]:
    """Schemas of the operators that only onnxruntime knows, newest version each; loads onnxruntime."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found: dict[tuple[str, str], Any] = {}
    for schema in state.get_all_operator_schema():
        known = found.get((schema.domain, schema.name))
        if known is None or known.since_version <= schema.since_version:
            found[schema.domain, schema.name] = schema
    return {key: schema for key, schema in found.items() if not onnx.defs.has(key[1], domain=key[0])}
