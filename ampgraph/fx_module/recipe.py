"""A training step as plain PyTorch: what runs on the CPU, and what a CUDA graph records."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from ampgraph.errors import OptionError, TrainError
from ampgraph.fx_module.gradients import parameters

Clip = float | Callable[[list[Tensor]], Any] | None


@runtime_checkable
class KnowsSeed(Protocol):
    """What a scaler offers that can say what comes of the product with its scale, as ampgraph's does."""

    def seed(self, loss: Tensor) -> Tensor | None:
        """The gradient of a loss that is scaled, or None."""


@dataclass(frozen=True)
class Recipe:
    """What a step is made of. `accumulate`: so many calls share one step of the optimizer."""

    module: nn.Module
    loss_fn: Callable[..., Tensor] | None
    optimizer: Optimizer
    scaler: GradScaler | None = None
    clip: Clip = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise OptionError(f"accumulate={self.accumulate}", "is no number of micro-steps", "give 1 or more")
        if isinstance(self.clip, int | float) and not self.clip > 0:
            raise OptionError(f"clip={self.clip}", "is no gradient norm", "give more than 0, or None")
        if self.scaler is not None and not isinstance(self.scaler, GradScaler):
            fact = f"{type(self.scaler).__name__} is no torch.amp.GradScaler"
            raise OptionError("scaler", fact, "give an ampgraph.LossScaler, or None")
        if _needs_closure(self.optimizer):
            place = type(self.optimizer).__name__
            fact = "asks for the loss as often as it likes, and a step computes it once"
            raise OptionError(
                place, fact, "write the loop by hand: optimizer.step(closure), with the traced module in it"
            )


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Call:
    """The arguments of one call: the module's inputs and the loss's targets."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def forward_backward(recipe: Recipe, call: Call) -> Tensor:
    """Add this call's share of the gradients, scaled where there is a scaler; returns its own loss, detached.

    Inputs that nobody else holds are gone when backward has read them.
    """
    loss = _loss(recipe, call)
    del call
    share = loss / recipe.accumulate if recipe.accumulate > 1 else loss
    _backward(share, recipe.scaler)
    return loss.detach()


def _backward(loss: Tensor, scaler: GradScaler | None) -> None:
    """From the loss times the scale; the product itself is left out where the scaler knows what comes of it."""
    seed = scaler.seed(loss) if isinstance(scaler, KnowsSeed) else None
    scaled = loss if scaler is None or seed is not None else scaler.scale(loss)
    scaled.backward(seed)  # type: ignore[no-untyped-call]


def update(recipe: Recipe) -> None:
    """Unscale, clip, step and update the scale, as a hand-written loop does. Gradients are left as they are."""
    scaler, optimizer = recipe.scaler, recipe.optimizer
    if recipe.clip is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        _clip(recipe.clip, parameters(optimizer))
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def clear(recipe: Recipe, *, keep: bool) -> None:
    """No gradients; with `keep` zeros in those that there are, which stay where they are in memory."""
    owners = {id(each): each for each in (*recipe.module.parameters(), *parameters(recipe.optimizer))}
    if not keep:
        for owner in owners.values():
            owner.grad = None
        return
    grads = [owner.grad for owner in owners.values() if owner.grad is not None]
    if grads:
        torch._foreach_zero_(grads)


def give_up(recipe: Recipe, *, keep: bool) -> None:
    """After a call that failed: nothing is left of it for the next, nor of micro-steps it was to be summed with."""
    clear(recipe, keep=keep)
    forget_checks(recipe)


def forget_checks(recipe: Recipe) -> None:
    """The scaler's notes of a step that was begun and never made."""
    if recipe.scaler is not None and recipe.scaler.is_enabled():
        recipe.scaler._per_optimizer_states.clear()
    for name in ("grad_scale", "found_inf"):
        if hasattr(recipe.optimizer, name):
            delattr(recipe.optimizer, name)


def _clip(clip: float | Callable[[list[Tensor]], Any], owners: list[Tensor]) -> None:
    if callable(clip):
        clip(owners)
    else:
        nn.utils.clip_grad_norm_(owners, clip)


def _loss(recipe: Recipe, call: Call) -> Tensor:
    if recipe.loss_fn is None:
        loss = own_loss(recipe.module(*call.args, **call.kwargs))
    else:
        if not call.args:
            raise TrainError("step()", "got no inputs", "call step(inputs, *targets)")
        inputs, *targets = call.args
        loss = recipe.loss_fn(output_of(recipe.module, inputs, call.kwargs), *targets)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        shape = (
            f"of shape {tuple(loss.shape)}, {loss.dtype}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        )
        raise TrainError("loss", f"is {shape}, not one floating-point number", "return its mean or sum from loss_fn")
    if not loss.requires_grad:
        raise TrainError("loss", "depends on no parameter that requires a gradient", "check requires_grad and detach")
    return loss


def output_of(module: nn.Module, inputs: Any, kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401  (the module's own)
    """What the module makes of its inputs: a tuple of them, a dict by name, or a single one."""
    args, named = _unpacked(inputs, kwargs)
    return module(*args, **named)


def arguments_of(recipe: Recipe, call: Call) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """What of a call the module gets. There may be anything in place of tensors."""
    if recipe.loss_fn is None or not call.args:
        return call.args, call.kwargs
    return _unpacked(call.args[0], call.kwargs)


def _unpacked(inputs: Any, kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:  # noqa: ANN401
    if isinstance(inputs, tuple):
        return inputs, kwargs
    if isinstance(inputs, Mapping):
        return (), {**inputs, **kwargs}
    return (inputs,), kwargs


def own_loss(output: Any) -> Any:  # noqa: ANN401
    """The loss in what a module returns: itself, `.loss`, ["loss"], or the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and "loss" in output:
        return output["loss"]
    if isinstance(output, Sequence) and output:
        return output[0]
    return getattr(output, "loss", output)
