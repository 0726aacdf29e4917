"""Export: a module and example arguments to an exported program, in the modes its submodules are in now.

The tracer is torch.export: first by running the module's own Python on fake tensors, then, where that fails, by
reading its bytecode (strict). The first axis is left free where the module lets it be.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from ampgraph.attributes import unwritten
from ampgraph.errors import ModelError
from ampgraph.fx_module.asked_sizes import Condition, hold_for_one, not_one, noted_answers
from ampgraph.fx_module.own_backward import Lost, noted_losses
from ampgraph.quiet import quietly
from ampgraph.tracing import Arguments, explained, in_turn

BATCH = "batch"
DynamicShapes = Any  # "batch", None, or what torch.export.export takes


@dataclass(frozen=True)
class Traced:
    """An exported program, and what had to be given up for it.

    `losses`: what of its gradients it does not hold. `asked`: what the module's Python was told of free sizes.
    """

    program: ExportedProgram
    notes: tuple[str, ...] = ()
    losses: tuple[Lost, ...] = ()
    asked: tuple[Condition, ...] = ()


def export_module(module: nn.Module, arguments: Arguments, dynamic_shapes: DynamicShapes = BATCH) -> Traced:
    """Export a module as it is: training flags, devices and types. Raises ModelError naming a line of the user's."""
    first: Exception | None = None
    for attempt in _attempts(module, arguments, dynamic_shapes):
        try:
            return _export(module, attempt)
        except Exception as error:
            first = first or error
    assert first is not None  # there is at least one attempt
    raise explained(module, arguments, first) from None


@dataclass(frozen=True)
class _Attempt:
    arguments: Arguments
    shapes: Any
    strict: bool
    note: str = ""
    doubled: bool = False  # a batch of one stands there as two


def _attempts(module: nn.Module, arguments: Arguments, dynamic_shapes: DynamicShapes) -> Iterator[_Attempt]:
    if dynamic_shapes == BATCH:
        doubled, shapes = free_batch(module, arguments)
        was_one = doubled is not arguments
        if shapes is not None:
            yield _Attempt(doubled, shapes, False, "", was_one)
        note = f"the batch size is fixed to the example's: {_why_fixed(module, shapes)}" if shapes is not None else ""
        yield _Attempt(arguments, None, False, note)
        if shapes is not None and not was_one:
            yield _Attempt(doubled, shapes, True)
        yield _Attempt(arguments, None, True, note)
        return
    yield _Attempt(arguments, dynamic_shapes, False)
    yield _Attempt(arguments, dynamic_shapes, True)


def _why_fixed(module: nn.Module, shapes: Mapping[str, Any]) -> str:
    given = inspect.signature(module.forward).parameters
    named = [f"**{name}" for name in shapes if given[name].kind is inspect.Parameter.VAR_KEYWORD]
    if named:
        return f"torch.export takes no free sizes beside {named[0]}; name its arguments in forward"
    return "the module's Python does not leave it free"


def _export(module: nn.Module, attempt: _Attempt) -> Traced:
    args, kwargs = attempt.arguments
    with (
        in_turn(),
        quietly(),
        torch.enable_grad(),
        _without_autocast(),
        unwritten(module),
        noted_losses() as losses,
        noted_answers() as asked,
    ):
        program = torch.export.export(module, args, kwargs, dynamic_shapes=attempt.shapes, strict=attempt.strict)
    if attempt.doubled and not hold_for_one(asked):
        raise ModelError(type(module).__name__, "decides by whether the batch is one", "trace it as it is")
    asked = not_one(program) if attempt.strict else asked
    return Traced(program, (attempt.note,) if attempt.note else (), tuple(losses), tuple(asked))


def _without_autocast() -> Any:  # noqa: ANN401  (a context manager of torch's)
    device = "cuda" if torch.is_autocast_enabled("cuda") else "cpu"
    return torch.autocast(device, enabled=False)


def free_batch(module: nn.Module, arguments: Arguments) -> tuple[Arguments, Any]:
    """Arguments to trace with, and shapes for torch.export in which the first axis is free; None where none can be.

    A batch of one says nothing about other sizes (torch would fix it), so it is doubled.
    """
    flat, spec = pytree.tree_flatten(arguments)
    tensors = [each for each in flat if isinstance(each, Tensor) and each.dim()]
    if not tensors or not tensors[0].shape[0]:
        return arguments, None
    batch = tensors[0].shape[0]
    free = [isinstance(each, Tensor) and each.dim() > 0 and each.shape[0] == batch for each in flat]
    if batch == 1:
        flat = [torch.cat([each, each]) if is_free else each for each, is_free in zip(flat, free, strict=True)]
    shapes = [{0: Dim.AUTO} if is_free else None for is_free in free]
    args, kwargs = pytree.tree_unflatten(shapes, spec)
    named = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    return pytree.tree_unflatten(flat, spec) if batch == 1 else arguments, dict(named)
