"""Plan: which decision takes which precision, and the casts and parameter conversions that follow from it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ampgraph.bounds import is_fixed_low, is_free
from ampgraph.costs import Costs
from ampgraph.errors import PlanError
from ampgraph.graph import Decision, PrecisionGraph, Use
from ampgraph.judgement import Cause, Judgement
from ampgraph.placement import Cast, Demand, assignment_cost, demand, place_casts
from ampgraph.precision import LOW_PRECISIONS, Precision
from ampgraph.reasons import find_reasons
from ampgraph.settings import MeasuredSetting
from ampgraph.settings import from_json as setting_from_json
from ampgraph.wording import numbered

__all__ = [
    "Cast",
    "Choice",
    "Plan",
    "Replacement",
    "assignment_cost",
    "from_json",
    "make_plan",
    "place_casts",
    "source_of",
    "to_json",
    "untouched",
]

FORMAT = 1
UNPRICED = "coverage"  # the objective under which any lawful plan will do, edited ones too
BY_PRICE = "cost"  # what a plan file says where no law settled a decision


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision's precision with its reason: the verdict's where it is float32 by law, the cut's where by cost."""

    precision: Precision
    cause: Cause | None  # None: the cut was free to choose
    why: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a fused operator is, and the names of the nodes that it stands for."""

    type: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything apply needs, and nothing it must think about.

    `choices` by decision id. `casts` sorted. `parameters`: constant value id -> precisions it must exist in.
    `cost` and `baseline`: the plan's price and that of leaving the model alone, in `unit`.
    `model`, `options`, `fused`, `replaced` (by op id): what the caller may record of the graph it is of, opaque here.
    `tuned`: the mark of decisions that a stopwatch chose, so that the modelled price does not judge them.
    `session`: the setting that it chose with them, which the written file records.
    """

    precision: Precision
    objective: str
    choices: Mapping[str, Choice]
    casts: tuple[Cast, ...]
    parameters: Mapping[str, tuple[Precision, ...]]
    unit: str
    cost: int
    baseline: int
    model: str = ""
    options: str = ""
    fused: str = ""
    tuned: str = ""
    session: MeasuredSetting | None = None
    replaced: Mapping[str, Replacement] = field(default_factory=dict)

    @cached_property
    def low(self) -> frozenset[str]:
        """Decisions that the plan has in its low precision, those that were there before included."""
        return frozenset(id for id, choice in self.choices.items() if choice.precision is self.precision)

    def __repr__(self) -> str:
        counts = Counter(choice.precision.value for choice in self.choices.values())
        decided = ", ".join(f"{count} {precision}" for precision, count in sorted(counts.items()))
        casts = numbered(len(self.casts), "cast")
        return f"<ampgraph.Plan {self.model or 'of a model'}: decisions {decided or 'none'}; {casts}>"

    def _repr_html_(self) -> str:
        from ampgraph.inspection.table import plan_table

        return plan_table(self)

    @cached_property
    def _casts(self) -> frozenset[Cast]:
        return frozenset(self.casts)


def make_plan(
    graph: PrecisionGraph,
    judgement: Judgement,
    costs: Costs,
    low: Collection[str],
    objective: str,
) -> Plan:
    """The plan of an assignment: casts, parameter conversions, prices and reasons follow from the low decisions."""
    low, precision = frozenset(low), judgement.precision
    reasons = find_reasons(graph, judgement, costs, low)
    choices = {
        id: Choice(precision if id in low else decision.present, *reasons[id])
        for id, decision in graph.decisions.items()
    }
    return Plan(
        precision,
        objective,
        choices,
        place_casts(graph, low, costs, precision),
        conversions(graph, demand(graph, low), precision),
        costs.unit,
        assignment_cost(graph, low, costs),
        assignment_cost(graph, untouched(graph, precision), costs),
    )


def untouched(graph: PrecisionGraph, precision: Precision) -> frozenset[str]:
    """The low decisions of the source itself."""
    return frozenset(id for id, decision in graph.decisions.items() if is_fixed_low(decision, precision))


def conversions(graph: PrecisionGraph, wanted: Demand, precision: Precision) -> dict[str, tuple[Precision, ...]]:
    """The precisions that each float32 constant with a float use must exist in, float32 first."""
    found: dict[str, tuple[Precision, ...]] = {}
    for each, takers in ((Precision.FLOAT32, wanted.high), (precision, wanted.low)):
        for id in takers:
            if graph.values[id].dtype == Precision.FLOAT32:
                found[id] = (*found.get(id, ()), each)
    return dict(sorted(found.items()))


def source_of(plan: Plan, graph: PrecisionGraph, use: Use) -> Cast | None:
    """The cast that feeds a use, None where it takes the value as it is produced or as the constant is kept."""
    value = graph.values[use.value]
    wanted = plan.choices[use.decision].precision
    if not value.producer or plan.choices[value.producer].precision is wanted:
        return None
    scope: str | None = use.scope
    while scope is not None:
        cast = Cast(use.value, wanted, scope)
        if cast in plan._casts:
            return cast
        scope = None if scope == value.scope else graph.scopes[scope].parent
    return None


def to_json(plan: Plan) -> str:
    """The plan as a file to read and to edit: one line a decision. Only decisions are read back."""
    head = {
        "format": FORMAT,
        "precision": plan.precision,
        "objective": plan.objective,
        "model": plan.model,
        "options": plan.options,
        **({"fused": plan.fused} if plan.fused else {}),
        **({"tuned": plan.tuned} if plan.tuned else {}),
        **({"session": plan.session.as_json()} if plan.session else {}),
        "unit": plan.unit,
        "cost": plan.cost,
        "baseline": plan.baseline,
    }
    lines = [f"  {_json(key)}: {_json(value)}," for key, value in head.items()]
    decisions = (f"{_json(id)}: {_json(_record(choice))}" for id, choice in plan.choices.items())
    casts = (_json({"value": cast.value, "to": cast.to, "scope": cast.scope}) for cast in plan.casts)
    parameters = (f"{_json(id)}: {_json(kept)}" for id, kept in plan.parameters.items())
    replaced = (f"{_json(id)}: {_json({'type': each.type, 'nodes': each.nodes})}" for id, each in plan.replaced.items())
    blocks = [
        _block("decisions", "{}", decisions),
        _block("casts", "[]", casts),
        _block("parameters", "{}", parameters),
        *([_block("replaced", "{}", replaced)] if plan.replaced else []),
    ]
    return "\n".join(["{", *lines, ",\n".join(blocks), "}"]) + "\n"


def _record(choice: Choice) -> dict[str, str]:
    record = {"precision": choice.precision.value, "cause": choice.cause or BY_PRICE, "why": choice.why}
    return {**record, "rule": choice.rule} if choice.rule else record


def _block(name: str, brackets: str, lines: Iterable[str]) -> str:
    body = ",\n".join(f"    {line}" for line in lines)
    return f"  {_json(name)}: {brackets[0]}\n{body}\n  {brackets[1]}" if body else f"  {_json(name)}: {brackets}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def from_json(
    text: str, place: str, graph: PrecisionGraph, judgement: Judgement, objective: str = UNPRICED
) -> frozenset[str]:
    """The low decisions that a plan file asks for; `make_plan` derives the rest. `place` names the file in errors.

    Every decision of the graph must have its line, and the line must keep to the verdicts. `objective`: whose prices
    the plan will be held to.
    """
    plan_file = _PlanFile(place, text)
    lines = plan_file.read(judgement.precision, objective)
    low = set()
    for id, precision in lines.items():
        decision = graph.decisions.get(id)
        if decision is None:
            raise plan_file.error(id, "no such decision in this model", "delete the line, or plan this model anew")
        plan_file.check(decision, precision, judgement)
        if precision is judgement.precision:
            low.add(id)
    missing = next((id for id in graph.decisions if id not in lines), None)
    if missing is not None:
        raise PlanError(place, f"has no line for {missing}", "add one, or save a plan of this model with --save-plan")
    return frozenset(low)


def unread(text: str, plan: Plan) -> tuple[str, ...]:
    """Which of casts and parameters a plan file tells otherwise than they follow from its decisions."""
    content, made = _content(text), _content(to_json(plan))
    return tuple(name for name in ("casts", "parameters") if content.get(name, made[name]) != made[name])


def is_fused(text: str) -> bool:
    """Whether a plan file is of a fused graph; False for what is no plan, of which `from_json` complains."""
    return bool(_content(text).get("fused"))


def session_in(text: str, place: str) -> MeasuredSetting | None:
    """The setting of a session in a plan file, None where it has none. `place` names the file in errors."""
    content = _content(text)
    if "session" not in content:
        return None
    try:
        return setting_from_json(content["session"])
    except ValueError as error:
        raise PlanError(f"{place}, session", str(error), "mend it, or delete the line") from None


def mark_of_tuned(options: str, fused: str, low: Collection[str], session: MeasuredSetting | None = None) -> str:
    """The mark of decisions and a session's setting that were chosen by measuring, under options of this digest."""
    chosen: list[object] = [options, fused, sorted(low)]
    chosen += [session.as_json()] if session else []
    return hashlib.sha256(json.dumps(chosen, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]


def read_mark(text: str, options: str) -> str:
    """The mark in a plan file, where its decisions and the options' digest still are those that were measured."""
    content = _content(text)
    try:
        records, fused = content["decisions"].items(), content.get("fused", "")
        low = [id for id, record in records if record["precision"] == content["precision"]]
        mark = str(content.get("tuned", ""))
        session = setting_from_json(content["session"]) if "session" in content else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""  # no plan: `from_json` complains of it
    return mark if mark == mark_of_tuned(options, fused, low, session) else ""


def _content(text: str) -> dict[str, Any]:
    """What a plan file holds; nothing where it is no plan, of which `from_json` complains."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class _PlanFile:
    """A plan file's text, and errors that say where in it."""

    place: str
    text: str

    def error(self, id: str, fact: str, remedy: str) -> PlanError:
        spot = self.text.find(f"{_json(id)}:")
        line = f", line {self.text.count(chr(10), 0, spot) + 1}" if spot >= 0 else ""
        return PlanError(f"{self.place}{line}, {id}", fact, remedy)

    def read(self, precision: Precision, objective: str) -> dict[str, Precision]:
        content = self._content
        if content.get("format") != FORMAT:
            found = content.get("format", "nothing")
            raise PlanError(self.place, f"is of plan format {found}, not {FORMAT}", "save it anew with --save-plan")
        decisions = content.get("decisions")
        if not isinstance(decisions, dict):
            raise PlanError(self.place, "is no plan: it has no decisions", "name a file that --save-plan wrote")
        if content.get("precision") != precision:
            fact = f"is for precision {content.get('precision')}, not {precision}"
            raise PlanError(self.place, fact, "give --precision the plan's")
        if objective != UNPRICED and content.get("objective", objective) != objective:
            fact = f"is for objective {content['objective']}, not {objective}"
            raise PlanError(self.place, fact, f"give --objective {content['objective']}")
        return {id: self._precision(id, record) for id, record in decisions.items()}

    @cached_property
    def _content(self) -> Mapping[str, object]:
        try:
            content = json.loads(self.text, object_pairs_hook=self._unique)
        except json.JSONDecodeError as error:
            fact = f"is not JSON ({error.msg}, column {error.colno})"
            raise PlanError(f"{self.place}, line {error.lineno}", fact, "mend it, or save it anew") from None
        except (ValueError, RecursionError):  # numbers or nesting beyond what the reader takes
            raise PlanError(self.place, "is no plan that can be read", "save it anew with --save-plan") from None
        if not isinstance(content, dict):
            raise PlanError(self.place, "is not a plan", "save one with --save-plan")
        return content

    def _unique(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise self.error(key, "is given twice", "keep one of the lines")
            found[key] = value
        return found

    def _precision(self, id: str, record: object) -> Precision:
        named = record.get("precision") if isinstance(record, dict) else None
        try:
            return Precision(named)  # type: ignore[arg-type]
        except ValueError:
            fact = f"has no known precision ({_json(named)})"
            raise self.error(id, fact, f"choose one of {', '.join(Precision)}") from None

    def check(self, decision: Decision, precision: Precision, judgement: Judgement) -> None:
        """Refuse what the verdict on the decision rules out."""
        if precision is decision.present:
            return
        verdict = judgement.verdicts[decision.id]
        if precision is not judgement.precision or decision.present in LOW_PRECISIONS:
            raise self.error(decision.id, f"cannot become {precision}", f"set it back to {decision.present}")
        if not is_free(decision, verdict, judgement.precision):
            remedy = f"{self._wish(decision.id)}set it back to {decision.present}"
            raise self.error(decision.id, f"may not be {precision}: {verdict.why}", remedy)

    def _wish(self, id: str) -> str:
        """The option that a line was saved with, as a remedy; "" where it was saved without one."""
        decisions = self._content["decisions"]
        record = decisions[id] if isinstance(decisions, dict) else {}
        option = str(record.get("why", "")).split(" ")[0] if record.get("cause") == Cause.USER else ""
        return f"give {option} as when it was saved, or " if option in ("--low", "--io") else ""
