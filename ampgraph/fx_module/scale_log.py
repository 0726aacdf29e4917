"""What a loss scaler remembers of its last steps, kept on the device so that writing it down waits for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ampgraph.fx_module.copies import is_capturing


@dataclass(frozen=True, slots=True)
class ScaleStep:
    """One update: its number from 0, the scale that it left, and whether an optimizer's step was skipped."""

    number: int
    scale: float
    skipped: bool


class ScaleLog:
    """The last updates: scale and found_inf of each, float32 [1, 2], in a ring on the device.

    `rows`: the ring, float32 [length, 2]; `count`: int64 [1], 0. What runs as it is knows the number of its update. A
    CUDA graph does not: from the first update that is recorded on the device counts for it, and for all that follow.
    """

    def __init__(self, rows: Tensor, count: Tensor) -> None:
        self._rows, self._count = rows, count
        self._each = rows.unsqueeze(1).unbind()
        self._plain = 0  # updates before the device counts
        self._is_counted = False

    def write(self, last: Tensor) -> None:
        """Add an update over the oldest where the ring is full."""
        self._is_counted = self._is_counted or is_capturing()
        if self._is_counted:
            self._rows.index_copy_(0, self._count.add(self._plain).remainder_(len(self._rows)), last)
            self._count.add_(1)
        else:
            self._each[self._plain % len(self._each)].copy_(last)
            self._plain += 1

    def read(self) -> list[ScaleStep]:
        """All that is remembered, oldest first. Waits for the device."""
        rows: list[list[float]] = self._rows.tolist()
        total = self._plain + int(self._count)
        numbers = range(max(0, total - len(rows)), total)
        return [ScaleStep(number, rows[number % len(rows)][0], rows[number % len(rows)][1] > 0) for number in numbers]
