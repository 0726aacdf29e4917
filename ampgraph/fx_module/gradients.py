"""What a loss scaler asks of an optimizer's gradients. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

PerDevice = Mapping[torch.device, Tensor]


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """All parameters of all groups, in their order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradients(owners: Sequence[Tensor]) -> list[Tensor]:
    """The gradients that there are; of a sparse one its values."""
    found = [parameter.grad for parameter in owners if parameter.grad is not None]
    return [each._values() if each.is_sparse else each for each in found]


def non_finite(grads: Sequence[Tensor], factor: Tensor) -> dict[torch.device, Tensor]:
    """1.0 on every device that holds a gradient which is not finite once multiplied by `factor`, else 0.0.

    Reads each gradient once and writes none, where torch's own check writes all of them back.
    """
    found: dict[torch.device, Tensor] = {}
    for device in dict.fromkeys(each.device for each in grads):
        here = [each for each in grads if each.device == device]
        there = factor.to(device, non_blocking=True)
        if any(isinstance(each, DTensor) for each in here):  # torch's operator asks all ranks
            found[device] = _by_torch(here, there)
        else:
            worst = magnitudes(here).amax() * there
            found[device] = torch.isfinite(worst).logical_not().float()
    return found


def magnitudes(grads: Sequence[Tensor]) -> Tensor:
    """The largest magnitude in each gradient, float32 [len(grads)]; NaN where one holds a NaN."""
    filled = [each for each in grads if each.numel()]
    if not filled:
        return torch.zeros(max(len(grads), 1), device=grads[0].device)
    norms = iter(torch._foreach_norm(filled, torch.inf))
    nothing = torch.zeros((), device=grads[0].device)
    return torch.stack([next(norms).float() if each.numel() else nothing for each in grads])


def _by_torch(grads: Sequence[Tensor], factor: Tensor) -> Tensor:
    found = torch.zeros((), device=grads[0].device)
    for dtype in dict.fromkeys(each.dtype for each in grads):
        copies = [each * factor for each in grads if each.dtype == dtype]
        torch._amp_foreach_non_finite_check_and_unscale_(copies, found, torch.ones_like(factor))
    return found
