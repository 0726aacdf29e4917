"""Casts of many parameters by few kernels, forward and backward.

A cast by itself is a kernel a parameter in forward and one in backward, most of them over in two microseconds. Here
they go in groups, each a node of autograd: its gradients are cast when the last of them has come. Groups are small,
so that little is kept waiting in low precision and engines that exchange gradients while backward runs still can.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

MOST_TENSORS, MOST_BYTES = 32, 2**25  # of a group; the latter of its sources


def cast_together(sources: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """Each source in its type, through which gradients reach it."""
    made: list[Tensor | None] = [None] * len(sources)
    for group in _groups(sources, dtypes):
        given, dtype = [sources[index] for index in group], dtypes[group[0]]
        if len(group) == 1:
            made[group[0]] = given[0].to(dtype)
            continue
        for index, tensor in zip(group, _Casts.apply(dtype, None, *given), strict=True):  # type: ignore[no-untyped-call]
            made[index] = tensor
    return [tensor for tensor in made if tensor is not None]


def link_together(sources: Sequence[Tensor], copies: Sequence[Tensor]) -> list[Tensor]:
    """The copies as they are, through which gradients reach their sources."""
    made = [copy.detach() for copy in copies]
    for group in _groups(sources, [copy.dtype for copy in copies]):
        if not sources[group[0]].requires_grad:
            continue
        given, held = [sources[index] for index in group], [copies[index] for index in group]
        for index, tensor in zip(group, _Casts.apply(held[0].dtype, held, *given), strict=True):  # type: ignore[no-untyped-call]
            made[index] = tensor
    return made


def _groups(sources: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> Iterator[list[int]]:
    """Places of what may go together: one type, one device, all with gradients or all without. In their order."""
    waiting: dict[Any, tuple[list[int], int]] = {}
    for index, (source, dtype) in enumerate(zip(sources, dtypes, strict=True)):
        if type(source) not in _PLAIN or source._post_accumulate_grad_hooks or source._backward_hooks:
            yield [index]  # whoever hooks a gradient wants it when it comes; other kinds of tensors know their casts
            continue
        kind = dtype, source.dtype, source.device, source.requires_grad
        group, held = waiting.get(kind) or ([], 0)
        held += source.nbytes
        if group and (len(group) == MOST_TENSORS or held > MOST_BYTES):
            yield group
            group, held = [], source.nbytes
        group.append(index)
        waiting[kind] = group, held
    for group, _ in waiting.values():
        yield group


_PLAIN = (torch.nn.Parameter, Tensor)


class _Casts(torch.autograd.Function):
    """Sources in a type, or copies that are held already, as a function of all of them."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, held: Sequence[Tensor] | None, *sources: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.set_materialize_grads(False)
        ctx.dtype = sources[0].dtype
        if held is not None:
            return tuple([each.detach() for each in held])  # one version counter: a refresh spoils old graphs
        made = [torch.empty_like(each, dtype=dtype) for each in sources]
        torch._foreach_copy_(made, sources)
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        given = [each for each in gradients if each is not None]
        if torch.is_grad_enabled() or any(each.layout is not torch.strided for each in given):  # to be differentiated
            return None, None, *[each if each is None else each.to(ctx.dtype) for each in gradients]
        wide = [torch.empty_like(each, dtype=ctx.dtype) for each in given]
        torch._foreach_copy_(wide, given)
        found = iter(wide)
        return None, None, *[each if each is None else next(found) for each in gradients]
