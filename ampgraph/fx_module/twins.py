"""Twins: the op that makes anew what another writes in place.

A twin takes the same arguments in the same order, whatever torch calls it (`pow_.Scalar` is `pow.Tensor_Scalar`, not
`pow.Scalar`), and makes the type that is written: in place `float32 += float64` stays float32, made anew it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode

from ampgraph.fx_module.fakes import settled

_COPY = torch.ops.aten.copy_.default


def made_anew(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """A new node before one that writes its first argument, with the same result; None where no op makes it."""
    found = _clone(node) if node.target is _COPY else _twin(node)
    if found is None:
        return None
    with graph.inserting_before(node):
        new = graph.call_function(*found)
    new.meta = dict(node.meta)
    return new


Call = tuple[OpOverload, tuple[Any, ...], dict[str, Any]]


def _clone(node: fx.Node) -> Call | None:
    """`aten.copy` has no derivative; where type and shape are those of the memory, it is a clone."""
    target, source = node.args[:2]
    old, new = (each.meta.get("val") if isinstance(each, fx.Node) else None for each in (target, source))
    if not isinstance(old, Tensor) or not isinstance(new, Tensor):
        return None
    alike = (
        old.dtype is new.dtype and old.device == new.device and list(map(str, old.shape)) == list(map(str, new.shape))
    )
    if not alike or not settled(old, FakeTensorMode()).is_contiguous():
        return None
    return torch.ops.aten.clone.default, (source,), {"memory_format": torch.contiguous_format}


def _twin(node: fx.Node) -> Call | None:
    assert isinstance(node.target, OpOverload)  # only those are known to write
    for twin in _overloads(node.target):
        call = twin, node.args, {**_defaults(node, node.target, twin), **node.kwargs}
        if _takes_the_same(node.target, twin):
            return call if _keeps_type(node, call) else None
    return None


def _overloads(op: OpOverload) -> Iterator[OpOverload]:
    """Functional ops of the name, the one of the same overload first."""
    namespace, name = op._schema.name.split("::")
    packet = getattr(torch.ops.aten, name[:-1], None)
    if namespace != "aten" or not name.endswith("_") or name.endswith("__") or packet is None:
        return
    names = packet.overloads()
    for each in sorted(names, key=lambda each: each != op._overloadname):
        found = getattr(packet, each)
        if not found._schema.is_mutable:
            yield found


def _takes_the_same(op: OpOverload, twin: OpOverload) -> bool:
    ours, theirs = ([str(formal.type) for formal in each._schema.arguments] for each in (op, twin))
    return ours == theirs[: len(ours)]


def _defaults(node: fx.Node, op: OpOverload, twin: OpOverload) -> dict[str, Any]:
    """What the in-place op takes for granted and its twin wants to be told."""
    told = {formal.name for formal in twin._schema.arguments if not formal.has_default_value()}
    left = op._schema.arguments[len(node.args) :]
    return {formal.name: formal.default_value for formal in left if formal.has_default_value() and formal.name in told}


def _keeps_type(node: fx.Node, call: Call) -> bool:
    """Whether a call makes the type that is written. Asked of torch itself, on fake tensors."""
    op, given, named = call
    val, mode = node.meta.get("val"), FakeTensorMode()
    args, kwargs = fx.node.map_arg((given, named), lambda each: settled(each.meta.get("val"), mode))
    try:
        with torch.no_grad(), mode:
            made = op(*args, **kwargs)
    except Exception:
        return False
    return isinstance(val, Tensor) and isinstance(made, Tensor) and made.dtype is val.dtype
