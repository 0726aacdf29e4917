"""All that a loss scaler keeps on its device, in one piece: CUDA's allocator gives no less than 512 bytes at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST = 512  # bytes, of CUDA's allocator
_WORDS = 6  # of four bytes, beside the rows
ROWS = (_LEAST // 4 - _WORDS) // 2  # that fit in


@dataclass(frozen=True, eq=False)
class ScalerMemory:
    """Tensors in one memory, each with a version of its own: a write to one spoils no graph that saved another.

    `rows`: float32 [rows, 2], scale and overflow of past updates. `last`: float32 [1, 2], those of the last one, of
    which `scale` and `bad` are the two, float32 []. `one`: 1.0, float32 []. `tracker`: torch's growth tracker, int32
    []. `count`: int64 [1], updates that the device counted.
    """

    rows: Tensor
    last: Tensor
    scale: Tensor
    bad: Tensor
    one: Tensor
    tracker: Tensor
    count: Tensor

    @classmethod
    def of(cls, scale: Tensor, tracker: Tensor, rows: int) -> ScalerMemory:
        """Memory beside a scale and a tracker, which are copied in; all else is 0."""
        words = torch.zeros(2 * rows + _WORDS, device=scale.device)
        early, last, count, rest = torch.split(words, [2 * rows, 2, 2, 2])  # int64 lies on a multiple of 8 bytes
        made = cls(
            rows=early.view(rows, 2).data,
            last=last.view(1, 2).data,
            scale=last[0].data,
            bad=last[1].data,
            one=rest[0].data,
            tracker=rest[1].view(torch.int32).data,
            count=count.view(torch.int64).data,
        )
        made.scale.copy_(scale)
        made.tracker.copy_(tracker)
        made.one.fill_(1.0)
        return made
