"""Which casts of parameters go together, looked up once for as long as the parameters stay as they are."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import Tensor

from ampgraph.fx_module.shared_memory import sharing

MOST_TENSORS, MOST_BYTES = 32, 2**25  # of a group; the latter of its sources
_PLAIN = (torch.nn.Parameter, Tensor)


@dataclass(frozen=True, slots=True)
class Group:
    """Sources, by their places in a list, whose casts are one step. `shares`: whether they lie in one memory.

    `order`: those of a group one after the other, the largest last, and where each is in that: both empty if they
    stand so.
    """

    places: tuple[int, ...]
    dtype: torch.dtype
    trained: bool
    shares: bool = False
    order: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


class Grouping:
    """The groups of one list of sources, with what they were found for."""

    def __init__(self, dtypes: Iterable[torch.dtype]) -> None:
        self._dtypes = tuple(dtypes)
        self._groups: tuple[Group, ...] = ()
        self._sources: list[weakref.ref[Tensor]] = []
        self._wishes: tuple[list[bool], list[bool]] = [], []

    def of(self, sources: Sequence[Tensor]) -> tuple[Group, ...]:
        """Groups of sources in this grouping's types."""
        hooked = [bool(each._backward_hooks or each._post_accumulate_grad_hooks) for each in sources]
        wishes = [each.requires_grad for each in sources], hooked
        same = wishes == self._wishes and all(map(is_, [each() for each in self._sources], sources))
        if not same or not self._groups:
            self._groups = tuple(groups_of(sources, self._dtypes))
            self._sources, self._wishes = [weakref.ref(each) for each in sources], wishes
        return self._groups


def groups_of(sources: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> Iterator[Group]:
    """What may go together: one type, one device, all with gradients or all without; and what lies in one memory."""
    plain, alone = list[int](), list[int]()
    for place, source in enumerate(sources):
        # Whoever hooks a gradient wants it when it comes; other kinds of tensors know their casts.
        (plain if type(source) in _PLAIN and not _is_hooked(source) else alone).append(place)
    yield from (Group((place,), dtypes[place], sources[place].requires_grad) for place in alone)
    together = sharing(plain, [(sources[place], dtypes[place]) for place in plain])
    for places in together:
        yield Group(tuple(places), dtypes[places[0]], sources[places[0]].requires_grad, shares=True)
    taken = {place for places in together for place in places}
    yield from _small([place for place in plain if place not in taken], sources, dtypes)


def _small(places: Iterable[int], sources: Sequence[Tensor], dtypes: Sequence[torch.dtype]) -> Iterator[Group]:
    """Groups in the order of their sources, none too large."""
    waiting: dict[Any, tuple[list[int], int]] = {}
    for place in places:
        source, dtype = sources[place], dtypes[place]
        kind = dtype, source.dtype, source.device, source.requires_grad
        group, held = waiting.get(kind) or ([], 0)
        held += source.nbytes
        if group and (len(group) == MOST_TENSORS or held > MOST_BYTES):
            yield Group(tuple(group), dtype, source.requires_grad, order=_order(group, sources))
            group, held = [], source.nbytes
        group.append(place)
        waiting[kind] = group, held
    for (dtype, _, _, trained), (group, _) in waiting.items():
        yield Group(tuple(group), dtype, trained, order=_order(group, sources))


def _order(group: Sequence[int], sources: Sequence[Tensor]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of a group's members by size, and back."""
    members = range(len(group))
    order = tuple(sorted(members, key=lambda member: sources[group[member]].numel()))
    return (order, tuple(map(order.index, members))) if order != tuple(members) else ((), ())


def _is_hooked(source: Tensor) -> bool:
    return bool(source._backward_hooks or source._post_accumulate_grad_hooks)
