"""What changed between two plans: decisions by what they became and why, casts, parameters, the price."""

from __future__ import annotations

import json
from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass

from ampgraph.errors import PlanError
from ampgraph.inspection.plan_fusions import FusedChange, fused_changes
from ampgraph.inspection.recorded_plan import Line, Recorded, ground
from ampgraph.placement import Cast

FORMAT = 2
LEAST_SHARED = 0.5  # of the smaller plan's decisions; with fewer in common they are of different models
_FACTS = ("model", "precision", "objective", "fused")


@dataclass(frozen=True, slots=True)
class Change:
    """Decisions that changed alike. `before` and `after` speak of the first of them; its `why` is an example.

    Of decisions that only one plan has, the other side is None.
    """

    before: Line | None
    after: Line | None
    decisions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """What is said of the whole plan, where it differs."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """A constant that is held in other precisions; () where a plan does not speak of it."""

    parameter: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of the two plans, each in its unit; None where unknown."""

    before: int | None
    before_unit: str
    after: int | None
    after_unit: str


@dataclass(frozen=True)
class PlanDiff:
    """The difference of two plans. `changes`: other precisions, most decisions first; `reasons`: the same for others.

    `fused`: decisions of nodes that are part of one node in the other plan, those with another precision first.
    `removed`, `added`: decisions that one plan alone has, but for those. `reworded`: decisions whose sentence alone
    differs, as figures do.
    """

    first: str
    second: str
    decisions: int  # that both have
    facts: tuple[Fact, ...]
    changes: tuple[Change, ...]
    fused: tuple[FusedChange, ...]
    reasons: tuple[Change, ...]
    reworded: int
    removed: tuple[Change, ...]
    added: tuple[Change, ...]
    casts_removed: tuple[Cast, ...]
    casts_added: tuple[Cast, ...]
    parameters: tuple[ParameterChange, ...]
    price: Price

    @property
    def same(self) -> bool:
        """Whether both come to the same model: same decisions, casts and parameters, for whatever reasons."""
        moved = self.changes or self.fused or self.removed or self.added or self.casts_removed or self.casts_added
        return not (moved or self.parameters)

    def __str__(self) -> str:
        """The report that the command prints."""
        from ampgraph.inspection.plan_diff_text import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        from ampgraph.inspection.comparison_table import diff_table

        return diff_table(self)


def difference(first: Recorded, second: Recorded) -> PlanDiff:
    """Compare two recorded plans. Raises PlanError where they cannot be of one model, or are not of one kind."""
    fused = fused_changes(first, second)
    _refuse_others(first, second, fused)
    told = {id for each in fused for id in each.decisions}, {node for each in fused for node in each.nodes}
    both = [id for id in first.decisions if id in second.decisions]
    pairs = [(id, first.decisions[id], second.decisions[id]) for id in both]
    moved = [each for each in pairs if each[1].precision != each[2].precision]
    kept = [each for each in pairs if each[1].precision == each[2].precision]
    gone = [(id, line, None) for id, line in first.decisions.items() if _is_alone(id, first, second, told)]
    new = [(id, None, line) for id, line in second.decisions.items() if _is_alone(id, second, first, told)]
    facts = [Fact(name, getattr(first, name), getattr(second, name)) for name in _FACTS]
    return PlanDiff(
        first.name,
        second.name,
        len(both),
        tuple(fact for fact in facts if fact.before != fact.after),
        _grouped(moved),
        fused,
        _grouped(each for each in kept if ground(each[1]) != ground(each[2])),
        sum(one.why != other.why and ground(one) == ground(other) for _, one, other in kept),
        _grouped(gone),
        _grouped(new),
        _sorted(first.casts - second.casts),
        _sorted(second.casts - first.casts),
        _parameters(first, second),
        Price(first.cost, first.unit, second.cost, second.unit),
    )


def to_json(diff: PlanDiff) -> str:
    """The difference as JSON, by `plan_diff.schema.json`: the fields of `PlanDiff`, with `format` and `same`."""
    return json.dumps({"format": FORMAT, "same": diff.same, **asdict(diff)}, ensure_ascii=False, indent=1) + "\n"


def _is_alone(id: str, plan: Recorded, other: Recorded, told: tuple[Set[str], Set[str]]) -> bool:
    """Whether one plan alone has a decision, and it is no part of what was fused. `told`: decisions, fused nodes."""
    return id not in other.decisions and id not in told[0] and plan.node_of(id) not in told[1]


def _refuse_others(first: Recorded, second: Recorded, fused: Iterable[FusedChange]) -> None:
    if first.kind != second.kind:
        fact = f"is a {second.kind}, and {first.name} a {first.kind}"
        raise PlanError(second.name, fact, "give two plans or two models")
    shared = len(first.decisions.keys() & second.decisions.keys()) + sum(len(each.decisions) for each in fused)
    least = min(len(first.decisions), len(second.decisions))
    if shared < LEAST_SHARED * least or (not shared and (first.decisions or second.decisions)):
        fact = f"shares {shared} of {least} decisions with {first.name}: they are of different models"
        raise PlanError(second.name, fact, "compare conversions of one model")


def _grouped(lines: Iterable[tuple[str, Line | None, Line | None]]) -> tuple[Change, ...]:
    """Decisions with the same precisions and grounds on both sides together, the largest group first."""
    groups: dict[tuple[object, ...], list[tuple[str, Line | None, Line | None]]] = {}
    for each in lines:
        key = tuple(part for line in each[1:] if line is not None for part in (line.precision, *ground(line)))
        groups.setdefault(key, []).append(each)
    found = [Change(group[0][1], group[0][2], tuple(id for id, _, _ in group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda change: -len(change.decisions)))


def _sorted(casts: Iterable[Cast]) -> tuple[Cast, ...]:
    return tuple(sorted(casts))


def _parameters(first: Recorded, second: Recorded) -> tuple[ParameterChange, ...]:
    names = dict.fromkeys((*first.parameters, *second.parameters))
    pairs = ((name, first.parameters.get(name, ()), second.parameters.get(name, ())) for name in names)
    return tuple(ParameterChange(*pair) for pair in pairs if pair[1] != pair[2])
