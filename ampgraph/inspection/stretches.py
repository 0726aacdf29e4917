"""Stretches: many neighbours in a row, cut into few groups where the fewest values cross the cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

MOST = 60  # children that a module may have before they are grouped
GROUPS = 24  # groups that such a module gets at most
SLACK = 0.35  # of a group's length: how far a cut may move to a narrower place


@dataclass(frozen=True, slots=True)
class Stretch:
    """Items `first` up to `end` (exclusive) in a row, in `parts` where there are too many to stand side by side."""

    first: int
    end: int
    parts: tuple[Stretch, ...] = ()


def group(count: int, flows: Iterable[tuple[int, int]]) -> tuple[Stretch, ...]:
    """Groups for `count` items, none where so many may stand side by side.

    `flows`: (earlier, later) pairs of items, where the later one reads what the earlier one makes.
    """
    widths = crossings(count, flows)
    return _parts(0, count, widths)


def crossings(count: int, flows: Iterable[tuple[int, int]]) -> list[int]:
    """By place: how many values are made before that item and read at it or later."""
    last: dict[int, int] = {}
    for made, read in flows:
        if made < read:
            last[made] = max(read, last.get(made, 0))
    steps = [0] * (count + 1)
    for made, read in last.items():
        steps[made + 1] += 1
        steps[min(read, count - 1) + 1] -= 1
    return list(accumulate(steps))


def _parts(first: int, end: int, widths: Sequence[int]) -> tuple[Stretch, ...]:
    length = end - first
    if length <= MOST:
        return ()
    parts = min(GROUPS, -(-length // GROUPS))
    cuts = [first, *(_narrowest(first + length * n / parts, length / parts, widths) for n in range(1, parts)), end]
    return tuple(Stretch(start, stop, _parts(start, stop, widths)) for start, stop in pairwise(cuts))


def _narrowest(ideal: float, length: float, widths: Sequence[int]) -> int:
    reach = int(length * SLACK)
    places = range(round(ideal) - reach, round(ideal) + reach + 1)
    return min(places, key=lambda place: (widths[place], abs(place - ideal)))
