"""Tracing: what both roads from a torch module to a graph have in common: turns, modes, arguments, errors.

`ampgraph.trace` makes a graph of torch's, `ampgraph.convert` an ONNX model.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ampgraph.attributes import unwritten
from ampgraph.errors import ModelError, OptionError
from ampgraph.user_code import user_line

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_TURN = threading.RLock()


@contextmanager
def in_turn(*modules: nn.Module) -> Iterator[None]:
    """Wait until no other thread traces, and give every submodule its mode back afterwards, whatever happens.

    torch's tracer keeps what it is doing in globals of the process: two at a time break each other.
    """
    with _TURN:
        modes = {each: each.training for module in modules for each in module.modules()}
        try:
            yield
        finally:
            for each, mode in modes.items():
                each.training = mode


# Arguments


def example_of(module: nn.Module, args: object, kwargs: object = None) -> Arguments:
    """The example arguments that a user gives, a bare tensor for a tuple of one. Raises OptionError, ModelError."""
    for option, given in (("example_args", args), ("example_kwargs", kwargs)):
        for leaf in pytree.tree_leaves(given):
            if any(f"{cls.__module__}.{cls.__name__}" == "numpy.ndarray" for cls in type(leaf).__mro__):
                fact = "holds a numpy array, and modules are traced with tensors"
                raise OptionError(option, fact, "torch.from_numpy(array) makes one of it")
    given_args = (args,) if isinstance(args, Tensor) else args
    if not isinstance(given_args, Sequence) or isinstance(given_args, str):
        raise OptionError("example_args", f"is of type {type(args).__name__}", "give a tuple of what forward takes")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise OptionError("example_kwargs", f"is of type {type(kwargs).__name__}", "give a dict of arguments by name")
    return bind(module, given_args, kwargs or {})


def bind(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
    """Arguments in the one form that graphs are captured in: what has a place stands in its place.

    Raises ModelError where the module's forward does not take them.
    """
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        place = f"{type(module).__name__}.forward"
        raise ModelError(place, f"does not take these arguments ({error})", "give those that it takes") from None
    return bound.args, bound.kwargs


def describe(given: object) -> str:
    """An argument in a word or two."""
    if isinstance(given, Tensor):
        return f"{str(given.dtype).removeprefix('torch.')}[{', '.join(map(str, given.shape))}]"
    return repr(given)[:60]


# What went wrong, where, and what to do


def explained(module: nn.Module, arguments: Arguments, error: Exception, verb: str = "traced") -> ModelError:
    """The error of a tracer in words of the user's code. `verb`: what was tried."""
    if isinstance(error, OptionError):
        return ModelError(_place(module, error), _first_line(error), "")
    shown = ", ".join(describe(each) for each in pytree.tree_leaves(arguments))
    own = _own_error(module, arguments)
    if own is not None:
        fact = f"fails by itself when it is called with ({shown}): {type(own).__name__}: {_first_line(own)}"
        return ModelError(_place(module, own), fact, "give example arguments that the module runs with")
    if _asks_for_numbers(error):
        fact = "Python decides there by the numbers in a tensor, which a graph cannot"
        remedy = f"use torch.where or a mask, or move the decision out of the {verb} module"
        return ModelError(_place(module, error), fact, remedy)
    fact = f"runs, and cannot be {verb} with ({shown}): {type(error).__name__}: {_first_line(error)}"
    return ModelError(_place(module, error), fact, "keep what is no tensor code out of the module")


def _own_error(module: nn.Module, arguments: Arguments) -> Exception | None:
    """What the module raises when it simply runs: on copies of what it may write to, with no random number drawn."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda each: each.detach().clone(), arguments)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = {each.device.index for each in pytree.tree_leaves(arguments) if isinstance(each, Tensor) and each.is_cuda}
    try:
        with warnings.catch_warnings(), torch.enable_grad(), torch.random.fork_rng(devices), unwritten(module):
            warnings.simplefilter("ignore")  # what it warns of is no news
            torch.func.functional_call(module, buffers, args, kwargs)
    except Exception as error:
        return error
    return None


def _asks_for_numbers(error: Exception) -> bool:
    text = _first_line(error)
    said = any(words in text for words in ("data-dependent", "Could not guard", "item()"))
    return said or "DataDependent" in type(error).__name__


def _place(module: nn.Module, error: Exception) -> str:
    line = user_line(error)
    return f"{type(module).__name__} at {line}" if line else type(module).__name__


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else ""
