"""What a body saves: counters in one kernel, and writes in place where the author had them and no cast came between."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import ampgraph
from ampgraph import TracedModule

ATEN = torch.ops.aten


class Layers(nn.Module):
    """Convolutions as torchvision writes them."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norms, self.relu = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2)), nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(x))
        y += x
        return self.relu(y).mean((2, 3))


def made(module: nn.Module, x: Tensor | None = None) -> tuple[TracedModule, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(4, 3, 8, 8) if x is None else x
    return ampgraph.trace(module, x, precision="bfloat16"), x


def targets(traced: TracedModule) -> list[Any]:
    body = traced._bodies[traced._modes(), torch.device("cpu")]
    return [node.target for node in body.graph.nodes if node.op == "call_function"]


def outcome(module: nn.Module, x: Tensor) -> list[Tensor]:
    for parameter in module.parameters():
        parameter.grad = None
    found = module(x)
    found.square().sum().backward()
    return [found, *[each.grad for each in module.parameters()], *module.buffers()]


def test_what_was_in_place_is_and_numbers_are_the_same() -> None:
    traced, x = made(Layers())
    other, _ = made(Layers(inplace=False))
    ran = targets(traced)
    assert ran.count(ATEN.relu_.default) == 2
    assert ran.count(ATEN.add_.Tensor) == 1
    assert ATEN.relu_.default not in targets(other), "nobody asked for it"
    assert ATEN.relu_.default not in {node.target for node in traced.graph.nodes}, "what is shown is what was decided"
    for _ in range(3):
        assert all(map(torch.equal, outcome(traced, x), outcome(other, x)))


def test_batches_are_counted_by_one_kernel() -> None:
    traced, x = made(Layers())
    ran = targets(traced)
    assert ran.count(torch._foreach_add_) == 1
    before = [int(norm.num_batches_tracked) for norm in traced.original.norms]
    outcome(traced, x)
    assert [int(norm.num_batches_tracked) for norm in traced.original.norms] == [count + 1 for count in before]
    traced.eval()
    assert torch._foreach_add_ not in targets(traced)


class Shared(nn.Module):
    """One normalization, used twice: its counter is not to be counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.other = nn.BatchNorm1d(6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.norm(self.norm(x)) + 1)


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    traced, x = made(Shared(), torch.randn(5, 6))
    before = int(traced.original.norm.num_batches_tracked)
    outcome(traced, x)
    assert int(traced.original.norm.num_batches_tracked) == before + 2


class Reads(nn.Module):
    """In place on what somebody asks for later: the value itself, or backward."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.way = nn.Linear(6, 6), way

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        if self.way == "twice":
            return y + functional.relu(y)
        if self.way == "itself":
            return y.add_(y)
        if self.way == "backward":
            return torch.exp(y).relu_()
        if self.way == "cast":
            return self.layer(y.float().add_(1.5))
        return y.add_(torch.ones(6, dtype=torch.float32))


@pytest.mark.parametrize("way", ["twice", "itself", "backward", "cast", "type"])
def test_where_it_would_be_wrong_it_is_made_anew(way: str) -> None:
    x = torch.randn(4, 6)
    traced, _ = made(Reads(way), x)
    found = outcome(traced, x)
    graph = fx.GraphModule({}, traced.graph)
    held = dict(traced.named_parameters())
    names = [str(node.target) for node in graph.graph.nodes if node.op == "placeholder"]
    given = {"p_layer_weight": held["layer.weight"], "p_layer_bias": held["layer.bias"], "x": x}
    constants = traced.captured.prepared.constants
    (shown,) = graph(*[given[name] if name in given else next(iter(constants.values())) for name in names])
    assert torch.equal(found[0], shown)
    expected = torch.autograd.grad(shown.square().sum(), list(held.values()))
    assert all(map(torch.equal, found[1:], expected))


def test_a_graph_may_be_run_twice_before_backward() -> None:
    traced, x = made(Layers())
    twice = traced(x).sum() + traced(x).sum()
    twice.backward()
    assert all(parameter.grad is not None for parameter in traced.parameters())
