"""Casts to float32 that the next op can do itself, as it reads: for a body, which runs and is not shown.

On a GPU softmax and log-softmax read float16 and write float32 in one kernel when they are asked for a type, and in
backward write a float16 gradient at once. autocast has cross-entropy made of that one, so a cast in the open would be
worse than autocast: of a language model's scores it is two more float32 tensors of tokens times vocabulary, forward and
backward. Elsewhere torch makes the same cast that the graph had. Of so many classes the loss has a backward of its own.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, fx

from ampgraph.fx_module.apply import TO_COPY
from ampgraph.fx_module.body import Body
from ampgraph.fx_module.cross_entropy import MANY, cross_entropy

_SOFTMAXES = (torch.ops.aten.softmax.int, torch.ops.aten.log_softmax.int)
_CROSS_ENTROPY = torch.ops.aten.cross_entropy_loss.default
_HALVES = (torch.float16, torch.bfloat16)
_DEFAULTS = {"weight": None, "reduction": 1, "ignore_index": -100, "label_smoothing": 0.0}


def widened(body: Body) -> Body:
    """The body with such casts left to the ops that read them. One that others read too stays for those."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(body.graph, {}))
    found = [node for node in graph.nodes if _reads_a_cast(node)]
    for node in found:
        _let_read(graph, node)
    if not found:
        return body
    graph.eliminate_dead_code()
    return replace(body, run=fx.GraphModule({}, graph).forward, graph=graph)


def _reads_a_cast(node: fx.Node) -> bool:
    return (node.target in _SOFTMAXES and len(node.args) == 2 and not node.kwargs and _is_widened(node.args[0])) or (
        node.target is _CROSS_ENTROPY and _is_widened(node.args[0]) and _is_of_classes(node)
    )


def _is_widened(given: object) -> bool:
    if not isinstance(given, fx.Node) or given.target is not TO_COPY or given.kwargs != {"dtype": torch.float32}:
        return False
    source = given.args[0]
    val = source.meta.get("val") if isinstance(source, fx.Node) else None
    return isinstance(val, Tensor) and val.dtype in _HALVES


def _is_of_classes(node: fx.Node) -> bool:
    """Whether the targets are classes and not their probabilities, and are taken as they are."""
    scores, target = node.args[0], node.args[1]
    assert isinstance(scores, fx.Node)  # a cast
    val = target.meta.get("val") if isinstance(target, fx.Node) else None
    if not isinstance(val, Tensor) or val.dtype is not torch.int64 or val.dim() != _rank(scores) - 1:
        return False
    return bool(_option(node, "label_smoothing") == 0)


def _let_read(graph: fx.Graph, node: fx.Node) -> None:
    cast = node.args[0]
    assert isinstance(cast, fx.Node)  # asked before
    low = cast.args[0]
    if node.target in _SOFTMAXES:
        node.args = (low, node.args[1], torch.float32)
        return
    if _is_of_many_classes(cast, node):
        options = [_option(node, name) for name in ("reduction", "ignore_index")]
        node.target, node.args, node.kwargs = cross_entropy, (low, node.args[1], *options), {}
        return
    with graph.inserting_before(node):
        dim = 0 if _rank(cast) == 1 else 1
        logarithms = graph.call_function(torch.ops.aten.log_softmax.int, (low, dim, torch.float32))
    logarithms.meta = dict(cast.meta)
    options = [_option(node, name) for name in ("weight", "reduction", "ignore_index")]
    node.target, node.kwargs = torch.ops.aten.nll_loss_nd.default, {}
    node.args = (logarithms, node.args[1], *options)


def _is_of_many_classes(cast: fx.Node, node: fx.Node) -> bool:
    if _rank(cast) != 2 or _option(node, "weight") is not None:
        return False
    classes = cast.meta["val"].shape[1]
    return isinstance(classes, int) and classes >= MANY


def _option(node: fx.Node, name: str) -> fx.node.Argument:
    place = 2 + list(_DEFAULTS).index(name)
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, _DEFAULTS[name])


def _rank(cast: fx.Node) -> int:
    source = cast.args[0]
    assert isinstance(source, fx.Node)  # what is cast
    rank = source.meta["val"].dim()
    assert isinstance(rank, int)  # of a tensor
    return rank
