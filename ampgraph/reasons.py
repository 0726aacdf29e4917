"""Why each decision has its precision: the verdict's sentence where a law settles it, figures where the price does.

The figure compares the plan with the plan that differs in this decision alone (and in those that must follow it).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ampgraph.bounds import find_bounds
from ampgraph.costs import Costs
from ampgraph.figures import Figure, find_figures
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Cause, Judgement
from ampgraph.precision import Precision

_SCALES = {
    "picoseconds": ((1e12, "s"), (1e9, "ms"), (1e6, "us"), (1e3, "ns"), (1, "ps")),
    "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")),
}


class Reason(NamedTuple):
    """Cause, sentence and rule of one choice."""

    cause: Cause | None
    why: str
    rule: str = ""


def find_reasons(graph: PrecisionGraph, judgement: Judgement, costs: Costs, low: Collection[str]) -> dict[str, Reason]:
    """A reason for every decision."""
    bounds = find_bounds(graph, judgement)
    settled = {**bounds.must, **bounds.never}
    figures = find_figures(graph, judgement, costs, low, [id for id in graph.decisions if id not in settled])
    return {
        id: _settled(id, settled[id], judgement)
        if id in settled
        else _by_price(figures[id], id in low, judgement.precision, costs.unit)
        for id in graph.decisions
    }


def _settled(id: str, by: str, judgement: Judgement) -> Reason:
    verdict = judgement.verdicts[by]
    why = verdict.why if id == by else f"bound to {by}: {verdict.why}"
    return Reason(verdict.cause, why, verdict.rule)


def _by_price(figure: Figure, is_low: bool, precision: Precision, unit: str) -> Reason:
    there, here = (figure.high, figure.low) if is_low else (figure.low, figure.high)
    bound = f"casts and {figure.followers} bound with it included"
    tail = bound if figure.followers else "casts included"
    high, low = format_amount(figure.high, unit), format_amount(figure.low, unit)
    if there < here:  # no cut ends like this: somebody edited the plan
        return Reason(Cause.USER, f"set in the plan; {precision} {low}, float32 {high}, {tail}")
    if is_low:
        return Reason(None, f"{low} against {high} in float32, {tail}")
    if there == here:
        return Reason(None, f"{precision} would gain nothing: {high} either way, {tail}")
    return Reason(None, f"{precision} would take {low} against {high} in float32, {tail}")


def format_amount(amount: int, unit: str) -> str:
    """A price in the unit that reads best."""
    for size, name in _SCALES.get(unit, ()):
        if amount >= size:
            return f"{amount / size:.4g} {name}"
    return f"{amount} {unit}"
