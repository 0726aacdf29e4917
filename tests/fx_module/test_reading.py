"""Inputs that a module casts and nothing else may come, and be held, in the type that they are cast to."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.fx_module.reading import read_types
from ampgraph.fx_module.recipe import Call, Recipe
from ampgraph.fx_module.signature import layout
from tests.training import Rerun, same, same_state

LOW = torch.bfloat16
X, Y = torch.randn(6, 12), torch.randint(5, (6,))


class Two(nn.Module):
    """Two inputs, of which one is also added as it is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(12, 5), nn.Linear(12, 5)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.first(x) + self.second(z) + z.square().sum().log()


def traced(module: nn.Module, *inputs: Tensor) -> ampgraph.TracedModule:
    return ampgraph.trace(module, inputs, precision="bfloat16")


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))


def test_only_what_is_cast_and_nothing_else_is_named() -> None:
    found = traced(Two(), X, X.clone())
    assert found.read_types("first", "second") == [("first", LOW)]
    assert found.read_types(z="second", x="first") == [("first", LOW)]


def test_it_may_come_low_and_gives_the_same() -> None:
    found, x = traced(layers(), X), X.to(LOW)
    assert torch.equal(found(X), found(x))
    with pytest.raises(ModelError, match="float16"):
        found(X.half())
    with pytest.raises(ModelError, match="bfloat16"):
        traced(Two(), X, X.clone())(X, x)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (Call((X, Y)), [LOW, torch.int64]),
        (Call(((X,), X)), [LOW, torch.float32]),
        (Call(({"input": X}, Y)), [LOW, torch.int64]),
    ],
)
def test_the_places_of_a_call_are_found(call: Call, expected: list[torch.dtype]) -> None:
    module = traced(layers(), X)
    recipe = Recipe(module, nn.functional.cross_entropy, torch.optim.SGD(module.parameters()))
    assert read_types(recipe, layout(call)) == expected


def test_a_module_that_returns_its_loss_and_one_that_says_nothing() -> None:
    module = traced(Two(), X, X.clone())
    optimizer = torch.optim.SGD(module.parameters())
    assert read_types(Recipe(module, None, optimizer), layout(Call((X,), {"z": X}))) == [LOW, torch.float32]
    assert read_types(Recipe(layers(), None, optimizer), layout(Call((X, X)))) == [torch.float32] * 2


def steps(capture: Any, accumulate: int) -> tuple[ampgraph.TrainStep, list[Tensor]]:
    torch.manual_seed(0)
    module = traced(layers(), X)
    optimizer, scaler = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, fused=True), ampgraph.LossScaler("cpu")
    step = ampgraph.TrainStep(
        module, nn.functional.cross_entropy, optimizer, scaler, accumulate=accumulate, capture=capture
    )
    return step, [step(X + place, Y) for place in range(8)]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_recorded_steps_hold_it_low_and_are_the_plain_loop(accumulate: int) -> None:
    (ours, found), (plain, expected) = steps(Rerun(), accumulate), steps(False, accumulate)
    assert all(map(same, found, expected))
    assert same_state(ours.recipe.module, plain.recipe.module)
    assert ours.captured is not None
    graphs = list(ours.captured._graphs.values())
    assert graphs
    assert all([each.dtype for each in graph.inputs] == [LOW, torch.int64] for graph in graphs)
    held = ours.recipe.module._copies._held
    assert bool(held) == (accumulate > 1), "copies are held where micro-steps share them"
