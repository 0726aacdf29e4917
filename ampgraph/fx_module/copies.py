"""Low-precision copies of parameters: made once a step, shared by all uses, kept over micro-steps.

A copy is good while the parameter is the same object with the same version, memory and need of gradients; any
`torch.optim` step drops the copies of what it may have trained. Writing through `parameter.data` escapes torch's
version counter as well: call `TracedModule.refresh_copies` after that.

Copies are made and kept by groups. Where the optimizer steps after every forward nobody would use what is kept, and
it would stand in the way of backward: then autograd alone decides how long a copy lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from ampgraph.fx_module.casting import cast_group, link_together
from ampgraph.fx_module.grouping import Group, Grouping, groups_of
from ampgraph.fx_module.shared_memory import blank_copies

Key = tuple[str, torch.dtype]  # name in the module, type of the copy


@dataclass(frozen=True, slots=True)
class _Kept:
    """Copies of a group with what they are copies of."""

    sources: list[weakref.ref[Tensor]]
    versions: list[int]
    memory: list[int]
    trained: bool  # the sources require gradients
    linked: bool  # gradients of the copies reach the sources
    tensors: Sequence[Tensor]

    @classmethod
    def of(cls, group: Group, given: Sequence[Tensor], linked: bool, made: Sequence[Tensor]) -> _Kept:
        """What was made of a group just now."""
        refs, (versions, memory) = [weakref.ref(each) for each in given], _state(given)
        return cls(refs, versions, memory, group.trained, linked and group.trained, made)

    def serves(self, group: Group, given: Sequence[Tensor], linked: bool) -> bool:
        """Whether they are still the sources'. `linked`: where gradients are on."""
        return (
            self.trained == group.trained
            and (self.linked or not (linked and self.trained))
            and all(map(is_, [each() for each in self.sources], given))
            and _state(given) == (self.versions, self.memory)
        )


def _state(given: Sequence[Tensor]) -> tuple[list[int], list[int]]:
    return [each._version for each in given], [each.data_ptr() for each in given]


class Wanted:
    """The copies that one graph takes, by name and type, with how they are made together."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        self._grouping = Grouping([dtype for _, dtype in self.keys])
        self._groups: tuple[Group, ...] = ()
        self._named: list[tuple[tuple[Key, ...], Group]] = []

    def groups(self, sources: Sequence[Tensor]) -> list[tuple[tuple[Key, ...], Group]]:
        """Groups of the sources as they are now, with the keys in each."""
        groups = self._grouping.of(sources)
        if groups is not self._groups:
            self._groups = groups
            self._named = [(tuple([self.keys[place] for place in group.places]), group) for group in groups]
        return self._named


_LIVE: list[weakref.ref[Copies]] = []


class Copies:
    """The copies of one module. Copying or pickling the module leaves them behind."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Key, ...], _Kept] = {}
        self._held: dict[Key, Tensor] = {}
        self._holding = False
        self._uses = 0  # forwards with gradients since the optimizer's last step
        self._once = False  # whether there was one between its last two
        _LIVE.append(weakref.ref(self, _LIVE.remove))
        _watch_optimizers()

    def take(self, wanted: Wanted, sources: Sequence[Tensor], *, keep: bool = True) -> Sequence[Tensor]:
        """A copy of each source in its key's type, through which gradients reach it.

        The held ones while `holding`; else with `keep` those that are still good, and new ones for later forwards too.
        """
        if self._holding:
            return self._take_held(wanted.keys, sources)
        if keep:
            self._uses += 1
            self._once = self._once and self._uses == 1
        named = wanted.groups(sources)
        if len(named) == 1:  # of all sources, in their order
            return self._made(*named[0], sources, keep)
        taken: list[Any] = [None] * len(sources)
        for keys, group in named:
            made = self._made(keys, group, [sources[place] for place in group.places], keep)
            for place, copy in zip(group.places, made, strict=True):
                taken[place] = copy
        return taken

    def _made(self, keys: tuple[Key, ...], group: Group, given: Sequence[Tensor], keep: bool) -> Sequence[Tensor]:
        if not keep or (self._once and group.trained):
            return cast_group(group, given)
        return self._lasting(keys, group, given)

    def take_shown(self, wanted: Wanted, sources: Sequence[Tensor]) -> Sequence[Tensor]:
        """As `take`, each cast an op of its own, and nothing kept."""
        if self._holding:
            return self._take_held(wanted.keys, sources)
        return [source.to(dtype) for (_, dtype), source in zip(wanted.keys, sources, strict=True)]

    def _lasting(self, keys: tuple[Key, ...], group: Group, given: Sequence[Tensor]) -> Sequence[Tensor]:
        """Copies of a group: those that there are, or new ones, which are remembered."""
        linked, kept = torch.is_grad_enabled(), self._kept.get(keys)
        if kept is not None and kept.serves(group, given, linked):
            return kept.tensors
        made = cast_group(group, given)
        if _are_lasting(given):
            self._kept[keys] = _Kept.of(group, given, linked, made)
        return made

    def take_one(self, key: Key, source: Tensor) -> Tensor:
        """As `take` for a single source and nothing kept, in words that torch.compile understands."""
        if self._holding and key in self._held:
            return _Link.apply(source, self._held[key])  # type: ignore[no-any-return,no-untyped-call]
        return source.to(key[1])

    def _take_held(self, keys: Sequence[Key], sources: Sequence[Tensor]) -> list[Tensor]:
        held = [(self._held[key], source) for key, source in zip(keys, sources, strict=True) if key in self._held]
        linked = iter(link_together([source for _, source in held], [copy for copy, _ in held]))
        pairs = zip(keys, sources, strict=True)
        return [next(linked) if key in self._held else source.to(key[1]) for key, source in pairs]

    def drop_trained(self) -> None:
        """Forget the copies of what is trained; their memory is free for the optimizer."""
        if self._uses:
            self._once, self._uses = self._uses == 1, 0
        if self._kept:
            self._kept = {keys: kept for keys, kept in self._kept.items() if not kept.trained}

    def refresh(self, sources: Iterable[tuple[Key, Tensor]]) -> None:
        """Make or renew the held copies, in place, by as few kernels as torch can; the others are dropped."""
        pairs = list(sources)
        keys, given = [key for key, _ in pairs], [source.detach() for _, source in pairs]
        with torch.no_grad():
            self._hold([(key, source) for key, source in pairs if not self._is_held(key, source)])
            for dtype in dict.fromkeys(dtype for _, dtype in keys):  # of one type: torch's fast kernel
                alike = [index for index, key in enumerate(keys) if key[1] is dtype]
                torch._foreach_copy_([self._held[keys[index]] for index in alike], [given[index] for index in alike])
        self._kept.clear()

    def _is_held(self, key: Key, source: Tensor) -> bool:
        old = self._held.get(key)
        return old is not None and old.shape == source.shape and old.device == source.device

    def _hold(self, missing: Sequence[tuple[Key, Tensor]]) -> None:
        """Memory for copies that are not there yet."""
        sources = [source for _, source in missing]
        for group in groups_of(sources, [dtype for (_, dtype), _ in missing]):
            given = [sources[place] for place in group.places]
            made = blank_copies(given, group.dtype) if group.shares else [_blank(each, group.dtype) for each in given]
            self._held.update((missing[place][0], blank) for place, blank in zip(group.places, made, strict=True))

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


def _blank(source: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(source, dtype=dtype, requires_grad=False)


def must_show(module: nn.Module) -> bool:
    """Whether every cast has to be an op of its own, in the open: something looks at all ops or transforms them, or
    parameters are gathered for this forward alone (FSDP keeps their version while it changes their data).
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or _is_sharded(type(module))  # type: ignore[arg-type]
        or torch._C._len_torch_dispatch_stack() > 0
    )


def is_capturing() -> bool:
    """Whether a CUDA graph is recorded, whose memory nobody else may keep."""
    is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return is_used and torch.cuda.is_current_stream_capturing()


@cache
def _is_sharded(kind: type[nn.Module]) -> bool:
    return any(each.__name__ == "FSDPModule" for each in kind.__mro__)


def _are_lasting(sources: Sequence[Tensor]) -> bool:
    """Whether these are parameters or buffers of a real module, not what functional_call puts in their place, and no
    copy of them is one of inference mode.
    """
    kinds = {type(source) for source in sources} <= {nn.Parameter, Tensor}
    return kinds and {source.is_leaf for source in sources} == {True} and not torch.is_inference_mode_enabled()


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
        register_optimizer_step_pre_hook(_around_step)  # their memory is free for the optimizer's state
        register_optimizer_step_post_hook(_around_step)  # a closure may have made others
        _watching = True


def _around_step(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    for each in _LIVE.copy():
        if (copies := each()) is not None:
            copies.drop_trained()
