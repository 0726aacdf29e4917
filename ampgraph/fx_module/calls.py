"""Calls: how the arguments of a module become the flat inputs of its graph, and what they must look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ampgraph.errors import ModelError
from ampgraph.fx_module.facts import DTYPES, dtype_name
from ampgraph.plan import Choice
from ampgraph.tracing import Arguments, describe

Kinds = tuple[tuple[torch.dtype, torch.Size], ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """One flat input: a tensor of a dtype and sizes (a name where a size is free), or a plain value."""

    name: str
    dtype: torch.dtype | None = None
    sizes: tuple[int | str, ...] = ()
    value: Any = None
    low: torch.dtype | None = None  # the type that the graph casts it to, where it reads it in no other way

    def __str__(self) -> str:
        """As messages show it."""
        if self.dtype is None:
            return repr(self.value)
        return f"{dtype_name(self.dtype)}[{', '.join(map(str, self.sizes))}]"

    def takes(self, given: Tensor) -> bool:
        """Whether a tensor is of this type, or of the one that it would be cast to, and of as many sizes."""
        return (given.dtype is self.dtype or given.dtype is self.low) and given.dim() == len(self.sizes)


@dataclass(frozen=True, eq=False)
class Interface:
    """What a captured graph takes and returns."""

    in_spec: pytree.TreeSpec
    out_spec: pytree.TreeSpec
    inputs: tuple[Expected, ...]
    guards: tuple[Any, ...] = ()  # sympy expressions over the names of free sizes
    asked: tuple[Any, ...] = ()  # the same, where the module's own Python asked
    _accepted: dict[Kinds, None] = field(default_factory=dict)

    def flatten(self, arguments: Arguments) -> Sequence[Any]:
        """Flat inputs of a call. Raises ModelError for arguments that are not like the example's.

        Under torch.compile sizes are its own affair and not looked at.
        """
        args, kwargs = arguments
        plain = self._is_flat and not kwargs and len(args) == len(self.inputs)
        if plain and all(type(each) is Tensor for each in args):
            self._check_once(args)
            return args
        flat, spec = pytree.tree_flatten((args, kwargs))
        if spec != self.in_spec:
            fact = "was called with arguments that are nested otherwise than the example's"
            raise ModelError("traced module", fact, f"trace again with such arguments; it takes {self}")
        if not torch.compiler.is_compiling():
            self._check(flat)
        return flat

    @cached_property
    def _is_flat(self) -> bool:
        """Whether the example was tensors alone, in their places."""
        return self.in_spec == pytree.tree_structure((tuple(self.inputs), {}))

    @cached_property
    def returns_one(self) -> bool:
        """Whether the module returns a single value and no structure."""
        return bool(self.out_spec.is_leaf())

    def _check_once(self, args: tuple[Tensor, ...]) -> None:
        if torch.compiler.is_compiling():
            return
        kinds = tuple([(each.dtype, each.shape) for each in args])
        if kinds not in self._accepted:
            self._check(args)
            self._accepted[kinds] = None

    def retyped(self, choices: Sequence[Choice | None]) -> Interface:
        """The same with the types that a plan has chosen for the inputs; None for what is no float."""
        pairs = zip(self.inputs, choices, strict=True)
        inputs = [replace(each, dtype=DTYPES[choice.precision]) if choice else each for each, choice in pairs]
        return replace(self, inputs=tuple(inputs), _accepted={})

    def read_low(self, types: Mapping[str, torch.dtype]) -> Interface:
        """The same with what its inputs may come in as well, by name."""
        inputs = [replace(each, low=types.get(each.name)) for each in self.inputs]
        return replace(self, inputs=tuple(inputs), _accepted={})

    def _check(self, flat: Sequence[Any]) -> None:
        free: dict[str, int] = {}
        for given, expected in zip(flat, self.inputs, strict=False):
            if expected.dtype is None:
                if type(given) is not type(expected.value) or given != expected.value:
                    raise _mismatch(expected, repr(given))
                continue
            if not isinstance(given, Tensor) or not expected.takes(given):
                raise _mismatch(expected, describe(given))
            for size, wanted in zip(given.shape, expected.sizes, strict=True):
                if size != (wanted if isinstance(wanted, int) else free.setdefault(wanted, size)):
                    raise _mismatch(expected, describe(given))
        if free:
            self._allow(free)

    def _allow(self, free: Mapping[str, int]) -> None:
        """Raise for sizes that were ruled out while the module was traced.

        One is like any other size, unless the module's own Python has asked for it: operations decide anew.
        """
        for guard in self.asked if 1 in free.values() else (*self.asked, *self.guards):
            known = {symbol: free[str(symbol)] for symbol in guard.free_symbols if str(symbol) in free}
            if guard.subs(known) == False:  # noqa: E712  (sympy's own false)
                fact = f"has sizes {', '.join(f'{name} = {size}' for name, size in free.items())}, and needs {guard}"
                raise ModelError("call of the traced module", fact, "trace again with an example of this size")

    def __str__(self) -> str:
        """The inputs in a line."""
        return ", ".join(f"{each.name}: {each}" for each in self.inputs)


def _mismatch(expected: Expected, found: str) -> ModelError:
    remedy = "call it with arguments like the example's, or trace again with these"
    return ModelError(f"argument {expected.name}", f"is {found}, and the graph takes {expected}", remedy)


def dimensions(val: Tensor) -> tuple[int | str, ...]:
    """Sizes of a fake input, by name where they are free."""
    return tuple(_dimension(size) for size in val.shape)


def _dimension(size: int | torch.SymInt) -> int | str:
    known = size if isinstance(size, int) else size.node.maybe_as_int()
    return str(size) if known is None else int(known)
