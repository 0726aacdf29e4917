"""Opsets that would admit a precision: what the newer versions of an operator's schema say."""

from __future__ import annotations

from functools import cache

import onnx

from ampgraph.graph import Decision, PrecisionGraph
from ampgraph.onnx_model.dtypes import TENSOR_TYPES
from ampgraph.precision import Precision


def needed_opsets(graph: PrecisionGraph, precision: Precision) -> dict[str, int]:
    """Operators held back by the model's opset alone -> the opset from which their schema admits the precision."""
    found: dict[str, int] = {}
    for decision in graph.decisions.values():
        op = graph.ops.get(decision.op)
        if op is None or not decision.principal or op.type in found or not _is_held_back(decision, precision):
            continue
        opset = _admitting(op.type, decision.variable, precision, op.version)
        if opset:
            found[op.type] = opset
    return found


def _is_held_back(decision: Decision, precision: Precision) -> bool:
    return decision.present is Precision.FLOAT32 and not decision.pin and precision not in decision.admits


@cache
def _admitting(op_type: str, variable: str, precision: Precision, version: int) -> int:
    """The first version after `version` whose type variable admits the precision, 0 when there is none."""
    domain, _, name = op_type.rpartition(".")
    later = (
        schema.since_version
        for schema in _histories().get((domain, name), ())
        if schema.since_version > version and _admits(schema, variable, precision)
    )
    return min(later, default=0)


def _admits(schema: onnx.defs.OpSchema, variable: str, precision: Precision) -> bool:
    return any(
        constraint.type_param_str == variable and TENSOR_TYPES[precision] in constraint.allowed_type_strs
        for constraint in schema.type_constraints
    )


@cache
def _histories() -> dict[tuple[str, str], list[onnx.defs.OpSchema]]:
    found: dict[tuple[str, str], list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return found
