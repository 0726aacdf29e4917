"""Turns: a value in a body is computed once each time that the body runs, at some step of every loop around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ampgraph.onnx_model.run import Array


@dataclass(frozen=True, slots=True)
class Turn:
    """One time that a value was computed: the step of every loop around it, the outermost first, and its shape."""

    shape: tuple[int, ...]
    steps: tuple[int, ...] = ()


Turns = tuple[Turn, ...]


def read_turns(numbers: Array) -> Turns:
    """Turns from a flat list: -1 for a step of the outermost loop, -2 of one in it, else a rank and as many sizes."""
    listed, start = numbers.tolist(), 0
    steps: list[int] = []
    turns = []
    while start < len(listed):
        level, end = -listed[start], start + 1 + max(listed[start], 0)
        if level > 0:
            steps = [*steps[: level - 1], steps[level - 1] + 1 if level <= len(steps) else 0]
        else:
            turns.append(Turn(tuple(listed[start + 1 : end]), tuple(steps)))
        start = end
    return tuple(turns)


def elements(turns: Turns) -> int:
    """Elements in all of them."""
    return sum(prod(turn.shape) for turn in turns)


def index_of(flat: int, turns: Turns) -> tuple[int, ...]:
    """Steps, then index in the tensor, of an element of the turns laid flat one after the other."""
    for turn in turns:
        size = prod(turn.shape)
        if flat < size:
            return (*turn.steps, *(int(index) for index in np.unravel_index(flat, turn.shape) if turn.shape))
        flat -= size
    return ()


def unlike(reference: Turns, candidate: Turns) -> str:
    """How turns differ, in words."""
    if len(reference) != len(candidate):
        return f"computed {len(candidate)} times instead of {len(reference)}"
    first, second = next(pair for pair in zip(reference, candidate, strict=True) if pair[0] != pair[1])
    if first.shape == second.shape:
        return f"computed at step {_spelled(second.steps, ', ')} instead of {_spelled(first.steps, ', ')}"
    return f"shape {_spelled(second.shape, 'x')} instead of {_spelled(first.shape, 'x')}"


def _spelled(numbers: Sequence[int], between: str) -> str:
    return between.join(map(str, numbers)) or "scalar"
