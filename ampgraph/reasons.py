"""Why each decision has its precision: the verdict's sentence where a law settles it, figures where the price does.

The figure compares the plan with the plan that differs in this decision alone (and in those that must follow it).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ampgraph.bounds import Links, find_bounds, implications_of, links, reach, tied_groups
from ampgraph.costs import Costs
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Cause, Judgement
from ampgraph.placement import best_scopes
from ampgraph.precision import Precision

Counts = dict[str, tuple[int, int]]  # scope -> high uses, low uses
Moves = dict[str, int]  # scope -> uses that change their side


class Reason(NamedTuple):
    """Cause, sentence and rule of one choice."""

    cause: Cause | None
    why: str
    rule: str = ""


class Figure(NamedTuple):
    """What a decision costs on either side, casts included, and how many others follow it."""

    high: int
    low: int
    followers: int


def find_reasons(graph: PrecisionGraph, judgement: Judgement, costs: Costs, low: Collection[str]) -> dict[str, Reason]:
    """A reason for every decision."""
    bounds, pairs = find_bounds(graph, judgement), implications_of(graph, judgement)
    groups, (forward, backward) = tied_groups(pairs), links(pairs)
    ledger = _open_ledger(graph, costs, low)
    figures: dict[str, Figure] = {}  # by group: what is tied moves together
    reasons = {}
    for id in graph.decisions:
        settled = bounds.must.get(id) or bounds.never.get(id)
        if settled:
            reasons[id] = _settled(id, settled, judgement)
            continue
        group = groups.get(id, id)
        if group not in figures:
            figures[group] = _figure(ledger, id, backward if id in low else forward)
        reasons[id] = _by_price(figures[group], id in low, judgement.precision, costs.unit)
    return reasons


def _settled(id: str, by: str, judgement: Judgement) -> Reason:
    verdict = judgement.verdicts[by]
    why = verdict.why if id == by else f"bound to {by}: {verdict.why}"
    return Reason(verdict.cause, why, verdict.rule)


def _by_price(figure: Figure, is_low: bool, precision: Precision, unit: str) -> Reason:
    there, here = (figure.high, figure.low) if is_low else (figure.low, figure.high)
    others = f", {figure.followers} bound decisions included" if figure.followers else ""
    tail = f"casts included{others}"
    high, low = format_amount(figure.high, unit), format_amount(figure.low, unit)
    if there < here:  # no cut ends like this: somebody edited the plan
        return Reason(Cause.USER, f"set in the plan; {precision} {low}, float32 {high}, {tail}")
    if is_low:
        return Reason(None, f"{low} against {high} in float32, {tail}")
    if there == here:
        return Reason(None, f"{precision} would gain nothing: {high} either way, {tail}")
    return Reason(None, f"{precision} would take {low} against {high} in float32, {tail}")


def format_amount(amount: float, unit: str) -> str:
    """A price in the unit that reads best."""
    scales = {
        "picoseconds": ((1e12, "s"), (1e9, "ms"), (1e6, "us"), (1e3, "ns"), (1, "ps")),
        "bytes": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "bytes")),
    }.get(unit, ((1, unit),))
    size, name = next((scale for scale in scales if abs(amount) >= scale[0]), scales[-1])
    shown = amount / size
    return f"{shown:.0f} {name}" if abs(shown) >= 1000 or shown == int(shown) else f"{shown:.3g} {name}"


@dataclass(frozen=True)
class _Ledger:
    """An assignment with what is paid for each value in it."""

    graph: PrecisionGraph
    costs: Costs
    low: Collection[str]
    counts: Mapping[str, Counts]
    taken: Mapping[str, list[tuple[str, str]]]  # decision -> (value, scope) of its uses
    paid: Mapping[str, int]

    def bill(self, id: str, produced_low: bool, moves: Moves, from_low: bool) -> int:
        """Price of a value's casts, or copies, once the uses in `moves` have left their side."""
        counts = {
            scope: (high + moved, low - moved) if from_low else (high - moved, low + moved)
            for scope, (high, low) in self.counts[id].items()
            for moved in (moves.get(scope, 0),)
        }
        value, costs = self.graph.values[id], self.costs
        if not value.producer:
            kept = costs.keep_high.get(id, 0) if any(high for high, _ in counts.values()) else 0
            return kept + (costs.keep_low.get(id, 0) if any(low for _, low in counts.values()) else 0)
        wanting = [scope for scope, sides in counts.items() if sides[not produced_low]]
        if not wanting:
            return 0
        to_low, scopes = not produced_low, self.graph.scopes
        return sum(
            costs.cast(id, to_low=to_low, frequency=scopes[scope].frequency)
            for scope in best_scopes(value, wanting, to_low, costs, scopes)
        )


def _open_ledger(graph: PrecisionGraph, costs: Costs, low: Collection[str]) -> _Ledger:
    third = {id for id, each in graph.decisions.items() if id not in low and each.present is not Precision.FLOAT32}
    counts: dict[str, Counts] = {}
    taken: dict[str, list[tuple[str, str]]] = {}
    for use in graph.uses:
        if use.decision in third or graph.values[use.value].producer in third:
            continue
        sides = counts.setdefault(use.value, {})
        high, lows = sides.get(use.scope, (0, 0))
        sides[use.scope] = (high, lows + 1) if use.decision in low else (high + 1, lows)
        taken.setdefault(use.decision, []).append((use.value, use.scope))
    ledger = _Ledger(graph, costs, low, counts, taken, {})
    paid = {id: ledger.bill(id, graph.values[id].producer in low, {}, False) for id in counts}
    return _Ledger(graph, costs, low, counts, taken, paid)


def _figure(ledger: _Ledger, id: str, followers: Links) -> Figure:
    """Prices of both sides when the decision changes, with all that must follow and is not there yet."""
    is_low = id in ledger.low
    moving = [id]
    if id in followers:
        moving = [other for other in reach([id], followers) if (other in ledger.low) is is_low]
    moves: dict[str, Moves] = {}
    for decision in moving:
        for made in ledger.graph.products_of.get(decision, ()):
            if made in ledger.counts:
                moves.setdefault(made, {})
        for value, scope in ledger.taken.get(decision, ()):
            at = moves.setdefault(value, {})
            at[scope] = at.get(scope, 0) + 1
    here = sum(ledger.paid[value] for value in moves)
    there = sum(_moved_bill(ledger, value, at, moving, is_low) for value, at in moves.items())
    high, low = (there, here) if is_low else (here, there)
    costs = ledger.costs
    return Figure(high + _own(costs.high, moving), low + _own(costs.low, moving), len(moving) - 1)


def _moved_bill(ledger: _Ledger, value: str, moves: Moves, moving: Collection[str], is_low: bool) -> int:
    producer = ledger.graph.values[value].producer
    produced_low = (producer in ledger.low) is not (producer in moving)
    return ledger.bill(value, produced_low, moves, is_low)


def _own(prices: Mapping[str, int], decisions: Iterable[str]) -> int:
    return sum(prices.get(id, 0) for id in decisions)
