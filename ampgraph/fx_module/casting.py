"""Casts of many parameters by few kernels, forward and backward.

A cast by itself is a kernel a parameter in forward and one in backward, most of them over in two microseconds. Here
they go in groups, each a node of autograd: its gradients are cast when the last of them has come. Groups are small,
so that little is kept waiting in low precision and engines that exchange gradients while backward runs still can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ampgraph.fx_module.grouping import Group, groups_of
from ampgraph.fx_module.shared_memory import blank_copies

FEW = 4  # casts: one by one, autograd's C++ is done before a node in Python has begun, and none waits for another


def cast_together(sources: Sequence[Tensor], dtypes: Sequence[torch.dtype], few: int = 1) -> list[Tensor]:
    """Each source in its type, through which gradients reach it. `few`: as `cast_group` takes it."""
    made: dict[int, Tensor] = {}
    for group in groups_of(sources, dtypes):
        found = cast_group(group, [sources[place] for place in group.places], few)
        made.update(zip(group.places, found, strict=True))
    return [made[place] for place in range(len(sources))]


def cast_group(group: Group, given: Sequence[Tensor], few: int = FEW) -> Sequence[Tensor]:
    """The sources of one group in its type. For plain tensors: nothing here looks for transforms of functions.

    `few`: so many go one by one.
    """
    if len(given) <= few and not group.shares:
        order, back = group.order
        if not order:
            return [each.to(group.dtype) for each in given]
        # The largest last: autograd casts its gradient first, while others' are still small.
        cast = [given[member].to(group.dtype) for member in order]
        return [cast[place] for place in back]
    made: tuple[Tensor, ...] = _apply(group.dtype, None, group.shares, *given)  # type: ignore[no-untyped-call]
    return made


def link_together(sources: Sequence[Tensor], copies: Sequence[Tensor]) -> list[Tensor]:
    """The copies as they are, through which gradients reach their sources."""
    made = [copy.detach() for copy in copies]
    for group in groups_of(sources, [copy.dtype for copy in copies]):
        if group.trained:
            given, held = [sources[place] for place in group.places], [copies[place] for place in group.places]
            linked = _Casts.apply(group.dtype, held, group.shares, *given)  # type: ignore[no-untyped-call]
            for place, tensor in zip(group.places, linked, strict=True):
                made[place] = tensor
    return made


class _Casts(torch.autograd.Function):
    """Sources in a type, or copies that are held already, as a function of all of them."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, held: Sequence[Tensor] | None, shares: bool, *sources: Tensor) -> Any:  # noqa: ANN401
        ctx.set_materialize_grads(False)
        ctx.dtype = sources[0].dtype
        if held is not None:
            return tuple([each.detach() for each in held])  # one version counter: a refresh spoils old graphs
        made = blank_copies(sources, dtype) if shares else [torch.empty_like(each, dtype=dtype) for each in sources]
        torch._foreach_copy_(made, sources)
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        given, dtype = [each for each in gradients if each is not None], ctx.dtype
        if torch.is_grad_enabled() or {each.layout for each in given} - _DENSE:  # to be differentiated
            return None, None, None, *[each if each is None else each.to(dtype) for each in gradients]
        wide = [torch.empty_like(each, dtype=dtype) for each in given]
        torch._foreach_copy_(wide, given)
        if len(given) == len(gradients):
            return None, None, None, *wide
        found = iter(wide)
        return None, None, None, *[each if each is None else next(found) for each in gradients]


_DENSE = {torch.strided}
# What `Function.apply` comes down to where no transform of functions is at work, without its look at every argument.
_apply = super(torch.autograd.Function, _Casts).apply
