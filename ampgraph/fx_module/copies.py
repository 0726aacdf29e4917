"""Low-precision copies of parameters: made once a step, shared by all uses, kept over micro-steps.

A copy is good while the parameter is the same object with the same version, memory and need of gradients; any
`torch.optim` step drops the copies of what it may have trained. Writing through `parameter.data` escapes torch's
version counter as well: call `TracedModule.refresh_copies` after that.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

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
        return (
            self.source() is source
            and self.version == source._version
            and self.memory == source.data_ptr()
            and self.trained == source.requires_grad
            and (self.linked or not linked)
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

    def take(self, key: Key, source: Tensor) -> Tensor:
        """A copy of `source` in the key's type, through which gradients reach it; one that is good, if there is."""
        linked = source.requires_grad and torch.is_grad_enabled()
        kept = self._kept.get(key)
        if kept is not None and kept.serves(source, linked):
            return kept.tensor
        tensor = source.to(key[1])
        if _is_lasting(source):
            self._kept[key] = _Copy(
                weakref.ref(source), source._version, source.data_ptr(), source.requires_grad, linked, tensor
            )
        return tensor

    def held(self, key: Key, source: Tensor) -> Tensor | None:
        """The held copy, through which gradients reach `source`; None where none is held, or nobody asks for them."""
        if not self._holding or key not in self._held:
            return None
        return _Link.apply(source, self._held[key])  # type: ignore[no-any-return,no-untyped-call]

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
            if pairs:
                torch._foreach_copy_([self._held[key] for key, _ in pairs], [source.detach() for _, source in pairs])
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
    """A parameter or buffer of a real module, outside of inference mode: not what functional_call puts in its place."""
    return type(source) in (nn.Parameter, Tensor) and source.is_leaf and not torch.is_inference_mode_enabled()


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
