"""`ampgraph.LossScaler`: torch's GradScaler, with a floor, a memory, and a name for what overflowed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler, OptState, _refresh_per_optimizer_state
from torch.optim import Optimizer

from ampgraph.errors import TrainError
from ampgraph.fx_module.gradients import (
    ROUND_ALIKE,
    are_few,
    cannot_overflow,
    divide,
    gradients,
    mark_non_finite,
    non_finite,
    parameters,
)
from ampgraph.fx_module.overflow import Watch
from ampgraph.fx_module.recipe import Call
from ampgraph.fx_module.scale_log import ScaleLog, ScaleStep
from ampgraph.fx_module.scaler_memory import ScalerMemory
from ampgraph.fx_module.scaler_options import FLOOR, HISTORY, Extras, verify_factors
from ampgraph.fx_module.skipping import clear_momentum, step_unless, without_momentum
from ampgraph.precision import Precision

if TYPE_CHECKING:
    from ampgraph.fx_module.nonfinite import NonFinite

_PLACE = "loss scaler"
_BACKWARD = "call scaler.scale(loss).backward() before it"


class LossScaler(GradScaler):
    """Scales the loss so that float16 gradients neither vanish nor overflow; a drop-in `torch.amp.GradScaler`.

    Same arguments, same loop, same state dict; with `min_scale=0` and `hysteresis=1` the same scale at every step.

    - `device`: "cuda" or "cpu"; None: CUDA where there is some.
    - `enabled`: None: yes for float16, no for bfloat16, whose exponents are those of float32.
    - `min_scale`: the scale never falls below it. torch's reaches 0 after 166 steps that overflow, and then writes NaN
      into the weights.
    - `hysteresis`: so many steps must overflow one after the other before the scale is lowered.
    - `history`: how many updates `history()` remembers.

    Gradients are checked after they are divided by the scale: one that overflows by the division skips the step too.
    Nothing waits for the device but what says so. Raises TrainError for calls in an order that means nothing, and
    OptionError for values that do.
    """

    def __init__(
        self,
        device: str | None = None,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool | None = None,
        *,
        precision: str = Precision.FLOAT16,
        min_scale: float = FLOOR,
        hysteresis: int = 1,
        history: int = HISTORY,
    ) -> None:
        self._extras = Extras(min_scale, hysteresis, history)
        verify_factors(init_scale, growth_factor, backoff_factor, precision, min_scale)
        wanted = enabled if enabled is not None else precision == Precision.FLOAT16
        here = device or ("cuda" if torch.cuda.is_available() else "cpu")
        super().__init__(here, init_scale, growth_factor, backoff_factor, growth_interval, wanted)
        self._init_streak = 0
        self._streak: Tensor | None = None  # overflows one after the other, int32; only where hysteresis needs it
        self._memory: ScalerMemory | None = None
        self._log: ScaleLog | None = None
        self._watch: Watch | None = None

    @property
    def min_scale(self) -> float:
        """The floor; 0 where there is none."""
        return self._extras.min_scale

    @property
    def hysteresis(self) -> int:
        """Steps that must overflow one after the other before the scale is lowered."""
        return self._extras.hysteresis

    @property
    def last_step_skipped(self) -> Tensor:
        """Whether the last step or update found an overflow: a bool tensor on the device. Reading it waits for that."""
        return self._memory.bad > 0 if self._memory is not None else torch.zeros((), dtype=torch.bool)

    def history(self) -> list[ScaleStep]:
        """The last updates, oldest first. Waits for the device."""
        return self._log.read() if self._log is not None else []

    def watch(self, module: nn.Module) -> None:
        """Remember from now on which of the module's parameters have gradients that overflow, and in which order
        gradients arrive; see `overflowed`. Costs a small hook per parameter."""
        if self._watch is not None:
            self._watch.remove()
        self._watch = Watch(module)

    def overflowed(self) -> list[str]:
        """Names of the watched parameters with a non-finite gradient in the last step that had one, in the order in
        which backward reached them: the first is where it began. Waits for the device. Raises TrainError if none are
        watched."""
        if self._watch is None:
            raise TrainError(
                _PLACE, "watches no module, so it has no names", "call scaler.watch(module) before training"
            )
        return self._watch.names()

    def locate(
        self,
        module: nn.Module,
        *inputs: Any,  # noqa: ANN401  (the module's, then the loss's)
        loss_fn: Callable[..., Tensor] | None = None,
        scale: float | None = None,
        **named: Any,  # noqa: ANN401  (the module's)
    ) -> NonFinite | None:
        """Where the numbers of one batch stop being finite: the first value in forward, else the first gradient in
        backward; None where all are finite.

        - `module`: a traced module or an fx.GraphModule; `inputs`, `named` and `loss_fn` as `TrainStep` takes them.
        - `scale`: None: the scale that the last skipped step had, or the present one if none is remembered.

        The batch is run again, op by op, and nothing of the module changes. Raises ModelError for a module without a
        graph.
        """
        from ampgraph.fx_module.nonfinite import first_non_finite

        return first_non_finite(module, Call(inputs, named), loss_fn, self._last_overflow() if scale is None else scale)

    def scale(self, outputs: Any) -> Any:  # noqa: ANN401  (torch's overloads)
        """Multiply a loss, or a structure of losses, by the scale."""
        there = self._scale if self._enabled else None
        if there is not None and isinstance(outputs, Tensor) and outputs.device == there.device:
            return outputs * there
        return super().scale(outputs)

    def seed(self, loss: Tensor) -> Tensor | None:
        """The gradient of a loss that is scaled: `loss.backward(seed)` is `scale(loss).backward()` without the product.

        None where it has to be computed: a loss that is no float32 on the scale's device, or another `scale` than here.
        """
        if not self._enabled or type(self).scale is not LossScaler.scale or loss.dtype != torch.float32:
            return None
        if self._scale is None:
            self._lazy_init_scale_growth_tracker(loss.device)
        scale, _ = self._begun("scale")
        return scale.expand(loss.shape) if loss.device == scale.device else None

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients by the scale, in place, once between two updates."""
        if not self._enabled:
            return
        self._verify_begun("unscale_", optimizer)
        stage = self._per_optimizer_states[id(optimizer)]["stage"]
        if stage is OptState.UNSCALED:
            fact = "unscale_ was already called for this optimizer since the last update"
            raise TrainError(_PLACE, fact, "call it once, after the last backward and before clipping")
        if stage is OptState.STEPPED:
            raise TrainError(_PLACE, "unscale_ is called after step", "call it before step, which unscales otherwise")
        super().unscale_(optimizer)

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> float | None:  # noqa: ANN401  (the optimizer's)
        """Unscale if that was not done, and take the optimizer's step unless a gradient is not finite."""
        if not self._enabled:
            return super().step(optimizer, *args, **kwargs)
        if kwargs.get("closure") is not None or any(callable(each) for each in args):
            remedy = "compute loss and gradients before step, with an optimizer that needs no closure"
            raise TrainError(_PLACE, "step got a closure, whose losses would be unscaled", remedy)
        kwargs.pop("closure", None)
        grads = self._verify_begun("step", optimizer)
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise TrainError(_PLACE, "step was already called for this optimizer", "call update after all steps")
        if not getattr(optimizer, "_step_supports_amp_scaling", False) or _takes_scaler(type(optimizer).step):
            return super().step(optimizer, *args, **kwargs)
        given = getattr(optimizer, "grad_scale", None)
        if state["stage"] is OptState.READY and not self._divided(optimizer, grads, state):
            self._check_inf_per_device(optimizer)
            given = self._scale if given is None else given * self._scale
        return self._step_fused(optimizer, given, _total(_checks(state)), state, args, kwargs)

    def _divided(self, optimizer: Optimizer, grads: list[Tensor], state: dict[str, Any]) -> bool:
        """Divide few gradients by the scale and check what they became: fewer kernels than to tell the optimizer to."""
        memory = self._memory
        if memory is None or not isinstance(optimizer, ROUND_ALIKE) or not are_few(grads, memory.scale.device):
            return False
        scale = memory.scale
        found = memory.bad.zero_() if len(self._per_optimizer_states) == 1 else torch.zeros_like(scale)
        divide(grads, scale, found, memory.one)
        state["found_inf_per_device"] = {scale.device: found}
        self._note(optimizer, state["found_inf_per_device"])
        return True

    def _step_fused(
        self,
        optimizer: Any,  # noqa: ANN401
        given: Tensor | None,
        found: Tensor,
        state: dict[str, Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> float | None:
        """Torch's agreement with optimizers that divide by `grad_scale` themselves and skip by `found_inf`."""
        fresh = without_momentum(optimizer)
        optimizer.grad_scale, optimizer.found_inf = given, found
        result: float | None = optimizer.step(*args, **kwargs)
        state["stage"] = OptState.STEPPED
        del optimizer.grad_scale, optimizer.found_inf
        if fresh:
            clear_momentum(found, optimizer, fresh)
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Lower the scale if a gradient was not finite, raise it after `growth_interval` steps without one."""
        if not self._enabled:
            return
        scale, tracker = self._begun("update")
        found = self._found_inf(scale, new_scale is not None)
        if new_scale is not None:
            super().update(float(new_scale) if isinstance(new_scale, int) else new_scale)
        else:
            self._follow(scale, tracker, found)
            self._per_optimizer_states = defaultdict(_refresh_per_optimizer_state)
        self._remember(found)

    def _follow(self, scale: Tensor, tracker: Tensor, found: Tensor) -> None:
        extras, factors = self._extras, (self._growth_factor, self._backoff_factor, self._growth_interval)
        before = scale.clone() if extras.hysteresis > 1 else scale
        torch._amp_update_scale_(scale, tracker, found, *factors)
        if extras.hysteresis > 1:
            self._hold(scale, before, found)
        if extras.min_scale:
            scale.clamp_(extras.min_scale)

    def state_dict(self) -> dict[str, Any]:
        """As torch's: either loads the other's. With hysteresis it also holds the overflows so far in a row."""
        state: dict[str, Any] = super().state_dict()
        if state and self.hysteresis > 1:
            state["_streak"] = int(self._streak) if self._streak is not None else self._init_streak
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what this class or torch's saved. Raises TrainError for what a disabled scaler saved."""
        if self._enabled and not state_dict:
            raise TrainError(
                _PLACE, "the state is empty: it was saved by a disabled scaler", "use enabled=False, or none"
            )
        super().load_state_dict(state_dict)
        self._init_streak = int(state_dict.get("_streak", 0))
        if self._streak is not None:
            self._streak.fill_(self._init_streak)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if self._streak is not None:
            state["_init_streak"] = int(self._streak)
        return {**state, "_streak": None, "_memory": None, "_log": None, "_watch": None}

    def _last_overflow(self) -> float:
        steps = self.history()
        for before, step in reversed(list(zip([None, *steps], steps, strict=False))):
            if step.skipped:
                return before.scale if before is not None else step.scale / self.get_backoff_factor()
        return self.get_scale()

    def _begun(self, name: str) -> tuple[Tensor, Tensor]:
        if self._scale is None or self._growth_tracker is None:
            raise TrainError(_PLACE, f"{name} is called before any loss was scaled", _BACKWARD)
        return self._scale, self._growth_tracker

    def _verify_begun(self, name: str, optimizer: Optimizer) -> list[Tensor]:
        """The gradients that there are."""
        self._begun(name)
        grads = [grad for each in parameters(optimizer) if (grad := each.grad) is not None]
        if not grads:
            raise TrainError(_PLACE, f"{name} finds no gradient in the optimizer's parameters", _BACKWARD)
        if torch.float16 in {each.dtype for each in grads}:
            remedy = "keep parameters in float32 (module.float()): the casts belong into the graph, see ampgraph.trace"
            raise TrainError(_PLACE, f"{name} finds float16 gradients, so parameters are half precision", remedy)
        return grads

    def _unscale_grads_(
        self, optimizer: Optimizer, inv_scale: Tensor, found_inf: Tensor, allow_fp16: bool
    ) -> dict[torch.device, Tensor]:
        found = super()._unscale_grads_(optimizer, inv_scale, found_inf, allow_fp16)
        if not cannot_overflow(self._begun("unscale_")[0]):
            mark_non_finite(gradients(parameters(optimizer)), found)
        self._note(optimizer, found)
        return found

    def _check_inf_per_device(self, optimizer: Optimizer) -> dict[str, Any]:
        """Torch asks this for fused optimizers, which divide by the scale themselves."""
        scale, _ = self._begun("step")
        found: Any = non_finite(gradients(parameters(optimizer)), scale)
        self._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = found
        self._note(optimizer, found)
        return found  # type: ignore[no-any-return]

    def _note(self, optimizer: Optimizer, found: dict[torch.device, Tensor]) -> None:
        if self._watch is not None:
            self._watch.note(parameters(optimizer), _total(found.values()))

    def _maybe_opt_step(
        self,
        optimizer: Optimizer,
        optimizer_state: dict[str, Any],
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> float | None:
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)
        bad = _total(optimizer_state["found_inf_per_device"].values())
        return step_unless(bad, optimizer, lambda: optimizer.step(*args, **kwargs))  # type: ignore[no-any-return]

    def _found_inf(self, scale: Tensor, is_set: bool) -> Tensor:
        """Above 0 where any optimizer found an overflow since the last update."""
        states = self._per_optimizer_states.values()
        found = [each for state in states for each in _checks(state)]
        if not found and not is_set:
            raise TrainError(_PLACE, "update is called before any step", "call scaler.step(optimizer) before it")
        if not found:
            return torch.zeros_like(scale)
        total = _total(found)
        return total if total.device == scale.device else total.to(scale.device, non_blocking=True)

    def _hold(self, scale: Tensor, before: Tensor, found: Tensor) -> None:
        """Undo the lowering while too few steps have overflowed one after the other."""
        if self._streak is None:
            self._streak = torch.full((), self._init_streak, dtype=torch.int32, device=scale.device)
        bad = found > 0
        self._streak.add_(1).mul_(bad)
        scale.copy_(torch.where(bad & (self._streak < self.hysteresis), before, scale))

    def _lazy_init_scale_growth_tracker(self, dev: torch.device) -> None:
        """The scale lies beside what the last update found, so that both are written down as one."""
        super()._lazy_init_scale_growth_tracker(dev)
        memory = ScalerMemory.of(*self._begun("scale"), rows=self._extras.history)
        self._memory, self._scale, self._growth_tracker = memory, memory.scale, memory.tracker
        self._log = ScaleLog(memory.rows, memory.count) if self._extras.history else None

    def _remember(self, found: Tensor) -> None:
        assert self._memory is not None  # made with the scale
        if found is not self._memory.bad:
            self._memory.bad.copy_(found)
        if self._log is not None:
            self._log.write(self._memory.last)


@cache
def _takes_scaler(step: Callable[..., Any]) -> bool:
    """Whether an optimizer's step wants the scaler itself, as torch had it once."""
    return "grad_scaler" in signature(step).parameters


def _checks(state: dict[str, Any]) -> list[Tensor]:
    return list(state["found_inf_per_device"].values())


def _total(found: Any) -> Tensor:  # noqa: ANN401  (an iterable of tensors)
    first, *others = found
    total: Tensor = first
    for each in others:
        total = total + each.to(total.device, non_blocking=True)
    return total
