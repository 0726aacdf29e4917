"""What a loss scaler remembers of its last steps, kept on the device so that writing it down waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ampgraph.fx_module.copies import is_capturing


@dataclass(frozen=True, slots=True)
class ScaleStep:
    """One update: its number from 0, the scale that it left, and whether an optimizer's step was skipped."""

    number: int
    scale: float
    skipped: bool


class ScaleLog:
    """The last updates: scale and found_inf of each, float32 [1, 2], in rings on the device.

    What runs as it is knows the number of its update and writes one row. A CUDA graph does not: the device counts for
    it, from the first update that is recorded, whose row and whose followers' go to a ring of their own.
    """

    def __init__(self, length: int, device: torch.device) -> None:
        self._early, self._late = torch.zeros(2, length, 2, device=device).unbind()
        self._rows = self._early.unsqueeze(1).unbind()
        self._plain = 0  # updates in the first ring
        self._count = torch.zeros(1, dtype=torch.int64, device=device)  # in the second one
        self._is_counted = False

    def write(self, last: Tensor) -> None:
        """Add an update over the oldest where a ring is full."""
        self._is_counted = self._is_counted or is_capturing()
        if self._is_counted:
            self._late.index_copy_(0, self._count.remainder(len(self._late)), last)
            self._count.add_(1)
        else:
            self._rows[self._plain % len(self._rows)].copy_(last)
            self._plain += 1

    def read(self) -> list[ScaleStep]:
        """All that is remembered, oldest first. Waits for the device."""
        length, counted = len(self._rows), int(self._count)
        rows = [*_ordered(self._early, self._plain), *_ordered(self._late, counted)][-length:]
        first = self._plain + counted - len(rows)
        return [ScaleStep(first + place, scale, found > 0) for place, (scale, found) in enumerate(rows)]


def _ordered(ring: Tensor, count: int) -> list[list[float]]:
    """The rows of a ring that so many were written to, oldest first."""
    rows: list[list[float]] = ring.tolist()
    return [rows[number % len(rows)] for number in range(max(0, count - len(rows)), count)]
