"""Plan: which decision takes which precision, and the casts and parameter conversions that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ampgraph.judgement import Cause
from ampgraph.precision import Precision


@dataclass(frozen=True, slots=True, order=True)
class Cast:
    """One cast node: `value` made available in `to` inside `scope` and the scopes below it."""

    value: str
    to: Precision
    scope: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision's precision with its reason: the verdict's where it is float32 by law, the cut's where by cost."""

    precision: Precision
    cause: Cause | None  # None: the cut was free to choose
    why: str
    rule: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything apply needs, and nothing it must think about.

    `choices` by decision id. `casts` sorted. `parameters`: constant value id -> precisions it must exist in.
    `cost` and `baseline`: the plan's price and that of leaving the model alone, in `unit`.
    """

    precision: Precision
    objective: str
    choices: Mapping[str, Choice]
    casts: tuple[Cast, ...]
    parameters: Mapping[str, tuple[Precision, ...]]
    unit: str
    cost: int
    baseline: int
