"""Steps of an optimizer that the device itself decides to take or not, and what a skipped first step leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ampgraph.fx_module.gradients import parameters


def step_unless(bad: Tensor, optimizer: Optimizer, step: Callable[[], Any]) -> Any:  # noqa: ANN401  (step's own)
    """Take the step, then put everything back where `bad` (one element) is not 0, without reading it here.

    Costs a copy of the parameters and of the optimizer's state. The state must be there already: what a step makes for
    the first time cannot be put back.
    """
    changed = parameters(optimizer) + state_tensors(optimizer)
    with torch.no_grad():
        before = [each.detach().clone() for each in changed]
        result = step()
        for each, old in zip(changed, before, strict=True):
            torch.where(bad.to(each.device, non_blocking=True) > 0, old, each, out=each)
    return result


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Every tensor of the optimizer's state."""
    return [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]


def without_momentum(optimizer: Optimizer) -> list[Tensor]:
    """Whose momentum this step makes in torch's fused SGD, which leaves it uninitialized if it is skipped.

    Parameters may join an optimizer at any time.
    """
    groups = optimizer.param_groups if isinstance(optimizer, SGD) else []
    owners = [each for group in groups if group.get("fused") and group["momentum"] for each in group["params"]]
    return [each for each in owners if each.grad is not None and _momentum(optimizer, each) is None]


def clear_momentum(bad: Tensor, optimizer: Optimizer, owners: Sequence[Tensor]) -> None:
    """Zeros in place of momentum that a skipped first step made: the next step then begins as a first one does."""
    for buffer in (_momentum(optimizer, each) for each in owners):
        if buffer is not None:
            there = bad.to(buffer.device, non_blocking=True)
            torch.where(there > 0, torch.zeros_like(buffer), buffer, out=buffer)


def _momentum(optimizer: Optimizer, owner: Tensor) -> Tensor | None:
    found: Tensor | None = optimizer.state.get(owner, {}).get("momentum_buffer")
    return found
