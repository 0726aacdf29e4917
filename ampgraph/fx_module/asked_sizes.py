"""Asked sizes: what a module's Python wants to know about free sizes while it is traced, and what it was told.

A tracer takes for granted that a free size is neither 0 nor 1, and leaves no guard where a branch depends on that.
Torch's own operations ask, too, and decide again when a graph runs; the module's branches are decided once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.export import ExportedProgram

from ampgraph import intercept
from ampgraph.user_code import is_user_code

_TORCH = Path(torch.__file__).parent
_PASS_ON = (__file__, str(intercept.__file__), str(_TORCH / "__init__.py"))  # torch's defines numbers of unknown size
_OF_MODULES = (str(_TORCH / "nn"), str(_TORCH / "functional.py"))  # Python that runs once, as the user's does

Condition = Any  # a sympy expression over the names of free sizes


@contextmanager
def noted_answers() -> Iterator[list[Condition]]:
    """A list that holds, once the context is left, what the module was told: conditions on free sizes, all true."""
    answers: dict[Condition, Any] = {}
    found: list[Condition] = []
    plain: Callable[..., bool] = torch.SymBool.__bool__

    def ask(question: torch.SymBool) -> bool:
        condition = question.node.expr  # before a guard replaces names in it
        answer = plain(question)
        if _is_asked_by_the_module():
            answers[condition if answer else sympy.Not(condition)] = question.node.shape_env
        return answer

    with intercept.intercepted(torch.SymBool, "__bool__", plain, ask):
        yield found
    settled = (environment.replace(each) for each, environment in answers.items())
    found.extend(each for each in settled if each.free_symbols)


def _is_asked_by_the_module() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename in _PASS_ON:
        frame = frame.f_back
    file = frame.f_code.co_filename if frame is not None else "<nobody>"
    return file.startswith(_OF_MODULES) or is_user_code(file)


def hold_for_one(conditions: Sequence[Condition]) -> bool:
    """Whether a batch of one would have been told the same."""
    told = [each.subs(dict.fromkeys(each.free_symbols, 1)) for each in conditions]
    return sympy.false not in told


def not_one(program: ExportedProgram) -> list[Condition]:
    """That no free size is one: for a program that was made without running the module's Python."""
    vals = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
    sizes: list[Any] = [size for val in vals if isinstance(val, torch.Tensor) for size in val.shape]
    free = {size.node.expr for size in sizes if isinstance(size, torch.SymInt)}
    return [sympy.Ne(each, 1) for each in free if each.free_symbols]
