"""What judge concludes: for every decision whether low precision is legal, and why; and which decisions are linked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ampgraph.precision import Precision


class Category(StrEnum):
    """What a rule says of an op (the words of TensorFlow's grappler pass)."""

    ALLOW = "allow"  # worth low precision
    INFER = "infer"  # safe unless it follows a denied op
    CLEAR = "clear"  # moves values, no arithmetic
    DENY = "deny"  # float32
    UNKNOWN = "unknown"  # no rule: float32


class Cause(StrEnum):
    """What settled a verdict."""

    RULE = "rule"  # a rule's category
    TAINT = "taint"  # follows a denied op through clear and infer ops
    RANGE = "range"  # a value is known to leave the format's range or exactness
    PARAMETER = "parameter"  # a constant does not survive the conversion
    KERNEL = "kernel"  # the target has no such kernel
    PIN = "pin"  # the schema, or the kind of value, fixes it
    UNKNOWN = "unknown"  # no rule knows the op
    USER = "user"  # --keep, --low, --io


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one decision may be low. `why` is a sentence a user reads."""

    legal: bool
    category: Category
    cause: Cause
    why: str
    rule: str = ""
    forced: bool = False  # must be low: the user asked for it


@dataclass(frozen=True)
class Judgement:
    """Verdicts by decision id (every decision has one), with what binds decisions to each other."""

    precision: Precision
    verdicts: Mapping[str, Verdict]
    ties: tuple[tuple[str, str], ...] = ()  # both low or both float32
    implications: tuple[tuple[str, str], ...] = ()  # (a, b): a low requires b low
    notes: tuple[str, ...] = ()  # rules that the user's wishes overrule
