"""Policy: what a caller asks of a traced module, in ampgraph's words and in those of Keras and Apex."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ampgraph.errors import OptionError
from ampgraph.options import Patterns
from ampgraph.precision import LOW_PRECISIONS, Precision

TrainingObjective = Literal["training", "speed", "memory", "coverage"]
NAMED: Mapping[str, tuple[Precision, TrainingObjective, str]] = {
    "mixed_float16": (Precision.FLOAT16, "coverage", "Keras: compute in float16 wherever the rules let it"),
    "mixed_bfloat16": (Precision.BFLOAT16, "coverage", "Keras: compute in bfloat16 wherever the rules let it"),
    "O1": (Precision.FLOAT16, "training", "Apex: products in float16, the rest where it saves time"),
    "O2": (Precision.FLOAT16, "coverage", "Apex: float16 throughout but for norms and losses, float32 masters"),
}


@dataclass(frozen=True)
class Policy:
    """Everything that decides a plan besides the module and its example."""

    precision: Precision = Precision.FLOAT16
    objective: TrainingObjective = "training"
    rules: Path | None = None
    keep: Patterns = ""
    low: Patterns = ""
    io: str = "keep"
    device: str = "h100"


def make_policy(
    precision: str | None, objective: str | None, named_policy: str | None, rules: Path | None, **others: Patterns
) -> Policy:
    """A policy from what a caller writes. Raises OptionError for words that mean nothing, or contradict each other."""
    if named_policy is not None:
        _require("named_policy", named_policy, tuple(NAMED))
        named_precision, named_objective, _ = NAMED[named_policy]
        if precision is not None and precision != named_precision and named_policy.startswith("mixed"):
            fact = f"says {named_precision}, and precision says {precision}"
            raise OptionError(f"named_policy {named_policy}", fact, "give one of the two")
        precision, objective = precision or named_precision, objective or named_objective
    precision, objective = precision or Precision.FLOAT16, objective or "training"
    _require("precision", precision, tuple(LOW_PRECISIONS))
    _require("objective", objective, get_args(TrainingObjective))
    return Policy(Precision(precision), objective, rules, **others)  # type: ignore[arg-type]


def _require(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"{option} {value!r}", "unknown value", f"choose one of {', '.join(map(str, known))}")
