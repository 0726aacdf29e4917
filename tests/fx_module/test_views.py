"""Views in a body: what is taken apart is taken apart first, what changes nothing is left out; numbers are the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import ampgraph
from ampgraph import TracedModule

ATEN = torch.ops.aten
WAYS = ("unbind", "select", "some", "last", "whole")


class Attention(nn.Module):
    """Query, key and value out of one product, as timm, torchvision and others write it."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.packed, self.merged, self.way = nn.Linear(32, 96), nn.Linear(32, 32), way

    def forward(self, x: Tensor) -> Any:
        packed = self.packed(x).reshape(x.shape[0], x.shape[1], 3, 4, 8)
        if self.way == "last":
            query, key, value = packed.permute(0, 3, 1, 4, -3).unbind(-1)
        else:
            turned = packed.permute(2, 0, 3, 1, 4)
            query, key, value = turned.unbind() if self.way in ("unbind", "whole") else self._selected(turned)
        found = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        merged = self.merged(found).flatten(-1).flatten(0, 1)
        return (merged, turned + 1.0) if self.way == "whole" else merged

    def _selected(self, turned: Tensor) -> tuple[Tensor, ...]:
        return (turned[0], turned[-2], turned[2]) if self.way == "select" else (turned[0], turned[1], turned[1])


class Copies(TorchDispatchMode):
    """Counts what backward copies, zeros and puts together."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (ATEN.clone, ATEN.stack, ATEN.select_backward):
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def made(way: str) -> tuple[TracedModule, Tensor]:
    module = Attention(way)
    x = torch.randn(2, 6, 32)
    return ampgraph.trace(module, x, precision="bfloat16"), x


def outcome(run: Any, x: Tensor, state: list[Tensor]) -> list[Tensor]:
    found = run(x)
    first = found[0] if isinstance(found, tuple) else found
    loss = first.float().square().sum() + (found[1].float().sum() if isinstance(found, tuple) else 0.0)
    return [first, *torch.autograd.grad(loss, state)]


def as_shown(traced: TracedModule) -> Any:
    graph, named = traced.graph, {f"p_{name.replace('.', '_')}": each for name, each in traced.named_parameters()}
    places = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    module = fx.GraphModule({}, graph)

    def run(x: Tensor) -> Any:
        found = module(*[(named | {"x": x})[place] for place in places])
        return found if len(found) > 1 else found[0]

    return run


@pytest.mark.parametrize("way", WAYS)
def test_numbers_are_those_of_the_graph_that_is_shown(way: str) -> None:
    traced, x = made(way)
    state = list(traced.parameters())
    ours, shown = outcome(traced, x, state), outcome(as_shown(traced), x, state)
    assert all(map(torch.equal, ours, shown))
    assert traced(x[:1])[0].shape == shown[0][:6].shape if way == "whole" else traced(x[:1]).shape == shown[0][:6].shape


@pytest.mark.parametrize(
    ("way", "copies"),
    [("unbind", ["stack"]), ("select", ["stack"]), ("last", ["stack"]), ("whole", ["stack", "clone"])],
)
def test_backward_puts_gradients_together_where_they_belong(way: str, copies: list[str]) -> None:
    traced, x = made(way)
    found = traced(x)
    loss = (found[0].float().sum() + found[1].float().sum()) if isinstance(found, tuple) else found.float().sum()
    with Copies() as mode:
        loss.backward()
    assert sorted(mode.names) == sorted(copies)


def test_what_is_not_all_of_an_axis_stays_as_it_is() -> None:
    traced, _ = made("some")
    targets = [node.target for node in traced._bodies[traced._modes(), torch.device("cpu")].graph.nodes]
    assert targets.count(ATEN.select.int) >= 2
    assert ATEN.unbind.int not in targets


def test_flattening_one_axis_is_left_out() -> None:
    traced, _ = made("unbind")
    body = traced._bodies[traced._modes(), torch.device("cpu")]
    count = [node.target for node in traced.graph.nodes].count(ATEN.flatten.using_ints)
    assert [node.target for node in body.graph.nodes].count(ATEN.flatten.using_ints) == count - 1
