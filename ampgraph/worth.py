"""Worth: whether a plan gains more time than the cost model can tell, and the plan that changes nothing instead."""

from __future__ import annotations

from dataclasses import replace

from ampgraph.costs import Costs
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Judgement
from ampgraph.placement import assignment_cost
from ampgraph.plan import Plan, make_plan, untouched
from ampgraph.precision import Precision

# Of the modelled time; below it the model's own error decides. On one H100 at batch 1 a plan modelled 2.3 % faster was
# slower (det); as a CUDA graph, where no launch hides a gain, one modelled 2.2 % faster took 0.82 ms, not 0.90 (rec).
_PLAIN, _AS_GRAPH = 0.05, 0.02


def hardly_pays(
    graph: PrecisionGraph, judgement: Judgement, costs: Costs, low: frozenset[str], *, cuda_graph: bool = False
) -> bool:
    """Whether an assignment gains less time than the cost model can tell, and nobody asked for it by name."""
    asked = any(verdict.forced for verdict in judgement.verdicts.values())
    return not asked and gain(graph, judgement, costs, low) < (_AS_GRAPH if cuda_graph else _PLAIN)


def gain(graph: PrecisionGraph, judgement: Judgement, costs: Costs, low: frozenset[str]) -> float:
    """The part of the model's price that an assignment saves."""
    baseline = assignment_cost(graph, untouched(graph, judgement.precision), costs)
    return 1 - assignment_cost(graph, low, costs) / baseline if baseline else 0.0


def left_alone(graph: PrecisionGraph, judgement: Judgement, costs: Costs, low: frozenset[str]) -> Plan:
    """The plan that changes nothing, with that as the reason where low precision would be legal."""
    plan = make_plan(graph, judgement, costs, untouched(graph, judgement.precision), "speed")
    saved = gain(graph, judgement, costs, low)
    why = f"{judgement.precision} would make the whole model {saved:.1%} faster at best, less than a model can tell"
    legal = {key for key, verdict in judgement.verdicts.items() if verdict.legal}
    choices = {
        key: replace(choice, cause=None, why=why) if key in legal and choice.precision is Precision.FLOAT32 else choice
        for key, choice in plan.choices.items()
    }
    return replace(plan, choices=choices)
