"""Fake values: what every node of a graph makes, in types and sizes, computed by torch and holding no data."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.passes.fake_tensor_prop import FakeTensorProp


def propagate(graph: fx.Graph) -> None:
    """Compute the fake value of every node from those of the placeholders, into `meta["val"]`."""
    fakes = [node.meta.get("val") for node in graph.nodes if node.op == "placeholder"]
    mode = detect_fake_mode([fake for fake in fakes if isinstance(fake, Tensor)])
    with torch.no_grad(), unheeded(mode):
        FakeTensorProp(fx.GraphModule({}, graph), mode).propagate_dont_convert_inputs(*fakes)


def unheeded(mode: FakeTensorMode | None) -> AbstractContextManager[Any]:
    """A context in which sizes that depend on numbers in tensors may come up and be forgotten again."""
    environment = mode.shape_env if mode is not None else None
    return environment.ignore_fresh_unbacked_symbols() if environment is not None else nullcontext()


def settle(graph: fx.Graph) -> None:
    """Give every node a fake value of the example's sizes.

    Some kernels refuse free sizes where torch.export itself does without asking them. A graph whose sizes depend on
    numbers in tensors has no such values and keeps those of the export.
    """
    mode = FakeTensorMode()
    before = {node: node.meta.get("val") for node in graph.nodes}
    for node in (each for each in graph.nodes if each.op == "placeholder"):
        node.meta["val"] = settled(node.meta.get("val"), mode)
    try:
        propagate(graph)
    except Exception:
        for node, val in before.items():
            node.meta["val"] = val


def size_of(size: int | torch.SymInt) -> int:
    """A size as it is in the example."""
    if isinstance(size, int):
        return size
    hint = getattr(size.node, "hint", None)
    return int(hint) if isinstance(hint, int) else 1


def settled(val: Any, mode: FakeTensorMode) -> Any:  # noqa: ANN401  (what nodes hold)
    """A fake value with sizes as they are in the example."""
    if isinstance(val, torch.SymInt):
        return size_of(val)
    if not isinstance(val, Tensor):
        return val
    sizes, strides = ([size_of(each) for each in found] for found in (val.shape, val.stride()))
    with mode:
        return torch.empty_strided(sizes, strides, dtype=val.dtype, device=val.device)
