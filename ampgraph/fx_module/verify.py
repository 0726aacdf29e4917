"""Check: what apply wrote is lifted again and must show exactly the plan, type by type and cast by cast."""

from __future__ import annotations

from torch import fx

from ampgraph.errors import PlanError
from ampgraph.fx_module.apply import CAST, is_cast
from ampgraph.fx_module.facts import DTYPES
from ampgraph.fx_module.lift import Holdings, is_number, lift
from ampgraph.graph import PrecisionGraph
from ampgraph.plan import Plan
from ampgraph.precision import Precision

_REMEDY = "please report it with the module"


def verify_applied(applied: fx.Graph, graph: PrecisionGraph, plan: Plan, holdings: Holdings) -> None:
    """Raise PlanError where the graph that was written is not the one that was planned."""
    found = lift(applied, holdings, plan.precision)
    ours = {node.name: node for node in applied.nodes if is_cast(node)}
    for id, choice in plan.choices.items():
        decision = found.decisions.get(id)
        if decision is None or decision.present is not choice.precision:
            present = decision.present if decision else "gone"
            raise PlanError(id, f"was planned as {choice.precision} and is {present} in the graph", _REMEDY)
    for id, decision in found.decisions.items():
        if id not in plan.choices and decision.op not in ours:
            raise PlanError(id, "is in the graph and in no plan", _REMEDY)
    _casts(ours, graph, plan)


def _casts(ours: dict[str, fx.Node], graph: PrecisionGraph, plan: Plan) -> None:
    planned = {(cast.value, cast.to) for cast in plan.casts}
    planned |= {
        (id, precision)
        for id, kept in plan.parameters.items()
        for precision in kept
        if precision is not Precision.FLOAT32 and not is_number(id)
    }
    written: set[tuple[str, Precision]] = set()
    for node in ours.values():
        key = node.meta[CAST]
        if key in written or not node.users:
            raise PlanError(node.name, "is a cast made twice or for nothing", _REMEDY)
        written.add(key)
        if node.meta["val"].dtype is not DTYPES[key[1]] or key[0] not in graph.values:
            raise PlanError(node.name, f"is no cast of {key[0]} to {key[1]}", _REMEDY)
    for value, to in planned ^ written:
        raise PlanError(value, f"its cast to {to} is in only one of plan and graph", _REMEDY)
