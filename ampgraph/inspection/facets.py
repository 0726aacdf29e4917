"""Facets: what a file or a torch module says of itself besides its PrecisionGraph, for people who look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Shape = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an op stands in the tree of modules, from the outermost in. `types` has as many entries, or none."""

    path: tuple[str, ...]
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a conversion wrote into a node: reasons by type variable, "" for the first one's, and what settled it."""

    reasons: Mapping[str, str]
    cause: str = ""
    rule: str = ""

    def of(self, variable: str) -> str:
        """What it says of a type variable: "float32: REASON"."""
        return self.reasons.get(variable) or self.reasons.get("", "")


@dataclass(frozen=True)
class Facets:
    """By op id `places`, `origins` (names that a fused op stands for), `casts` (ops that are casts of ours -> the value
    that they cast) and `recorded`; by value id `samples` (first elements of constants) and `shapes` (with names for
    free dimensions). `outputs`: names of graph outputs, each with its value.
    """

    outputs: tuple[tuple[str, str], ...]
    places: Mapping[str, Place] = field(default_factory=dict)
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    casts: Mapping[str, str] = field(default_factory=dict)
    recorded: Mapping[str, Recorded] = field(default_factory=dict)
