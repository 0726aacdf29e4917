"""Low-precision copies of parameters that a captured step renews once an update, for modules that offer them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class HoldsCopies(Protocol):
    """What a module offers that can compute from copies of its parameters, as traced modules do."""

    def refresh_copies(self) -> None:
        """Copy the parameters again, into the same memory."""

    def held_copies(self) -> AbstractContextManager[None]:
        """While forwards take those copies, whatever the parameters are now."""


class Held:
    """The copies of all modules within a module that offer them: nothing to do where none does, or nobody shares them.

    They are worth their memory where micro-steps share them. A step of one micro-step makes its own on the way, and
    what lies there is free again before the optimizer comes.
    """

    def __init__(self, module: nn.Module, micro_steps: int = 2) -> None:
        self._holders = _outermost(module) if micro_steps > 1 else []
        self._parameters: list[Tensor] = list(module.parameters())
        self._versions: list[int] = []

    @contextmanager
    def holding(self) -> Iterator[None]:
        """While forwards take the copies."""
        with ExitStack() as stack:
            for holder in self._holders:
                stack.enter_context(holder.held_copies())
            yield

    @property
    def are_stale(self) -> bool:
        """Whether the parameters were written by somebody else since `mark`."""
        return bool(self._holders) and self._versions != self._now()

    def refresh(self) -> None:
        """Renew the copies."""
        for holder in self._holders:
            holder.refresh_copies()

    def mark(self) -> None:
        """The copies are those of the parameters as they are now."""
        if self._holders:
            self._versions = self._now()

    def _now(self) -> list[int]:
        return [parameter._version for parameter in self._parameters]


def _outermost(module: nn.Module) -> list[HoldsCopies]:
    if isinstance(module, HoldsCopies):
        return [module]
    return [holder for child in module.children() for holder in _outermost(child)]
