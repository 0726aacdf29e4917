"""`ampgraph.TrainStep`: a whole training step in one call, on a GPU as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from ampgraph.errors import TrainError
from ampgraph.fx_module import checkpoint
from ampgraph.fx_module.captured import Captured
from ampgraph.fx_module.recipe import Call, Clip, Recipe, clear, forward_backward, give_up, update
from ampgraph.fx_module.recorder import CudaRecorder, Recorder
from ampgraph.fx_module.signature import verify_alone, verify_module


class TrainStep:
    """Forward, backward, unscale, check, clip, optimizer and scale update in one call: `loss = step(inputs, *targets)`.

    - `module`: any module, traced by ampgraph or not. A tuple of inputs is unpacked into its arguments, a dict into
      named ones; further named arguments go to it as they are.
    - `loss_fn(output, *targets)`: one number. None: the module returns its own loss, given all arguments: the loss
      itself, in `.loss`, under "loss", or as the first of a tuple.
    - `scaler`: an `ampgraph.LossScaler` where float16 is in play.
    - `clip`: the gradients' largest norm, or a function of the list of parameters, called on unscaled gradients.
    - `accumulate`: so many calls share one optimizer step, on the mean of their losses.

    On a GPU all of it becomes one CUDA graph a shape of inputs, without a wait for the device: the first call of a
    shape runs as it is and is a step like any other, the second is recorded. Learning rates may be numbers or tensors
    and may change between calls; when other settings of the optimizer change all the time (a cycled momentum) or it
    has hooks, its step follows the graph. What is Python in forward and backward, hooks of modules and tensors among
    it, runs when a graph is recorded, not when it is replayed. `capture=False`, and the CPU: the plain loop, which is
    also the one for modules under DDP or FSDP. A `Recorder` in its place records on any device.

    The step owns the gradients: it clears them when it is done, so `.grad` is None after it, and where gradients are
    accumulated, or the optimizer follows the graph, what is in it between calls is neither to be read nor written. In a
    graph they lie in its own memory, where activations lay before; so does the copy of its inputs that it reads, in low
    precision where a traced module does nothing with one but cast it. A call that raises leaves no gradient behind:
    micro-steps before it are forgotten, and the next call begins a step. Beside what the plain loop takes, cuBLAS has a
    workspace for a captured step's stream (tens of MiB, one for all steps of a thread). The returned loss is detached.

    Raises TrainError for what cannot be trained or captured, OptionError for settings that mean nothing.
    """

    def __init__(
        self,
        module: nn.Module,
        loss_fn: Callable[..., Tensor] | None,
        optimizer: Optimizer,
        scaler: GradScaler | None = None,
        clip: Clip = None,
        accumulate: int = 1,
        *,
        capture: bool | Recorder = True,
    ) -> None:
        self._recipe = Recipe(module, loss_fn, optimizer, scaler, clip, accumulate)
        self._capture = capture
        self._captured: Captured | None = None
        self._begun = False
        self._phase = 0  # calls since the last optimizer step

    @property
    def recipe(self) -> Recipe:
        """What the step is made of."""
        return self._recipe

    @property
    def captured(self) -> Captured | None:
        """The CUDA graphs; None where there are none, as on a CPU."""
        return self._captured

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401  (the module's and the loss's)
        """One call; every `accumulate`th steps the optimizer. Returns the call's loss, detached, on the device."""
        if not torch.is_grad_enabled():
            raise TrainError("step()", "is called where gradients are off", "take it out of no_grad or inference_mode")
        if not self._begun:
            self._begin()
        last = self._phase + 1 == self._recipe.accumulate
        try:
            loss = self._run(Call(args, kwargs), last)
        except BaseException:
            self._give_up()
            raise
        self._phase = 0 if last else self._phase + 1
        if last:
            self._recipe.optimizer._opt_called = True  # type: ignore[attr-defined]  # schedulers warn without it
        return loss

    def state_dict(self) -> dict[str, Any]:
        """All that the step holds, to resume bit for bit: module, optimizer, scaler, gradients so far, random state.

        Schedulers and data loaders have their own. Waits for the device.
        """
        return checkpoint.save(self._recipe, self._phase)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`, in a step that is made of the same parts. Raises TrainError for another's state."""
        self._phase = checkpoint.load(self._recipe, state)
        if not self._begun:
            self._open()
        elif self._captured is not None:
            self._captured.forget()

    def _begin(self) -> None:
        clear(self._recipe, keep=False)
        self._open()

    def _open(self) -> None:
        device = verify_module(self._recipe.module)
        if self._capture is True and device.type == "cuda":
            verify_alone(self._recipe.module)
            self._captured = Captured(self._recipe, CudaRecorder(device), device)
        elif not isinstance(self._capture, bool):
            verify_alone(self._recipe.module)
            self._captured = Captured(self._recipe, self._capture, device)
        self._begun = True

    def _give_up(self) -> None:
        self._phase = 0
        if self._captured is not None:
            self._captured.give_up()
        else:
            give_up(self._recipe, keep=False)

    def _run(self, call: Call, last: bool) -> Tensor:
        if self._captured is not None:
            return self._captured.run(call, last)
        loss = forward_backward(self._recipe, call)
        if last:
            update(self._recipe)
            clear(self._recipe, keep=False)
        return loss
