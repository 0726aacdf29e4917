"""Summary: the plain account of a captured graph, in some lines of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ampgraph.fx_module.lift import is_number
from ampgraph.report import cause_of, count_nodes, measure_coverage, stayed
from ampgraph.report_text import wrapped

if TYPE_CHECKING:
    from ampgraph.fx_module.capture import Capture

_GROUPS = 8


def summary(name: str, captured: Capture) -> str:
    """Nodes by precision, casts, coverage, and what stayed float32 with the reasons."""
    return "\n".join(_lines(name, captured)) + "\n"


def _lines(name: str, captured: Capture) -> Iterator[str]:
    graph, plan = captured.graph, captured.plan
    counts = count_nodes(graph, plan)
    shown = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    yield f"{name}: {plan.precision}, objective {plan.objective}; nodes: {shown}"
    copies = sum(plan.precision in kept and not is_number(id) for id, kept in plan.parameters.items())
    yield f"casts: {len(plan.casts)} of values in every forward, {copies} of parameters once a step"
    coverage = measure_coverage(graph, captured.judgement, plan)
    yield f"products and other ops worth it in {plan.precision}: {coverage.low} of {coverage.eligible}"
    groups = Counter((cause_of(choice), choice.why) for _, choice in stayed(graph, plan))
    if groups:
        yield "float32:"
    for (cause, why), count in groups.most_common(_GROUPS):
        yield from wrapped(f"{count} ({cause}): {why}", "  ")
    if len(groups) > _GROUPS:
        yield f"  and {len(groups) - _GROUPS} more reasons"
    for note in captured.notes:
        yield from wrapped(f"note: {note}")
