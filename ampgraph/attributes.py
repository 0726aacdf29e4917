"""Plain tensor attributes of a module, which torch.export reads and writes as they are.

Parameters and buffers it replaces by fake tensors while it runs a forward; what else a module holds it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_REGISTERED = ("_parameters", "_buffers", "_modules")


@contextmanager
def unwritten(module: nn.Module) -> Iterator[None]:
    """Put back what is written into such tensors within."""
    kept = [(each, each._version, each.detach().clone()) for each in _plain(module)]
    try:
        yield
    finally:
        for tensor, version, before in kept:
            if tensor._version != version:
                with torch.no_grad():
                    tensor.copy_(before)


def _plain(module: nn.Module) -> list[Tensor]:
    """Each once: as attributes, and in lists and dictionaries that are attributes."""
    held = [value for each in module.modules() for name, value in vars(each).items() if name not in _REGISTERED]
    found = {id(each): each for each in pytree.tree_leaves(held) if isinstance(each, Tensor)}
    return [each for each in found.values() if not each.is_inference()]  # those count no versions
