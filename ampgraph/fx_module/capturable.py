"""Which optimizers a CUDA graph can hold, and how what their schedulers change reaches the graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from ampgraph.errors import TrainError
from ampgraph.fx_module.loss_scaler import LossScaler

# With capturable=True they still read a learning rate that is a tensor on the host, unless foreach=True.
_ONLY_FOREACH = frozenset({"ASGD", "Adadelta", "RMSprop"})
_CAPTURABLE = frozenset({"ASGD", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"})
_FUSED = frozenset({"Adam", "AdamW", "SGD"})
_NOT_HYPERPARAMETERS = frozenset({"params", "param_names", "lr", "initial_lr"})


def verify(optimizer: Optimizer, scaler: GradScaler | None) -> None:
    """Raise TrainError unless the optimizer's step waits for nothing, so that a CUDA graph can hold it."""
    name = type(optimizer).__name__
    for group in optimizer.param_groups:
        if group.get("differentiable"):
            raise TrainError(name, "with differentiable=True cannot be captured", "leave differentiable out")
        if group.get("fused"):
            continue
        if not group.get("capturable"):
            raise TrainError(name, "cannot be captured as it is: its step reads the device", _remedy(name))
        if name in _ONLY_FOREACH and group.get("foreach") is False:
            fact = "with foreach=False reads its learning rate from the device"
            raise TrainError(name, fact, f"make it {name}(..., capturable=True, foreach=True)")
        if scaler is not None and scaler.is_enabled() and not isinstance(scaler, LossScaler):
            fact = f"asks the host whether to skip a step of {name}"
            raise TrainError("torch.amp.GradScaler", fact, "use ampgraph.LossScaler, which lets the device decide")


def _remedy(name: str) -> str:
    way = f"make it {name}(..., fused=True)" if name in _FUSED else ""
    if name in _CAPTURABLE - _FUSED:
        way = f"make it {name}(..., capturable=True, foreach=True)"
    other = "build the step with capture=False"
    return f"{way}, or {other}" if way else f"{other}, or use AdamW(..., fused=True) or SGD(..., fused=True)"


def hyperparameters(optimizer: Optimizer, scaler: GradScaler | None) -> tuple[Any, ...]:
    """What a recorded step holds as numbers: all but the learning rate. Tensors count as themselves, not by value."""
    groups = [
        tuple((key, _name(value)) for key, value in group.items() if key not in _NOT_HYPERPARAMETERS)
        for group in optimizer.param_groups
    ]
    return (*groups, _settings(scaler))


def _name(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        return "tensor", id(value)
    return tuple(map(_name, value)) if isinstance(value, tuple | list) else value


def _settings(scaler: GradScaler | None) -> tuple[float, ...]:
    if scaler is None or not scaler.is_enabled():
        return ()
    return scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()


def has_hooks(optimizer: Optimizer) -> bool:
    """Whether a step runs Python of the user's, which a replay would not."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


class Rates:
    """The learning rates as tensors on the device, one a group, at addresses that never change.

    The optimizer's groups keep what the user and the schedulers put there; only inside `in_place` do they hold these.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self._device = device
        self._buffers: list[Tensor] = []
        self._values: list[float | None] = []

    def load(self) -> None:
        """Copy the groups' learning rates in, without waiting; those that did not change cost nothing."""
        for index, group in enumerate(self._optimizer.param_groups):
            if index == len(self._buffers):
                self._buffers.append(torch.zeros((), device=self._device))
                self._values.append(None)
            rate = group["lr"]
            if isinstance(rate, Tensor) and rate.device.type != "cpu":
                self._buffers[index].copy_(rate.reshape(()))
                self._values[index] = None
            elif self._values[index] != (value := float(rate)):
                self._buffers[index].fill_(value)
                self._values[index] = value

    @contextmanager
    def in_place(self, *, recording: bool = False) -> Iterator[None]:
        """While the optimizer reads these tensors. `recording`: while fused optimizers pass for capturable, as they
        are: torch asks them for the flag."""
        groups = self._optimizer.param_groups
        before = [dict(group) for group in groups]
        self._optimizer._warned_capturable_if_run_uncaptured = True
        try:
            for group, buffer in zip(groups, self._buffers, strict=True):
                group["lr"] = buffer
                if recording and "capturable" in group:
                    group["capturable"] = True
            yield
        finally:
            for group, kept in zip(groups, before, strict=True):
                group.update({key: kept[key] for key in ("lr", "capturable") if key in kept})
