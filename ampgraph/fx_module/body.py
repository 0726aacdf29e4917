"""Body: the part of a capture that runs, for one device. Casts of parameters are made outside of it and come in.

The graph that is shown and checked has them inside; the body is that graph with each such cast as an input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ampgraph.fx_module.apply import TO_COPY, is_cast
from ampgraph.fx_module.capture import Capture
from ampgraph.fx_module.prepare import State


@dataclass(frozen=True, slots=True)
class Fetch:
    """One state input of a body: a parameter, buffer or constant by name, in a type of its own or as it is."""

    kind: str
    target: str
    dtype: torch.dtype | None


@dataclass(frozen=True, eq=False)
class Body:
    """A function of fetched state and flat inputs that returns flat results."""

    fetches: tuple[Fetch, ...]
    constants: Mapping[str, Tensor]
    run: Callable[..., tuple[Any, ...]]
    switches_gradients: bool
    graph: fx.Graph


def make_body(capture: Capture, device: torch.device) -> Body:
    """The body of a capture on a device."""
    graph, env = fx.Graph(), dict[fx.Node, fx.Node]()
    states = {state.name: state for state in capture.prepared.states}
    fetches = [_fetch(graph, env, node, states) for node in _fetched(capture.written, states)]
    for node in capture.written.nodes:
        if node not in env and not (node.op == "placeholder" and node.name in states):
            env[node] = graph.node_copy(node, env.__getitem__)
    if device != capture.device:
        _move(graph, device)
    module = fx.GraphModule({}, graph)
    constants = {name: tensor.to(device) for name, tensor in capture.prepared.constants.items()}
    switches = any(node.target is torch._C._set_grad_enabled for node in graph.nodes)
    return Body(tuple(fetches), constants, module.forward, switches, graph)


def _fetched(written: fx.Graph, states: Mapping[str, State]) -> list[fx.Node]:
    """State placeholders that something but a cast reads, then casts of state."""
    found: list[fx.Node] = []
    for node in written.nodes:
        source = node.args[0] if is_cast(node) else node
        if isinstance(source, fx.Node) and source.op == "placeholder" and source.name in states:
            if node is source and all(is_cast(user) for user in node.users):
                continue
            found.append(node)
    return sorted(found, key=is_cast)


def _fetch(graph: fx.Graph, env: dict[fx.Node, fx.Node], node: fx.Node, states: Mapping[str, State]) -> Fetch:
    env[node] = graph.placeholder(node.name)
    env[node].meta = dict(node.meta)
    source = node.args[0] if node.target is TO_COPY else node
    assert isinstance(source, fx.Node)  # a placeholder or a cast of one
    state = states[source.name]
    return Fetch(state.kind, state.target, node.kwargs.get("dtype") if source is not node else None)  # type: ignore[arg-type]


def _move(graph: fx.Graph, device: torch.device) -> None:
    """Tensors that the graph makes out of nothing are made where the module lives now."""

    def moved(given: Any) -> Any:  # noqa: ANN401
        return device if isinstance(given, torch.device) else given

    for node in graph.nodes:
        if node.op == "call_function":
            node.args = tuple(moved(each) for each in node.args)
            node.kwargs = {name: moved(each) for name, each in node.kwargs.items()}
