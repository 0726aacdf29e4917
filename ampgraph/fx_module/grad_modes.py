"""Grad modes: which nodes of a flat graph run with gradients on, as `torch.no_grad()` in a forward wants it.

What is made while they are off has no gradient, whoever reads it. So nothing may be moved, shared or replaced from
one mode into another.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import torch
from torch import fx

Mode = bool | None  # None: as it is for whoever calls the graph


def grad_modes(graph: fx.Graph) -> dict[fx.Node, Mode]:
    """The mode in which each node runs."""
    mode: Mode = None
    modes = dict[fx.Node, Mode]()
    for node in graph.nodes:
        modes[node] = mode
        if node.target is torch._C._set_grad_enabled:
            given = node.args[0]  # a number, or the node that asked for the mode before
            mode = modes[given] if isinstance(given, fx.Node) else bool(given)
    return modes


def made_in(modes: Mapping[fx.Node, Mode], node: fx.Node) -> Mode:
    """The mode in which a node's value was made: a part of several results is made with all of them."""
    source = node.args[0] if node.target is operator.getitem else None
    return modes[source] if isinstance(source, fx.Node) else modes[node]


def place_before(modes: Mapping[fx.Node, Mode], user: fx.Node, value: fx.Node) -> fx.Node:
    """The last node before which a function of `value` can stand that serves `user` and has the value's gradient.

    Nodes that are not among `modes` count as of no mode.
    """
    mode, place = made_in(modes, value), user
    while (place not in modes or modes[place] is not mode) and place.prev is not value:
        place = place.prev
    return place
