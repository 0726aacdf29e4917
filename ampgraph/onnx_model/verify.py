"""Check: a written model, lifted again, must show exactly the plan: every key, every cast, and types that unify."""

from __future__ import annotations

from collections.abc import Iterator
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
    if list(written.ops) != [*_expected_ops(written, graph)]:
        raise PlanError("nodes", "the written model has other nodes than the source and the planned casts", REMEDY)


def _expected_ops(written: PrecisionGraph, graph: PrecisionGraph) -> Iterator[str]:
    """The written model's ops that are the source's or marked casts, if nothing is missing."""
    missing = [op for op in graph.ops if op not in written.ops]
    if not missing:
        yield from (key for key, op in written.ops.items() if key in graph.ops or op.type == "Cast")


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
