"""What a loss scaler asks of an optimizer's gradients. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial
from torch.optim import Optimizer

FEW = 2**21  # elements: a GPU's memory reads and writes them in the time of a few launches
# Fused optimizers whose numbers are the same whoever divides. With SGD's gradients divided beforehand its parameters
# were a last bit apart, on one H200, from those after torch's GradScaler, which lets the kernel divide.
ROUND_ALIKE = (torch.optim.Adam, torch.optim.AdamW)
PerDevice = Mapping[torch.device, Tensor]


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """All parameters of all groups, in their order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def gradients(owners: Sequence[Tensor]) -> list[Tensor]:
    """The gradients that there are; of a sparse one its values."""
    found = [parameter.grad for parameter in owners if parameter.grad is not None]
    return [each._values() if each.is_sparse else each for each in found]


def are_few(grads: Sequence[Tensor], device: torch.device) -> bool:
    """Whether these are plain float32 tensors there, and so small that a kernel costs more than to read and write them
    once more."""
    return (
        {type(each) for each in grads} == {Tensor}
        and {each.dtype for each in grads} == {torch.float32}
        and {each.device for each in grads} == {device}
        and {each.layout for each in grads} == {torch.strided}
        and sum([each.numel() for each in grads]) <= FEW
    )


def divide(grads: list[Tensor], scale: Tensor, found: Tensor, one: Tensor) -> None:
    """Divide them in place, and set 1.0 in `found` where one is not finite then. `one`: 1.0 on their device."""
    with torch.no_grad():
        torch._foreach_div_(grads, scale)
        torch._amp_foreach_non_finite_check_and_unscale_(grads, found, one)


def non_finite(grads: Sequence[Tensor], scale: Tensor) -> dict[torch.device, Tensor]:
    """1.0 on every device that holds a gradient which is not finite once divided by `scale`, else 0.0.

    Reads each gradient once and writes none, where torch's own check writes all of them back.
    """
    found = {each.device: torch.zeros((), device=each.device) for each in _one_a_device(grads)}
    mark_non_finite(grads, found, scale)
    return found


def mark_non_finite(grads: Sequence[Tensor], found: PerDevice, scale: Tensor | None = None) -> None:
    """Set 1.0 in `found` where a gradient, divided by `scale` if there is one, is not finite; leave the rest."""
    if len(found) == 1:
        _mark(grads, next(iter(found.values())), scale)
        return
    for device, flag in found.items():
        _mark([each for each in grads if each.device == device], flag, scale)


def _one_a_device(grads: Sequence[Tensor]) -> list[Tensor]:
    return list({each.device: each for each in grads}.values())


def _mark(grads: Sequence[Tensor], found: Tensor, scale: Tensor | None) -> None:
    there = torch.ones_like(found) if scale is None else scale.to(found.device, non_blocking=True)
    if any(isinstance(each, DTensor) for each in grads):  # torch's operator asks all ranks
        _mark_by_torch([each * there.reciprocal() for each in grads], found)
    elif found.device.type == "cpu" and (scale is None or cannot_overflow(scale)):
        _mark_by_torch(grads, found)
    elif ends := _ends(grads):
        _mark_ends(ends, found, None if scale is None else there)


def cannot_overflow(scale: Tensor) -> bool:
    """Whether it is known without waiting that a division by this scale makes no finite gradient infinite."""
    return scale.device.type == "cpu" and float(scale) >= 1


def _mark_ends(ends: list[Tensor], found: Tensor, scale: Tensor | None) -> None:
    """Of these few numbers torch's operator may write what it likes: it multiplies after it has looked."""
    alike = ends if {each.dtype for each in ends} == {torch.float32} else [torch.stack(ends).float()]
    if scale is not None:
        torch._foreach_div_(alike, scale)
    torch._amp_foreach_non_finite_check_and_unscale_(alike, found, torch.ones_like(found))


def _mark_by_torch(grads: Sequence[Tensor], found: Tensor) -> None:
    """It multiplies them by 1."""
    for dtype in dict.fromkeys(each.dtype for each in grads):
        alike = [each for each in grads if each.dtype == dtype]
        torch._amp_foreach_non_finite_check_and_unscale_(alike, found, torch.ones_like(found))


def _ends(grads: Sequence[Tensor]) -> list[Tensor]:
    """Numbers among which is one of each gradient's largest magnitude; NaN where it holds a NaN."""
    filled = [each for each in grads if each.numel()]
    if filled and filled[0].device.type != "cpu":
        return list(torch._foreach_norm(filled, torch.inf))
    real = [torch.view_as_real(each) if each.is_complex() else each for each in filled]
    return [end for each in real for end in torch.aminmax(each)]  # torch's norm takes ten times as long here


def place(grad: Tensor) -> tuple[torch.device, DeviceMesh | None]:
    """Its device and, if it lies in shards, the ranks that hold them."""
    return grad.device, grad.device_mesh if isinstance(grad, DTensor) else None


def each_non_finite(grads: Sequence[Tensor], mesh: DeviceMesh | None) -> Tensor:
    """Which of these gradients, all of one place, hold a number that is not finite: bool [len(grads)], on all ranks.

    Each rank looks at its own shards, and the ranks exchange only what they found: the largest of two magnitudes, one
    of them NaN, is either, as they come.
    """
    local = [each.to_local() if isinstance(each, DTensor) else each for each in grads]
    bad = torch.isfinite(_magnitudes(local)).logical_not()
    if mesh is None:
        return bad
    return DTensor.from_local(bad.float(), mesh, [Partial("max")] * mesh.ndim).full_tensor() > 0


def _magnitudes(grads: Sequence[Tensor]) -> Tensor:
    """The largest magnitude in each gradient, float32 [len(grads)]; NaN where one holds a NaN."""
    filled, nothing = [each for each in grads if each.numel()], torch.zeros((), device=grads[0].device)
    if not filled:
        return nothing.expand(max(len(grads), 1))
    found = torch.stack(_ends(filled)).float()
    if len(found) > len(filled):
        found = found.view(len(filled), -1).abs().amax(1)
    if len(filled) == len(grads):
        return found
    each_found = iter(found.unbind())
    return torch.stack([next(each_found) if each.numel() else nothing for each in grads])
