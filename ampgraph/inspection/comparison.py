"""Comparison: two models' values side by side, as plain data. `compare --json` writes it, the page overlays it.

Ids are those of `document.Node` and `document.Value` of the second model, so that a page of it can be coloured by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FORMAT = 2

Where = Literal["cuda", "evaluator"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One value of both models. Norms over the elements that are finite in both; the reference is the first model.

    `order` counts along the second model's graph, the values of a body before what its owner makes of them: errors
    drawn over it show how they grow. `overflowed` elements are infinite or NaN only in the second model. `flushed` are
    zero only there, in a low precision whose smallest number is above them. `clamped` are beyond the low precision in
    one model and near its end in the other, as mask constants are; norms leave them out.
    `at` begins with the step of every loop around the value, or with the position in a sequence.
    """

    value: str
    name: str
    node: str  # node of the second model that makes it
    type: str  # that node's operator
    order: int
    elements: int
    relative: float  # L2 norm of the difference over that of the reference
    largest: float  # largest absolute difference
    at: tuple[int, ...]  # index of that element; of the first that is finite in one alone, where there is any
    reference: float  # the elements there
    found: float
    magnitude: float  # largest absolute finite element of the reference
    overflowed: int
    flushed: int
    within: bool
    mismatch: str = ""  # how shape or kind differ, numbers are then infinite; or what is finite only in the second
    clamped: int = 0
    flushed_at: tuple[int, ...] = ()  # index of the first flushed element


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about a first value. `keep`: nodes of the second model that would have to stay float32."""

    value: str
    why: str  # the reason that the conversion recorded for the node's precision, "" for none
    keep: tuple[str, ...]
    remedy: str  # a sentence or a command


@dataclass(frozen=True)
class Comparison:
    """All that was compared. `first` and so on are value ids, "" for none; `worst` at most ten, worst first.

    `inputs` says where they come from, `shapes` what shapes they had, by name; a sequence or text has none.
    `within` judges the outputs: an inner value may differ, as the difference of two close numbers does, and answers be
    right. A cast that repeats a value is not among the worst.
    """

    format: int
    generator: str
    reference: str  # file names
    candidate: str
    ran: Where
    runtime: str  # "onnxruntime 1.31.1 on CUDA (NVIDIA H100), ..." or "float16 evaluator on the CPU ..."
    inputs: str  # "generated", "given", or the name of the file that they are from
    shapes: Mapping[str, tuple[int, ...]]
    tolerance: float
    outputs: tuple[Difference, ...]
    values: tuple[Difference, ...]
    unmatched: int  # values of the candidate with no counterpart
    first_beyond: str
    first_overflow: str
    first_flush: str
    worst: tuple[str, ...]
    within: bool
    advice: tuple[Advice, ...] = ()  # of the first values
    notes: tuple[str, ...] = ()  # what was not compared

    def __str__(self) -> str:
        """The report that the command prints."""
        from ampgraph.inspection.comparison_text import to_text

        return to_text(self)

    def _repr_html_(self) -> str:
        from ampgraph.inspection.comparison_table import comparison_table

        return comparison_table(self)
