"""What a plan saves at each decision: its price, casts included, beside that of the plan without this one choice."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ampgraph.bounds import Links, implications_of, links, reach, tied_groups
from ampgraph.costs import Costs
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Judgement
from ampgraph.numbering import Bools, Ints
from ampgraph.placement import best_scopes, one_scope_prices

Sides = dict[str, tuple[int, int]]  # scope -> high uses, low uses
Moves = dict[str, int]  # scope -> uses that change their side


class Figure(NamedTuple):
    """What a decision costs on either side, casts included, and how many others follow it."""

    high: int
    low: int
    followers: int = 0


def find_figures(
    graph: PrecisionGraph, judgement: Judgement, costs: Costs, low: Collection[str], wanted: Collection[str]
) -> dict[str, Figure]:
    """A figure for each of the `wanted` decisions.

    Those bound to no other, all of whose values live in one scope, are counted all at once.
    """
    pairs = implications_of(graph, judgement)
    (forward, backward), groups = links(pairs), tied_groups(pairs)
    flat, high_prices, low_prices = _flat_figures(graph, costs, low)
    number, ledger = graph.numbering.number, None
    found: dict[str, Figure] = {}
    by_group: dict[str, Figure] = {}
    for id in wanted:
        place, group = number[id], groups.get(id, id)
        if flat[place] and id not in forward and id not in backward:
            found[id] = Figure(high_prices[place], low_prices[place])
            continue
        if group not in by_group:
            ledger = ledger or _open_ledger(graph, costs, low)
            by_group[group] = _figure(ledger, id, backward if id in low else forward)
        found[id] = by_group[group]
    return found


@dataclass(frozen=True)
class _Flat:
    """By value: its prices in the one scope it lives in, and how many uses are on each side."""

    up: Ints  # of a constant: keeping it high
    down: Ints  # of a constant: keeping it low
    constant: Bools
    high: Ints
    low: Ints

    def bill(self, values: Ints, made_low: Bools, joining: Ints) -> Ints:
        """Prices of values when `joining` uses have changed from low to high."""
        up, down = self.high[values] + joining > 0, self.low[values] - joining > 0
        free = self.constant[values]
        return self.up[values] * (up & (made_low | free)) + self.down[values] * (down & (~made_low | free))


def _flat_figures(graph: PrecisionGraph, costs: Costs, low: Collection[str]) -> tuple[list[bool], list[int], list[int]]:
    """Of every decision: whether all its values live in one scope, and its price high and low if so."""
    all_ = graph.numbering
    is_low = all_.mask(low)
    live, taken_low, _ = all_.sides(is_low)
    value, taker = all_.use_value[live], all_.use_decision[live]
    nested = all_.nested(live)
    book = _flat_book(graph, costs, live, taken_low, nested)
    pairs, uses = np.unique(value * is_low.size + taker, return_counts=True)
    flat = np.ones(is_low.size, bool)
    flat[taker[nested[value]]] = False
    flat[all_.producer[nested]] = False

    value, taker = np.divmod(pairs, max(is_low.size, 1))
    maker, own = all_.producer[value], all_.producer[value] == taker
    made = np.setdiff1d(np.flatnonzero(all_.producer >= 0), value[own])  # a value of one's own is counted once
    here, there = np.zeros(is_low.size, np.int64), np.zeros(is_low.size, np.int64)
    np.add.at(here, taker, book.bill(value, is_low[maker], np.zeros_like(uses)))
    np.add.at(there, taker, book.bill(value, is_low[maker] ^ own, np.where(is_low[taker], uses, -uses)))
    maker, still = all_.producer[made], np.zeros_like(made)
    np.add.at(here, maker, book.bill(made, is_low[maker], still))
    np.add.at(there, maker, book.bill(made, ~is_low[maker], still))
    high = _prices(costs.high, all_.decisions) + np.where(is_low, there, here)
    return flat.tolist(), high.tolist(), (_prices(costs.low, all_.decisions) + np.where(is_low, here, there)).tolist()


def _flat_book(graph: PrecisionGraph, costs: Costs, live: Bools, taken_low: Bools, nested: Bools) -> _Flat:
    all_, size = graph.numbering, nested.size
    scope = np.full(size, -1)
    scope[all_.use_value[live]] = all_.use_scope[live]
    up, down = np.zeros(size, np.int64), np.zeros(size, np.int64)
    priced = (scope >= 0) & ~nested
    if not costs.keep_high and not costs.keep_low:
        priced &= all_.producer >= 0
    for place in np.flatnonzero(priced).tolist():
        up[place], down[place] = one_scope_prices(graph, costs, all_.values[place], all_.scopes[scope[place]])
    high = np.bincount(all_.use_value[live & ~taken_low], minlength=size)
    return _Flat(up, down, all_.producer < 0, high, np.bincount(all_.use_value[live & taken_low], minlength=size))


def _prices(prices: Mapping[str, int], ids: Iterable[str]) -> Ints:
    return np.array([prices.get(id, 0) for id in ids], np.int64)


@dataclass(frozen=True)
class _Ledger:
    """An assignment, with the uses of each value on either side: any choice of decisions can be moved in it."""

    graph: PrecisionGraph
    costs: Costs
    low: Collection[str]
    counts: Mapping[str, Sides]
    taken: Mapping[str, list[tuple[str, str]]]  # decision -> (value, scope) of its uses

    def bill(self, id: str, produced_low: bool, moves: Moves, from_low: bool) -> int:
        """Price of a value's casts, or copies, once the uses in `moves` have left their side."""
        sign = 1 if from_low else -1
        counts = {
            scope: (high + sign * moves.get(scope, 0), low - sign * moves.get(scope, 0))
            for scope, (high, low) in self.counts[id].items()
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
    all_, counts, taken = graph.numbering, dict[str, Sides](), dict[str, list[tuple[str, str]]]()
    live, taken_low, _ = all_.sides(all_.mask(low))
    for place, is_low in zip(np.flatnonzero(live).tolist(), taken_low[live].tolist(), strict=True):
        use = graph.uses[place]
        sides = counts.setdefault(use.value, {})
        high, lows = sides.get(use.scope, (0, 0))
        sides[use.scope] = (high, lows + 1) if is_low else (high + 1, lows)
        taken.setdefault(use.decision, []).append((use.value, use.scope))
    return _Ledger(graph, costs, low, counts, taken)


def _figure(ledger: _Ledger, id: str, followers: Links) -> Figure:
    """Prices of both sides when the decision changes, with all that must follow and is not there yet."""
    is_low = id in ledger.low
    moving = {other: None for other in reach([id], followers) if (other in ledger.low) is is_low}
    moves: dict[str, Moves] = {}
    for decision in moving:
        for made in ledger.graph.products_of.get(decision, ()):
            if made in ledger.counts:
                moves.setdefault(made, {})
        for value, scope in ledger.taken.get(decision, ()):
            at = moves.setdefault(value, {})
            at[scope] = at.get(scope, 0) + 1
    here = sum(_billed(ledger, value, {}, (), is_low) for value in moves)
    there = sum(_billed(ledger, value, at, moving, is_low) for value, at in moves.items())
    high, low = (there, here) if is_low else (here, there)
    costs = ledger.costs
    return Figure(high + _own(costs.high, moving), low + _own(costs.low, moving), len(moving) - 1)


def _billed(ledger: _Ledger, value: str, moves: Moves, moving: Collection[str], is_low: bool) -> int:
    producer = ledger.graph.values[value].producer
    return ledger.bill(value, (producer in ledger.low) is not (producer in moving), moves, is_low)


def _own(prices: Mapping[str, int], decisions: Iterable[str]) -> int:
    return int(_prices(prices, decisions).sum())
