"""Own backward: what of a module's gradients an exported graph has no place for, noted while the module is traced.

torch.export runs through the forward of a `torch.autograd.Function`, and then autograd differentiates what it has seen
there: the backward that the author wrote is gone. So are hooks that forward puts on tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import _SingleLevelFunction
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils.checkpoint import CheckpointFunction

from ampgraph.errors import ModelError
from ampgraph.intercept import intercepted
from ampgraph.user_code import calling_line

_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")
_PLAIN = (
    "write it in plain operations (x + (f(x) - x).detach() passes a gradient by f) or as a torch.library.custom_op "
    "with register_autograd, which stays one op; or, where nothing is trained, call requires_grad_(False) first"
)
_OUTSIDE = "put the hook on a parameter or on what the traced module takes or returns, where hooks go on as before"


@dataclass(frozen=True)
class Lost:
    """Something that only backward would have called. `needed`: whether what it stands on has a gradient already."""

    what: str
    line: str
    needed: bool
    remedy: str


@contextmanager
def noted_losses() -> Iterator[list[Lost]]:
    """A list that fills with what is lost while a module is exported in this context, in this thread.

    A reentrant checkpoint is a Function as well. It is traced as one that is not reentrant: in either case a graph has
    the operations alone, and autograd keeps what they need.
    """
    found: list[Lost] = []

    def plain(cls: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return super(_SingleLevelFunction, cls).apply(*args, **kwargs)

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if get_proxy_mode() is None:  # inside an op that stays one: its backward does, too
            return plain(cls, *args, **kwargs)
        if cls is CheckpointFunction:
            function, _, *given = args
            return function(*given)
        if cls.__module__ != CheckpointFunction.__module__:
            _note(found, f"{cls.__name__} is a torch.autograd.Function, whose backward no graph holds", args, _PLAIN)
        return plain(cls, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(intercepted(_SingleLevelFunction, "apply", plain, apply, of_class=True))
        for name in _HOOKS:
            method = getattr(Tensor, name)
            stack.enter_context(intercepted(Tensor, name, method, _noting(found, name, method)))
        yield found


def _noting(found: list[Lost], name: str, method: Any) -> Any:  # noqa: ANN401
    def register(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if get_proxy_mode() is not None:
            _note(found, f"{name} puts a hook on a tensor, which no graph holds", (tensor,), _OUTSIDE)
        return method(tensor, *args, **kwargs)

    return register


def _note(found: list[Lost], what: str, given: Sequence[Any], remedy: str) -> None:
    """Note it unless no gradient ever comes there."""
    tensors = [each for each in given if isinstance(each, Tensor) and (each.is_floating_point() or each.is_complex())]
    if tensors and torch.is_grad_enabled():
        lost = Lost(what, calling_line(), any(each.requires_grad for each in tensors), remedy)
        found.extend([] if lost in found else [lost])


def verify_kept(module: nn.Module, losses: Sequence[Lost]) -> None:
    """Raise ModelError for what is lost although a gradient comes there."""
    for lost in losses:
        if lost.needed:
            raise _error(module, lost)


def verify_call(module: nn.Module, losses: Sequence[Lost], trained: frozenset[str], inputs: Sequence[Any]) -> None:
    """The same for a call of a graph where none came when it was traced, with `trained` the parameters that had any."""
    new = (name for name, each in module.named_parameters() if each.requires_grad and name not in trained)
    given = (each for each in inputs if isinstance(each, Tensor) and each.requires_grad)
    if next(new, None) is not None or next(given, None) is not None:
        raise _error(module, losses[0])


def names_of_trained(parameters: Mapping[str, Tensor]) -> frozenset[str]:
    """The parameters that get a gradient."""
    return frozenset(name for name, each in parameters.items() if each.requires_grad)


def verify_hooks(module: nn.Module) -> None:
    """Raise ModelError for hooks on modules that only backward calls."""
    for path, each in module.named_modules():
        if each._backward_hooks or each._backward_pre_hooks:
            place = f"{type(each).__name__} {path}".strip()
            remedy = "remove it; hooks of parameters, and of the traced module as a whole, are called as before"
            raise ModelError(place, "has a backward hook, and no graph holds the module's boundaries", remedy)


def _error(module: nn.Module, lost: Lost) -> ModelError:
    name = type(module).__name__
    return ModelError(f"{name} at {lost.line}" if lost.line else name, lost.what, lost.remedy)
