"""Parameters that lie in one memory, and copies of them that lie in one, at the same places.

torch lays the weights of a recurrent network out in one buffer, in the order that cuDNN reads them in
(`torch.nn.RNNBase.flatten_parameters`). Low copies that lie apart would be gathered anew in every call, with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_SHARE = 0.5  # of a buffer that its parameters cover at least: what else lies there gets room in the copies' too


def sharing(places: Sequence[int], kinds: Sequence[tuple[Tensor, torch.dtype]]) -> list[list[int]]:
    """Places of those that share a buffer and mean to have the same type, buffer by buffer."""
    found: dict[Any, list[int]] = {}
    held: dict[Any, tuple[int, int]] = {}
    for place, (source, dtype) in zip(places, kinds, strict=True):
        whole = _buffer_bytes(source)
        if whole <= source.nbytes:
            continue
        key = source.untyped_storage().data_ptr(), dtype, source.dtype, source.device, source.requires_grad
        found.setdefault(key, []).append(place)
        held[key] = whole, held.get(key, (0, 0))[1] + source.nbytes
    return [found[key] for key, (whole, covered) in held.items() if len(found[key]) > 1 and _SHARE * whole <= covered]


def _buffer_bytes(source: Tensor) -> int:
    return source.untyped_storage().nbytes() if source.layout is torch.strided else 0


def blank_copies(sources: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """A tensor for the copy of each source, not yet written: those of one buffer in one, where they lie in it.

    No view of the buffer, whose autograd would take what is written to one for written to all.
    """
    buffers: dict[int, torch.UntypedStorage] = {}
    made = []
    for source in sources:
        key = source.untyped_storage().data_ptr()
        blank = torch.empty(0, dtype=dtype, device=source.device)
        if key not in buffers:
            elements = _buffer_bytes(source) // source.itemsize
            buffers[key] = torch.empty(elements, dtype=dtype, device=source.device).untyped_storage()
        made.append(blank.set_(buffers[key], source.storage_offset(), source.shape, source.stride()))
    return made
