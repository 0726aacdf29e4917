"""Which parameter's gradient went non-finite, and where backward met it first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ampgraph.fx_module.gradients import each_non_finite, place


class Watch:
    """The names of a module's parameters, the order in which their gradients arrive, and those that were not finite.

    The flags lie on the device; only `names` waits for it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._names = {id(parameter): name for name, parameter in module.named_parameters()}
        self._flags: dict[int, Tensor] = {}  # by parameter: not finite in the last step that had an overflow
        self._arrived: dict[int, None] = {}
        self._handles: list[RemovableHandle] = [
            parameter.register_post_accumulate_grad_hook(self._arrive)  # type: ignore[no-untyped-call]
            for parameter in module.parameters()
            if parameter.requires_grad
        ]

    def remove(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()

    def note(self, owners: Sequence[Tensor], bad: Tensor) -> None:
        """Look at the gradients of a step; keep what an earlier step showed where this one had no overflow."""
        seen = [(each, each.grad) for each in owners if id(each) in self._names and each.grad is not None]
        for device, mesh in dict.fromkeys(place(grad) for _, grad in seen):
            here = [pair for pair in seen if place(pair[1]) == (device, mesh)]
            flags = each_non_finite([grad for _, grad in here], mesh)
            self._keep([owner for owner, _ in here], flags, bad.to(device, non_blocking=True) > 0)

    def names(self) -> list[str]:
        """Names of the parameters that were not finite, as backward reached them."""
        order = {key: index for index, key in enumerate(self._arrived)}
        bad = [key for key, flag in self._flags.items() if bool(flag)]
        return [self._names[key] for key in sorted(bad, key=lambda key: order.get(key, len(order)))]

    def _arrive(self, parameter: Tensor) -> None:
        self._arrived.pop(id(parameter), None)
        self._arrived[id(parameter)] = None

    def _keep(self, owners: Sequence[Tensor], flags: Tensor, bad: Tensor) -> None:
        """In place, since a CUDA graph writes to where it wrote when it was recorded."""
        for owner, flag in zip(owners, flags.unbind(), strict=True):
            kept = self._flags.setdefault(id(owner), torch.zeros_like(flag))
            kept.copy_(torch.where(bad, flag, kept))
