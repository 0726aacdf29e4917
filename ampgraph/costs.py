"""The prices that decide minimises: one table per objective, in whole units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Prices in `unit` (picoseconds, bytes or points); a missing key costs 0.

    `high` and `low`: a decision's own price in float32 and in low precision, over all runs of its scope.
    `down` and `up`: one cast of a value float32 -> low and low -> float32, for one run of the scope it is placed in.
    `keep_high` and `keep_low`: holding a constant in float32 / in low precision because some consumer wants it so.
    """

    unit: str
    high: Mapping[str, int]
    low: Mapping[str, int]
    down: Mapping[str, int]
    up: Mapping[str, int]
    keep_high: Mapping[str, int]
    keep_low: Mapping[str, int]

    def cast(self, value: str, *, to_low: bool, frequency: float) -> int:
        """Price of one cast placed in a scope that runs `frequency` times. The one place where it is rounded."""
        return round((self.down if to_low else self.up).get(value, 0) * frequency)
