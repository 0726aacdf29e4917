"""Low-precision copies of parameters: made once a step, shared by all uses, kept over micro-steps.

A copy is good while the parameter is the same object with the same version, memory and need of gradients; any
`torch.optim` step drops the copies of what it may have trained. Writing through `parameter.data` escapes torch's
version counter as well: call `TracedModule.refresh_copies` after that.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.optim.optimizer import register_optimizer_step_post_hook

from ampgraph.fx_module.casting import cast_together, link_together

Key = tuple[str, torch.dtype]  # name in the module, type of the copy


@dataclass(slots=True)
class _Copy:
    """A copy with what it is a copy of."""

    source: weakref.ref[Tensor]
    version: int
    memory: int
    trained: bool  # the source requires gradients
    linked: bool  # gradients of the copy reach the source
    tensor: Tensor

    def serves(self, source: Tensor, linked: bool) -> bool:
        """Whether it is still the source's. `linked`: where gradients are on."""
        return (
            self.source() is source
            and self.version == source._version
            and self.memory == source.data_ptr()
            and self.trained == source.requires_grad
            and (self.linked or not (linked and self.trained))
        )


_LIVE: weakref.WeakSet[Copies] = weakref.WeakSet()


class Copies:
    """The copies of one module. Copying or pickling the module leaves them behind."""

    def __init__(self) -> None:
        self._kept: dict[Key, _Copy] = {}
        self._held: dict[Key, Tensor] = {}
        self._holding = False
        _LIVE.add(self)
        _watch_optimizers()

    def take(self, wanted: Sequence[tuple[Key, Tensor]], *, keep: bool = True) -> list[Tensor]:
        """A copy of each source in its key's type, through which gradients reach it.

        The held ones while `holding`; else with `keep` those that are still good, and new ones for later forwards too.
        """
        if self._holding:
            return self._take_held(wanted)
        if not keep:
            return [source.to(key[1]) for key, source in wanted]
        linked, kept = torch.is_grad_enabled(), self._kept
        missing = [pair for pair in wanted if (copy := kept.get(pair[0])) is None or not copy.serves(pair[1], linked)]
        if missing:
            return self._renew(missing, wanted, linked)
        return [kept[key].tensor for key, _ in wanted]

    def _renew(
        self, missing: Sequence[tuple[Key, Tensor]], wanted: Sequence[tuple[Key, Tensor]], linked: bool
    ) -> list[Tensor]:
        """As `take`, with what is missing made, and remembered where its source lasts."""
        made = cast_together([source for _, source in missing], [key[1] for key, _ in missing])
        now, lasts = (
            {key: tensor for (key, _), tensor in zip(missing, made, strict=True)},
            not torch.is_inference_mode_enabled(),
        )
        taken = [now[key] if key in now else self._kept[key].tensor for key, _ in wanted]
        for (key, source), tensor in zip(missing, made, strict=True):
            if lasts and _is_lasting(source):
                trained = source.requires_grad
                seen = weakref.ref(source), source._version, source.data_ptr(), trained, linked and trained
                self._kept[key] = _Copy(*seen, tensor)
        return taken

    def take_one(self, key: Key, source: Tensor) -> Tensor:
        """As `take` for a single source and nothing kept, in words that torch.compile understands."""
        if self._holding and key in self._held:
            return _Link.apply(source, self._held[key])  # type: ignore[no-any-return,no-untyped-call]
        return source.to(key[1])

    def _take_held(self, wanted: Sequence[tuple[Key, Tensor]]) -> list[Tensor]:
        held = [(self._held[key], source) for key, source in wanted if key in self._held]
        linked = iter(link_together([source for _, source in held], [copy for copy, _ in held]))
        return [next(linked) if key in self._held else source.to(key[1]) for key, source in wanted]

    def drop_trained(self) -> None:
        """Forget the copies of what is trained; their memory is free for the optimizer."""
        self._kept = {key: copy for key, copy in self._kept.items() if not copy.trained}

    def refresh(self, sources: Iterable[tuple[Key, Tensor]]) -> None:
        """Make or renew the held copies, in place, by as few kernels as torch can; the others are dropped."""
        pairs = list(sources)
        with torch.no_grad():
            for key, source in pairs:
                old = self._held.get(key)
                if old is None or old.shape != source.shape or old.device != source.device:
                    self._held[key] = torch.empty_like(source, dtype=key[1], requires_grad=False)
            for dtype in dict.fromkeys(key[1] for key, _ in pairs):  # of one type: torch's fast kernel
                alike = [(self._held[key], source.detach()) for key, source in pairs if key[1] is dtype]
                torch._foreach_copy_([held for held, _ in alike], [source for _, source in alike])
        self._kept.clear()

    def release(self) -> None:
        """Give back the memory of all copies."""
        self._kept.clear()
        self._held.clear()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Serve the held copies as they are, whatever became of the parameters since."""
        before, self._holding = self._holding, True
        try:
            yield
        finally:
            self._holding = before

    def __deepcopy__(self, memo: dict[int, object]) -> Copies:
        return Copies()

    def __reduce__(self) -> tuple[type[Copies], tuple[()]]:
        return Copies, ()


def must_cast(module: nn.Module) -> bool:
    """Whether copies may not outlive this forward: it is being compiled, captured, transformed, or its parameters are
    gathered for it alone (FSDP keeps their version while it changes their data).
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or _is_capturing()
        or _is_sharded(module)
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _is_capturing() -> bool:
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return is_used and torch.cuda.is_current_stream_capturing()


def _is_sharded(module: nn.Module) -> bool:
    return any(each.__name__ == "FSDPModule" for each in type(module).__mro__)


def _is_lasting(source: Tensor) -> bool:
    """A parameter or buffer of a real module: not what functional_call puts in its place."""
    return type(source) in (nn.Parameter, Tensor) and source.is_leaf


class _Link(torch.autograd.Function):
    """A held copy as a function of its parameter."""

    @staticmethod
    def forward(ctx: Any, source: Tensor, held: Tensor) -> Tensor:  # noqa: ANN401
        ctx.dtype = source.dtype
        return held.view_as(held)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        return gradients[0].to(ctx.dtype), None


_watching = False


def _watch_optimizers() -> None:
    global _watching
    if not _watching:
        register_optimizer_step_post_hook(_after_step)
        _watching = True


def _after_step(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    for copies in list(_LIVE):
        copies.drop_trained()
