"""The types in which a recorded step may hold its inputs: those in which the module first reads them.

A float32 batch that a traced module does nothing with but cast it is held in low precision: half the memory, and the
cast is what copies it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from ampgraph.fx_module.recipe import Recipe, arguments_of
from ampgraph.fx_module.signature import Layout


@runtime_checkable
class SaysHowItReads(Protocol):
    """What a module offers that can take an argument in the type that it would cast it to, as traced modules do."""

    def read_types(self, *args: Any, **kwargs: Any) -> list[tuple[Any, torch.dtype]]:  # noqa: ANN401
        """Each argument that may come in a lower type, with that type. The arguments may be anything."""


@dataclass(frozen=True, eq=False)
class _Mark:
    """Stands for a tensor of a call."""

    place: int


def read_types(recipe: Recipe, layout: Layout) -> list[torch.dtype]:
    """For each tensor of a call the type in which a recorded step may hold it."""
    found = [tensor.dtype for tensor in layout.tensors]
    if isinstance(recipe.module, SaysHowItReads):
        call = layout.rebuilt([_Mark(place) for place in range(len(found))])
        args, kwargs = arguments_of(recipe, call)
        for mark, dtype in recipe.module.read_types(*args, **kwargs):
            if isinstance(mark, _Mark):
                found[mark.place] = dtype
    return found
