"""What changed between two plans: decisions by what they became and why, casts, parameters, the price."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from ampgraph.errors import PlanError
from ampgraph.inspection.recorded_plan import Line, Recorded
from ampgraph.placement import Cast

FORMAT = 1
LEAST_SHARED = 0.5  # of the smaller plan's decisions; with fewer in common they are of different models
_NAMES_AND_FIGURES = re.compile(r"'[^']*'|[\d.]+")
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

    `facts`: what is said of the whole plan, (name, before, after), where it differs. `reworded`: decisions whose
    sentence alone differs, as figures do.
    """

    first: str
    second: str
    decisions: int  # that both have
    facts: tuple[tuple[str, str, str], ...]
    changes: tuple[Change, ...]
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
        moved = self.changes or self.removed or self.added or self.casts_removed or self.casts_added
        return not (moved or self.parameters)

    def __str__(self) -> str:
        """The report that the command prints."""
        from ampgraph.inspection.plan_diff_text import to_text

        return to_text(self)


def difference(first: Recorded, second: Recorded) -> PlanDiff:
    """Compare two recorded plans. Raises PlanError where they cannot be of one model, or are not of one kind."""
    _refuse_others(first, second)
    both = [id for id in first.decisions if id in second.decisions]
    pairs = [(id, first.decisions[id], second.decisions[id]) for id in both]
    moved = [each for each in pairs if each[1].precision != each[2].precision]
    kept = [each for each in pairs if each[1].precision == each[2].precision]
    gone = [(id, line, None) for id, line in first.decisions.items() if id not in second.decisions]
    new = [(id, None, line) for id, line in second.decisions.items() if id not in first.decisions]
    facts = [(name, getattr(first, name), getattr(second, name)) for name in _FACTS]
    return PlanDiff(
        first.name,
        second.name,
        len(both),
        tuple(fact for fact in facts if fact[1] != fact[2]),
        _grouped(moved),
        _grouped(each for each in kept if _ground(each[1]) != _ground(each[2])),
        sum(one.why != other.why and _ground(one) == _ground(other) for _, one, other in kept),
        _grouped(gone),
        _grouped(new),
        _sorted(first.casts - second.casts),
        _sorted(second.casts - first.casts),
        _parameters(first, second),
        Price(first.cost, first.unit, second.cost, second.unit),
    )


def to_json(diff: PlanDiff) -> str:
    """The difference as JSON: the fields of `PlanDiff`, with the layout's `format` and whether they are the `same`."""
    return json.dumps({"format": FORMAT, "same": diff.same, **asdict(diff)}, ensure_ascii=False, indent=1) + "\n"


def _refuse_others(first: Recorded, second: Recorded) -> None:
    if first.kind != second.kind:
        fact = f"is a {second.kind}, and {first.name} a {first.kind}"
        raise PlanError(second.name, fact, "give two plans or two models")
    shared = len(first.decisions.keys() & second.decisions.keys())
    least = min(len(first.decisions), len(second.decisions))
    if shared < LEAST_SHARED * least or (not shared and (first.decisions or second.decisions)):
        fact = f"shares {shared} of {least} decisions with {first.name}: they are of different models"
        raise PlanError(second.name, fact, "compare conversions of one model")


def _ground(line: Line) -> tuple[str, str]:
    """What settled a decision; where that is not recorded, its sentence without names and figures."""
    return (line.cause, line.rule) if line.cause else ("", _NAMES_AND_FIGURES.sub("", line.why))


def _grouped(lines: Iterable[tuple[str, Line | None, Line | None]]) -> tuple[Change, ...]:
    """Decisions with the same precisions and grounds on both sides together, the largest group first."""
    groups: dict[tuple[object, ...], list[tuple[str, Line | None, Line | None]]] = {}
    for each in lines:
        key = tuple(part for line in each[1:] if line is not None for part in (line.precision, *_ground(line)))
        groups.setdefault(key, []).append(each)
    found = [Change(group[0][1], group[0][2], tuple(id for id, _, _ in group)) for group in groups.values()]
    return tuple(sorted(found, key=lambda change: -len(change.decisions)))


def _sorted(casts: Iterable[Cast]) -> tuple[Cast, ...]:
    return tuple(sorted(casts))


def _parameters(first: Recorded, second: Recorded) -> tuple[ParameterChange, ...]:
    names = dict.fromkeys((*first.parameters, *second.parameters))
    pairs = ((name, first.parameters.get(name, ()), second.parameters.get(name, ())) for name in names)
    return tuple(ParameterChange(*pair) for pair in pairs if pair[1] != pair[2])
