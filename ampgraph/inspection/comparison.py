"""Comparison: two models' values side by side, as plain data. `compare --json` writes it, the page overlays it.

Ids are those of `document.Node` and `document.Value` of the second model, so that a page of it can be coloured by them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FORMAT = 1

Where = Literal["cuda", "evaluator"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of both models. Norms over the elements that are finite in both; the reference is the first model.

    `order` counts along the second model's graph: errors drawn over it show how they grow. `overflowed` elements are
    infinite or NaN only in the second model, `flushed` are zero only there.
    """

    value: str
    name: str
    node: str  # node of the second model that makes it
    type: str  # that node's operator
    order: int
    elements: int
    relative: float  # L2 norm of the difference over that of the reference
    largest: float  # largest absolute difference
    at: tuple[int, ...]  # index of that element
    reference: float  # the elements there
    found: float
    magnitude: float  # largest absolute finite element of the reference
    overflowed: int
    flushed: int
    within: bool
    mismatch: str = ""  # how shape or kind differ; numbers are then infinite


@dataclass(frozen=True)
class Comparison:
    """All that was compared. `first` and so on are value ids, "" for none; `worst` at most ten, worst first."""

    format: int
    generator: str
    reference: str  # file names
    candidate: str
    ran: Where
    runtime: str  # "onnxruntime 1.31.1, NVIDIA H100" or "float16 evaluator on the CPU"
    tolerance: float
    outputs: tuple[Difference, ...]
    values: tuple[Difference, ...]
    unmatched: int  # values of the candidate with no counterpart
    first_beyond: str
    first_overflow: str
    first_flush: str
    worst: tuple[str, ...]
    within: bool
