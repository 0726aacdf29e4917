"""Example: what is kept of the example arguments, to capture other modes with later: sizes, not numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ampgraph.tracing import Arguments


@dataclass(frozen=True, eq=False)
class Example:
    """Arguments whose tensors are of the meta device."""

    _shells: Any

    @classmethod
    def of(cls, arguments: Arguments) -> Example:
        """The shell of real arguments."""
        return cls(pytree.tree_map_only(Tensor, _shell, arguments))

    def arguments(self, device: torch.device) -> Arguments:
        """Arguments of the same sizes and types on a device, filled with zeros."""
        found: Arguments = pytree.tree_map_only(Tensor, lambda each: _filled(each, device), self._shells)
        return found

    def __deepcopy__(self, memo: dict[int, object]) -> Example:
        return self


def _shell(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _filled(shell: Tensor, device: torch.device) -> Tensor:
    return torch.zeros_like(shell, device=device)
