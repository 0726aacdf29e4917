"""Steps of an optimizer that the device itself decides to take or not, and what a skipped first step leaves behind."""

from __future__ import annotations

from collections.abc import Callable
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


def has_no_momentum_yet(optimizer: Optimizer) -> bool:
    """Whether this step makes the momentum of torch's fused SGD, which leaves it uninitialized if it is skipped."""
    first = isinstance(optimizer, SGD) and not optimizer.state
    return first and any(group.get("fused") for group in optimizer.param_groups)


def clear_momentum(bad: Tensor, optimizer: Optimizer) -> None:
    """Zeros in place of momentum that a skipped first step made: the next step then begins as a first one does."""
    for buffer in state_tensors(optimizer):
        there = bad.to(buffer.device, non_blocking=True)
        torch.where(there > 0, torch.zeros_like(buffer), buffer, out=buffer)
