"""A PrecisionGraph in numbers: its uses as arrays, for the steps that look at all of them at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ampgraph.precision import Precision

if TYPE_CHECKING:
    from ampgraph.graph import PrecisionGraph

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Numbering:
    """Decisions, values and scopes by their place in the graph; uses in their order."""

    decisions: tuple[str, ...]
    number: dict[str, int]  # of decisions
    values: tuple[str, ...]
    scopes: tuple[str, ...]
    is_float32: Bools  # by decision: float32 at present
    producer: Ints  # by value: a decision, -1 for a constant
    home: Ints  # by value: its scope
    use_value: Ints
    use_decision: Ints
    use_scope: Ints

    def mask(self, ids: Collection[str]) -> Bools:
        """The decisions of a set."""
        found = np.zeros(len(self.decisions), bool)
        found[[self.number[id] for id in ids]] = True
        return found

    def sides(self, low: Bools) -> tuple[Bools, Bools, Bools]:
        """Of every use: whether it takes part in an assignment, whether it is low, and whether its producer is.

        Third types take no part: nothing is cast to or from them. A constant counts as made in the use's precision.
        """
        third = ~(self.is_float32 | low)
        maker = self.producer[self.use_value]
        taken_low, made = low[self.use_decision], maker >= 0
        live = ~(third[self.use_decision] | (made & third[maker]))
        return live, taken_low, np.where(made, low[maker], taken_low)

    def nested(self, uses: Ints | Bools) -> Bools:
        """Of every value: whether an op or input produces it and the given uses take it in several scopes."""
        value, scope = self.use_value[uses], self.use_scope[uses]
        first, several = np.full(len(self.values), -1), np.zeros(len(self.values), bool)
        first[value] = scope
        several[value[first[value] != scope]] = True
        return several & (self.producer >= 0)


def number(graph: PrecisionGraph) -> Numbering:
    """Number a graph; `PrecisionGraph.numbering` keeps the result."""
    decisions, values, scopes = (_numbers(ids) for ids in (graph.decisions, graph.values, graph.scopes))
    present = (decision.present is Precision.FLOAT32 for decision in graph.decisions.values())
    return Numbering(
        tuple(decisions),
        decisions,
        tuple(values),
        tuple(scopes),
        np.fromiter(present, bool, len(decisions)),
        _array(decisions.get(value.producer, -1) for value in graph.values.values()),
        _array(scopes[value.scope] for value in graph.values.values()),
        _array(values[use.value] for use in graph.uses),
        _array(decisions[use.decision] for use in graph.uses),
        _array(scopes[use.scope] for use in graph.uses),
    )


def _numbers(ids: Iterable[str]) -> dict[str, int]:
    return {id: place for place, id in enumerate(ids)}


def _array(numbers: Iterable[int]) -> Ints:
    return np.fromiter(numbers, np.int64)
