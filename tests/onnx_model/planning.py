"""A plan of low decisions named by hand: for tests of what is written, whatever judge and decide would say."""

from __future__ import annotations

from ampgraph.costs import Costs
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.plan import Plan, make_plan, untouched
from ampgraph.precision import Precision

FREE = Verdict(True, Category.ALLOW, Cause.RULE, "a test wants it")
CAST_PRICE = 10  # in the main graph; bodies by their frequency


def planned(graph: PrecisionGraph, low: str, precision: Precision = Precision.FLOAT16) -> Plan:
    """The plan with these decisions low: ids parted by spaces, an op's id standing for all of its decisions."""
    wanted = {each for name in low.split() for each in _decisions(graph, name)}
    every = dict.fromkeys(graph.values, CAST_PRICE)
    costs = Costs("points", {}, {}, every, every, {}, {})
    judgement = Judgement(precision, dict.fromkeys(graph.decisions, FREE))
    return make_plan(graph, judgement, costs, wanted | untouched(graph, precision), "coverage")


def _decisions(graph: PrecisionGraph, name: str) -> list[str]:
    return [name] if name in graph.decisions else [decision.id for decision in graph.decisions_of[name]]
