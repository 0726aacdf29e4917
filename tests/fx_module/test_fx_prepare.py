"""Prepare: exported programs become flat graphs of their own."""

import pytest
import torch
from graphs import Function, prepared
from torch import nn
from torch_models import Convolutional, Language, language_batch

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.fx_module.schema import op_type

torch.manual_seed(0)
X = torch.randn(4, 6)


def types(found) -> list[str]:
    return [op_type(node) for node in found.graph.nodes if node.op == "call_function"]


def test_checks_of_types_are_gone_and_casts_are_not() -> None:
    found = prepared(Function(lambda m, x: x.half().float()), X)
    assert types(found) == ["aten.to", "aten.to"]


def test_a_constant_is_taken_as_it_is() -> None:
    found = prepared(Function(lambda m, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), X)
    assert types(found) == ["aten.add"]
    (state,) = found.states
    assert state.kind == "constant"
    assert found.constants[state.target].tolist() == [1, 2, 3, 4, 5, 6]


def test_state_comes_first_and_tied_weights_once() -> None:
    found = prepared(Language(), language_batch())
    holders = [node.name for node in found.graph.nodes if node.op == "placeholder"]
    assert holders == [*(state.name for state in found.states), *found.inputs]
    targets = [state.target for state in found.states]
    assert ("tokens.weight" in targets) != ("head.weight" in targets)


def test_regions_are_plain_nodes() -> None:
    def function(m, x):
        with torch.no_grad():
            y = x.sin()
        with torch.autocast("cpu", enabled=False):
            return y.cos() + x

    names = types(prepared(Function(function), X))
    assert [name for name in names if name.startswith("aten")] == ["aten.sin", "aten.cos", "aten.add"]
    assert sum("set_grad_enabled" in name for name in names) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (x * 2).data.clamp_(0, 1),
        lambda m, x: x * x.data.mean(),
        lambda m, x: torch.func.jacrev(lambda a: a * a)(x).sum((0, 1)),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_the_tracer_loses_sight_of_is_refused_with_its_line(function) -> None:
    with pytest.raises(ModelError, match=r"module at .*\.py:\d+: takes a tensor out of the tracer's sight"):
        prepared(Function(function), X)


def test_branches_in_the_graph_are_refused() -> None:
    def function(m, x):
        return torch.cond(x.sum() > 0, lambda a: a.sin(), lambda a: a.cos(), (x,))

    with pytest.raises(ModelError, match=r"uses cond at .*\.py:\d+, whose branches no cast can reach; leave"):
        prepared(Function(function), X)


def test_cudnn_is_allowed_wherever_it_was_traced() -> None:
    found = prepared(Convolutional(), torch.randn(2, 3, 8, 8))
    norm = next(node for node in found.graph.nodes if op_type(node) == "aten.batch_norm")
    assert norm.args[8] is True


def test_what_is_not_used_is_no_input() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    assert [state.target for state in prepared(Spare(), X).states] == ["used.weight", "used.bias"]


def test_a_constant_that_is_returned_is_a_new_one_each_time() -> None:
    def function(m, x):
        start = torch.tensor([1.0, 2.0])
        return x * 2, torch.tensor(0), start.view(2, 1), start.sum()

    traced = ampgraph.trace(Function(function), X)
    for _ in range(2):
        _, count, view, total = traced(X)
        assert (count.item(), view.flatten().tolist(), total.item()) == (0, [1.0, 2.0], 3.0)
        count += 1  # what a loop adds up from there
        view.mul_(10)
