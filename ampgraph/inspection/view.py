"""View: everything that a document is built from, and the questions that all its parts ask of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ampgraph.costs import Costs
from ampgraph.graph import Op, PrecisionGraph, Value
from ampgraph.inspection.document import State
from ampgraph.inspection.facets import Facets
from ampgraph.intervals import Interval
from ampgraph.judgement import Judgement
from ampgraph.kernels import KernelTable
from ampgraph.plan import Plan
from ampgraph.precision import FORMATS, LOW_PRECISIONS, Precision
from ampgraph.report import representative
from ampgraph.rulebook import RuleBook
from ampgraph.work import foreign_float, size_of

NO_FLOAT = "other"
FLOATS = frozenset(FORMATS)


@dataclass(frozen=True)
class View:
    """A model on which everything is decided. `costs` price each op in both precisions, whichever it is in now.

    `table`: the target's kernels, None where any runtime will do. `decided`: the plan was made now, and its reasons
    count; else it is the one that leaves the model as it is. `before`: precisions in the source by node id, None where
    no source was given.
    """

    graph: PrecisionGraph
    judgement: Judgement
    costs: Costs
    plan: Plan
    ranges: Mapping[str, Interval]
    book: RuleBook
    table: KernelTable | None
    facets: Facets
    state: State
    decided: bool = True
    before: Mapping[str, str] | None = None

    @cached_property
    def raised(self) -> PrecisionGraph:
        """The graph with every float that could be float32 counted as such: what work is reckoned on."""
        return raised(self.graph)

    @cached_property
    def dtypes(self) -> Mapping[str, str]:
        """Element types of values as they are decided."""
        return {id: self._dtype(value) for id, value in self.graph.values.items()}

    def _dtype(self, value: Value) -> str:
        if value.producer:
            return self.plan.choices[value.producer].precision.value
        kept = self.plan.parameters.get(value.id, ())
        return kept[0].value if kept else value.dtype

    @cached_property
    def rule_places(self) -> Mapping[str, int]:
        """Index of each rule in the document."""
        return {rule.name: place for place, rule in enumerate(self.book.rules)}

    def precision_of(self, op: Op) -> str:
        """The precision of the variable that stands for an op; without one a float64 or the like that it works on."""
        decision = representative(self.graph, op)
        if decision is not None:
            return self.plan.choices[decision.id].precision.value
        return foreign_float(op, self.graph) or NO_FLOAT

    def frequency(self, scope: str) -> float:
        """How often a body runs for one run of the model."""
        return self.graph.scopes[scope].frequency

    def value_name(self, id: str) -> str:
        """A value's name in the file."""
        return self.graph.values[id].name

    def op_name(self, id: str) -> str:
        """An op's name, or its id where it has none."""
        return self.graph.ops[id].name or id


def raised(graph: PrecisionGraph) -> PrecisionGraph:
    """The graph with low values counted as float32. Prices in both precisions do not depend on the present one then."""
    if not any(value.dtype in LOW_PRECISIONS for value in graph.values.values()):
        return graph
    values = {
        id: replace(value, dtype=Precision.FLOAT32.value) if value.dtype in LOW_PRECISIONS else value
        for id, value in graph.values.items()
    }
    return replace(graph, values=values)


def bytes_of(dtype: str, elements: int | None) -> int | None:
    """Bytes of so many elements, None where their number is unknown."""
    return None if elements is None else size_of(dtype) * elements


def finite(number: float | None) -> float | None:
    """A number that JSON can hold; None for the others."""
    return number if number is not None and math.isfinite(number) else None


def listed(names: Iterable[str], limit: int = 3) -> str:
    """Some names in a sentence: `a, b, c and 4 more`."""
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


class Names:
    """A supply of ids that nothing else has."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def make(self, wish: str) -> str:
        """`wish`, with quotes added while it is taken."""
        while wish in self._taken:
            wish += "'"
        self._taken.add(wish)
        return wish
