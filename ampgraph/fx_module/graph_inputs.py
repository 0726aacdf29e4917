"""Inputs of a CUDA graph in the graph's own memory, which its work may use again once it has read them.

A tensor that stays alive keeps its memory from the allocator. Here nobody keeps one: the work drops its inputs when it
has read them, as a hand-written loop does, and before a replay they are written through addresses alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Blank:
    """An input to be: as large as a call's tensor and laid out like it, of a type of its own."""

    like: Tensor
    dtype: torch.dtype

    def made(self) -> Tensor:
        """Memory for it, from the allocator, with anything in it."""
        return torch.empty_like(self.like, dtype=self.dtype)


@dataclass(frozen=True)
class Place:
    """Where a dense CUDA tensor lies. Owns nothing: the memory must outlive it and what it makes."""

    address: int
    size: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Place:
        """The place of a tensor as `empty_like` makes it."""
        return cls(tensor.data_ptr(), tensor.size(), tensor.stride(), tensor.dtype, tensor.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The same memory as bytes: the interface knows no bfloat16. Version 2 of the CUDA Array Interface."""
        count = self.size.numel() * self.dtype.itemsize
        return {"shape": (count,), "typestr": "|u1", "data": (self.address, False), "version": 2}

    def tensor(self) -> Tensor:
        """A tensor there, which the allocator knows nothing of."""
        if not self.size.numel():
            return torch.empty(self.size, dtype=self.dtype, device=self.device)
        there = torch.as_tensor(self, device=self.device)
        return there.view(self.dtype).as_strided(self.size, self.stride)
