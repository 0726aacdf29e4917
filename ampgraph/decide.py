"""The decision itself: which decisions are low in the cheapest lawful assignment, found as a minimum cut."""

from __future__ import annotations

import numpy as np

from ampgraph.bounds import find_bounds
from ampgraph.costs import Costs
from ampgraph.cut import minimum_cut
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Judgement
from ampgraph.network import INERT, build_network, number_nodes


def decide(graph: PrecisionGraph, judgement: Judgement, costs: Costs) -> frozenset[str]:
    """Ids of the decisions that end low, those that are low already included.

    The assignment is the cheapest that the judgement allows and, among equals, has the fewest low decisions.
    Raises PlanError where the judgement asks both precisions of decisions that are linked.
    """
    nodes = number_nodes(graph, judgement, find_bounds(graph, judgement))
    low = minimum_cut(build_network(graph, judgement, costs, nodes))
    chosen = np.flatnonzero((nodes != INERT) & low[nodes])
    return frozenset(graph.numbering.decisions[place] for place in chosen.tolist())
