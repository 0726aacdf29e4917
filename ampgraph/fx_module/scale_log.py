"""What a loss scaler remembers of its last steps, kept on the device so that writing it down waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScaleStep:
    """One update: its number from 0, the scale that it left, and whether an optimizer's step was skipped."""

    number: int
    scale: float
    skipped: bool


@dataclass(frozen=True)
class ScaleLog:
    """The last updates in a ring, float32 [length, 2] of scale and found_inf, and how many there were, int64 [1]."""

    ring: Tensor
    count: Tensor

    @classmethod
    def of(cls, length: int, device: torch.device) -> ScaleLog:
        """An empty one."""
        return cls(torch.zeros(length, 2, device=device), torch.zeros(1, dtype=torch.int64, device=device))

    def write(self, last: Tensor) -> None:
        """Add an update, float32 [1, 2] of scale and found_inf, over the oldest where the ring is full."""
        self.ring.index_copy_(0, self.count.remainder(len(self.ring)), last)
        self.count.add_(1)

    def read(self) -> list[ScaleStep]:
        """All that is remembered, oldest first. Waits for the device."""
        count, rows = int(self.count), self.ring.tolist()
        numbers = range(max(0, count - len(rows)), count)
        return [ScaleStep(n, rows[n % len(rows)][0], rows[n % len(rows)][1] > 0) for n in numbers]
