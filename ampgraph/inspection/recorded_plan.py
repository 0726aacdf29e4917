"""Recorded plans: what a plan file says, read for looking at and not for applying, so that no model is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ampgraph.errors import PlanError
from ampgraph.placement import Cast
from ampgraph.plan import BY_PRICE, FORMAT, Plan, Replacement
from ampgraph.precision import Precision

INTERFACE = ("input:", "output:")  # decisions of graph inputs and outputs begin so
_NAMES_AND_FIGURES = re.compile(r"'[^']*'|[\d.]+")
REMEDY = "name a plan that `ampgraph convert --save-plan` wrote, or a converted model"


@dataclass(frozen=True, slots=True)
class Line:
    """One decision as it is recorded. `cause` and `rule` are "" where only the sentence is known."""

    precision: str
    cause: str
    why: str
    rule: str = ""


@dataclass(frozen=True)
class Recorded:
    """A plan by what it says. Of a model file, decisions are by node, parameters by initializer, and no price is known.

    `name`: of the file. `model`: of the model that it is of. `replaced`: nodes that stand for several of the source.
    """

    name: str
    kind: Literal["plan", "model"]
    model: str
    precision: str
    objective: str
    fused: str
    unit: str
    cost: int | None
    decisions: Mapping[str, Line]
    casts: frozenset[Cast]
    parameters: Mapping[str, tuple[str, ...]]
    replaced: Mapping[str, Replacement] = field(default_factory=dict)

    def node_of(self, decision: str) -> str:
        """The node that a decision is of, "" for one of the interface."""
        if self.kind == "model":
            return decision
        return "" if decision.startswith(INTERFACE) else decision.rpartition(":")[0]


def ground(line: Line) -> tuple[str, str]:
    """What settled a decision; where that is not recorded, its sentence without names and figures."""
    return (line.cause, line.rule) if line.cause else ("", _NAMES_AND_FIGURES.sub("", line.why))


def of_plan(plan: Plan, name: str) -> Recorded:
    """A plan in memory."""
    lines = {
        id: Line(choice.precision, choice.cause or BY_PRICE, choice.why, choice.rule)
        for id, choice in plan.choices.items()
    }
    parameters = {id: tuple(map(str, kept)) for id, kept in plan.parameters.items()}
    return Recorded(
        name, "plan", plan.model, plan.precision, plan.objective, plan.fused, plan.unit, plan.cost, lines,
        frozenset(plan.casts), parameters, plan.replaced,
    )  # fmt: skip


def read_plan(text: str, name: str) -> Recorded:
    """A plan file's text. Raises PlanError, naming the file, where it is none."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        fact = f"is not JSON ({error.msg}, column {error.colno})"
        raise PlanError(f"{name}, line {error.lineno}", fact, REMEDY) from None
    except (ValueError, RecursionError):
        raise PlanError(name, "is no plan that can be read", REMEDY) from None
    if not isinstance(content, dict) or "decisions" not in content:
        raise PlanError(name, "is not a plan", REMEDY)
    if content.get("format") != FORMAT:
        found = content.get("format", "nothing")
        raise PlanError(name, f"is of plan format {found}, not {FORMAT}", "save it anew with --save-plan")
    try:
        return _recorded(content, name)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise PlanError(name, "is a plan with something else where a decision should be", REMEDY) from None


def _recorded(content: Mapping[str, Any], name: str) -> Recorded:
    lines = {
        id: Line(Precision(entry["precision"]), entry.get("cause", ""), entry.get("why", ""), entry.get("rule", ""))
        for id, entry in content["decisions"].items()
    }
    casts = [Cast(each["value"], Precision(each["to"]), each["scope"]) for each in content.get("casts", ())]
    parameters = {id: tuple(map(str, kept)) for id, kept in content.get("parameters", {}).items()}
    said = {key: str(content.get(key, "")) for key in ("model", "precision", "objective", "fused", "unit")}
    cost = int(content["cost"]) if "cost" in content else None
    replaced = {
        id: Replacement(str(each["type"]), tuple(map(str, each["nodes"])))
        for id, each in content.get("replaced", {}).items()
    }
    return Recorded(
        name, "plan", **said, cost=cost, decisions=lines, casts=frozenset(casts), parameters=parameters,
        replaced=replaced,
    )  # fmt: skip
