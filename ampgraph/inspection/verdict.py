"""What a comparison comes to: the first values that are off, the worst ten, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ampgraph.inspection.comparison import Difference

WORST = 10
Moment = tuple[float, ...]  # sorts by time


@dataclass(frozen=True, slots=True)
class Moments:
    """When a value went beyond the tolerance or overflowed, and when it flushed to zero."""

    off: Moment
    flushed: Moment


@dataclass(frozen=True)
class Verdict:
    """The parts of a `Comparison` that follow from its differences."""

    outputs: tuple[Difference, ...]
    values: tuple[Difference, ...]
    first_beyond: str
    first_overflow: str
    first_flush: str
    worst: tuple[str, ...]
    within: bool


def judge(
    outputs: Iterable[Difference],
    values: Iterable[Difference],
    casts: Collection[str],
    moments: Mapping[str, Moments],
) -> Verdict:
    """Sort the values and find what is worth naming.

    `casts`: values that only repeat another. `moments`: when each value went wrong, by its id.
    """
    ordered, given = tuple(sorted(values, key=lambda value: value.order)), tuple(outputs)
    by_time = sorted(ordered, key=lambda value: moments[value.value].off)
    by_flush = sorted(ordered, key=lambda value: moments[value.value].flushed)
    return Verdict(
        given,
        ordered,
        _first(by_time, lambda value: not value.within),
        _first(by_time, lambda value: value.overflowed > 0),
        _first(by_flush, lambda value: value.flushed > 0),
        _worst([value for value in ordered if value.value not in casts]),
        all(output.within for output in given),
    )


def _first(values: list[Difference], is_so: Callable[[Difference], bool]) -> str:
    return next((value.value for value in values if is_so(value)), "")


def _worst(values: list[Difference]) -> tuple[str, ...]:
    """Mismatches, then overflows, then the largest relative errors; none that has no error."""
    off = [value for value in values if value.relative > 0 or not value.within]
    off.sort(key=lambda value: (bool(value.mismatch), value.overflowed > 0, value.relative), reverse=True)
    return tuple(value.value for value in off[:WORST])
