"""A training step's state as a dict: everything that decides what the next calls compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ampgraph.errors import TrainError
from ampgraph.fx_module.gradients import parameters
from ampgraph.fx_module.recipe import Recipe, clear

_VERSION = 1
_KEYS = {"version", "module", "optimizer", "scaler", "accumulate", "phase", "gradients", "random"}


def save(recipe: Recipe, phase: int) -> dict[str, Any]:
    """`phase`: calls since the last optimizer step; their gradients are in it.

    Other tensors are the live ones, as in torch's own state dicts.
    """
    return {
        "version": _VERSION,
        "module": recipe.module.state_dict(),
        "optimizer": recipe.optimizer.state_dict(),
        "scaler": recipe.scaler.state_dict() if recipe.scaler is not None else {},
        "accumulate": recipe.accumulate,
        "phase": phase,
        "gradients": [_copy(each.grad) for each in parameters(recipe.optimizer)] if phase else [],
        "random": _random_state(recipe),
    }


def load(recipe: Recipe, state: dict[str, Any]) -> int:
    """Put a saved state back; returns the phase."""
    _verify(recipe, state)
    recipe.module.load_state_dict(state["module"])
    recipe.optimizer.load_state_dict(state["optimizer"])
    if recipe.scaler is not None:
        recipe.scaler.load_state_dict(state["scaler"])
    clear(recipe, keep=False)
    for owner, grad in zip(parameters(recipe.optimizer), state["gradients"], strict=False):
        owner.grad = None if grad is None else grad.to(owner.device, copy=True)
    torch.set_rng_state(state["random"]["cpu"].cpu())
    for index, generator in zip(_cuda_devices(recipe), state["random"]["cuda"], strict=False):
        torch.cuda.set_rng_state(generator.cpu(), index)
    return int(state["phase"])


def _verify(recipe: Recipe, state: dict[str, Any]) -> None:
    place = "load_state_dict"
    if not isinstance(state, dict) or set(state) != _KEYS or state["version"] != _VERSION:
        raise TrainError(
            place, "is given what no TrainStep of this version saved", "load what step.state_dict() returned"
        )
    enabled = recipe.scaler is not None and recipe.scaler.is_enabled()
    if bool(state["scaler"]) != enabled:
        had, has = ("a", "none") if state["scaler"] else ("no", "one")
        fact = f"is given the state of a step with {had} loss scaler, and this step has {has}"
        raise TrainError(place, fact, "make the step of the same parts as the one that was saved")
    if state["accumulate"] != recipe.accumulate and state["phase"]:
        fact = f"is given a state amid {state['accumulate']} micro-steps, and this step makes {recipe.accumulate}"
        raise TrainError(place, fact, "make the step with the same accumulate")


def _copy(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else grad.detach().clone()


def _cuda_devices(recipe: Recipe) -> list[int]:
    devices = {each.device for each in recipe.module.parameters() if each.device.type == "cuda"}
    return sorted(device.index or 0 for device in devices)


def _random_state(recipe: Recipe) -> dict[str, Any]:
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(index) for index in _cuda_devices(recipe)],
    }
