"""Check: a written model, lifted again, must show exactly the plan.

Every key, every cast, every read of a value, no other node, and types that unify.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto

from ampgraph.errors import PlanError
from ampgraph.graph import PrecisionGraph
from ampgraph.onnx_model.dtypes import ELEM_TYPES
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.links import attribute_of
from ampgraph.onnx_model.names import CAST_KEY, ID_KEY, metadata_of
from ampgraph.onnx_model.types import bodies
from ampgraph.plan import Cast, Plan
from ampgraph.precision import Precision

REMEDY = "this is a defect of ampgraph: please report it with the model"


def verify_written(model: ModelProto, graph: PrecisionGraph, plan: Plan, folder: Path | None = None) -> None:
    """Lift what was written and compare it with the plan. Raises PlanError naming the first difference."""
    written = lift(model, precision=None, folder=folder)
    for key, choice in plan.choices.items():
        found = written.decisions.get(key)
        if found is None:
            raise PlanError(key, "is planned but not in the written model", REMEDY)
        if found.present is not choice.precision:
            raise PlanError(key, f"is {found.present} in the written model, planned {choice.precision}", REMEDY)
    casts = sorted(_casts(model.graph, ""))
    if casts != sorted(plan.casts):
        odd = sorted(set(casts) ^ set(plan.casts))
        raise PlanError(odd[0].value if odd else "casts", "casts differ between plan and written model", REMEDY)
    if not graph.ops.keys() <= written.ops.keys() or len(written.ops) != len(graph.ops) + len(casts):
        raise PlanError("nodes", "the written model has other nodes than the source and the planned casts", REMEDY)
    read = {(use.op, use.slot, use.scope): _origin(written, use.value, graph.ops) for use in written.uses}
    for use in graph.uses:
        if read.get((use.op, use.slot, use.scope)) != _origin(graph, use.value, graph.ops):
            raise PlanError(use.decision, "reads another value in the written model than in the source", REMEDY)


def _origin(graph: PrecisionGraph, key: str, own: Container[str]) -> tuple[str, str | int]:
    """Where a value comes from, seen through the casts: an op of the source's and its output, or scope and name."""
    value = graph.values[key]
    while value.op and value.op not in own:
        value = graph.values[graph.ops[value.op].inputs[0].value]
    if value.op:
        return value.op, [slot.value for slot in graph.ops[value.op].outputs].index(value.id)
    return value.scope, "" if value.constant else value.name  # constants are copied under other names


def _casts(graph: GraphProto, scope: str) -> Iterator[Cast]:
    for node in graph.node:
        value = metadata_of(node, CAST_KEY)
        if value:
            yield Cast(value, _target(node), scope)
        for name, body in bodies(node):
            yield from _casts(body, f"{metadata_of(node, ID_KEY)}/{name}")


def _target(node: NodeProto) -> Precision:
    to = attribute_of(node, "to")
    return next(precision for precision, number in ELEM_TYPES.items() if to is not None and number == to.i)
