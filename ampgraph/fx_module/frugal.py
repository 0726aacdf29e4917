"""Kernels and memory that a body can do without: it runs and is not shown.

Batch normalization counts its batches, each layer by a kernel of its own; here one kernel counts them all. What the
author wrote in place (`ReLU(inplace=True)`, `x += y`) was made anew, so that casts could stand anywhere; where none
does, it is written in place again: a tensor less, and memory that is still in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, fx

from ampgraph.fx_module.body import Body
from ampgraph.fx_module.mutation import IN_PLACE

_ADD = torch.ops.aten.add_.Tensor
# Backward of these asks for nothing that they overwrite.
_WRITERS = frozenset(getattr(torch.ops.aten, name).default for name in ("relu_", "relu6_", "hardtanh_")) | frozenset(
    {_ADD}
)
# Backward of these asks for nothing that they made.
_MAKERS = frozenset(
    getattr(torch.ops.aten, name).default
    for name in ("batch_norm", "conv1d", "conv2d", "conv3d", "group_norm", "layer_norm", "linear")
) | {torch.ops.aten.add.Tensor, _ADD}


def frugal(body: Body) -> Body:
    """The body with what its author wrote in place in place, and with its batches counted at once."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(body.graph, {}))
    found = [*_count_at_once(graph), *_write_in_place(graph)]
    return replace(body, run=fx.GraphModule({}, graph).forward, graph=graph) if found else body


def _write_in_place(graph: fx.Graph) -> Iterator[fx.Node]:
    for node in graph.nodes:
        target = node.meta.get(IN_PLACE)
        if target in _WRITERS and _may_write(node):
            node.target = target
            yield node


def _may_write(node: fx.Node) -> bool:
    """Whether the first operand is nobody else's, and of the type and shape that is to be written."""
    source = node.args[0]
    if not isinstance(source, fx.Node) or source.target not in _MAKERS or list(source.users) != [node]:
        return False
    old, new = source.meta.get("val"), node.meta.get("val")
    alike = isinstance(old, Tensor) and isinstance(new, Tensor) and old.dtype is new.dtype
    return alike and node.all_input_nodes.count(source) == 1 and source not in node.args[1:]


def _count_at_once(graph: fx.Graph) -> Iterator[fx.Node]:
    counts = [node for node in graph.nodes if _counts(node)]
    if len(counts) < 2:
        return
    with graph.inserting_before(counts[0]):
        yield graph.call_function(torch._foreach_add_, ([node.args[0] for node in counts], 1))
    for node in counts:
        graph.erase_node(node)


def _counts(node: fx.Node) -> bool:
    """Whether it adds one to a whole number that the module holds and the graph reads nowhere else."""
    if node.target is not _ADD or node.users or node.kwargs or node.args[1] != 1:
        return False
    source = node.args[0]
    assert isinstance(source, fx.Node)  # what is added to
    val = source.meta.get("val")
    is_held = source.op == "placeholder" and list(source.users) == [node]
    return is_held and isinstance(val, Tensor) and val.dtype is torch.int64
