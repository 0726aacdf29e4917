"""In-place ops: functional where nobody sees the difference, pinned where somebody does."""

import pytest
import torch
from graphs import Function, prepared
from torch import Tensor

from ampgraph.fx_module.mutation import PIN
from ampgraph.fx_module.schema import op_type

torch.manual_seed(0)
X = torch.randn(4, 6)


def ops(function) -> dict[str, bool]:
    """Op types, each with whether it is pinned."""
    graph = prepared(Function(function, buffer=torch.zeros(6)), X).graph
    return {op_type(node): PIN in node.meta for node in graph.nodes if node.op == "call_function"}


def chain(m, x: Tensor) -> Tensor:
    return (x * 2).relu_().add_(1.0)


def reread(m, x: Tensor) -> Tensor:
    y = x * 2
    y.relu_()
    return y + 1


def through_a_view(m, x: Tensor) -> Tensor:
    y = x * 2
    y.view(-1).relu_()
    return y + 1


def of_a_view_that_is_read_no_more(m, x: Tensor) -> Tensor:
    return (x * 2).view(-1).relu_()


def into_the_argument(m, x: Tensor) -> Tensor:
    return x.relu_()


def into_a_buffer(m, x: Tensor) -> Tensor:
    m.buffer.add_(x.detach().mean(0))
    return x * 2


def without_a_twin(m, x: Tensor) -> Tensor:
    return torch.empty_like(x).normal_() + x


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (chain, {"aten.mul": False, "aten.relu": False, "aten.add": False}),
        (reread, {"aten.mul": False, "aten.relu": False, "aten.add": False}),
        (through_a_view, {"aten.mul": True, "aten.view": True, "aten.relu_": True, "aten.add": True}),
        (of_a_view_that_is_read_no_more, {"aten.mul": False, "aten.view": False, "aten.relu": False}),
        (into_the_argument, {"aten.relu_": True}),
        (into_a_buffer, {"aten.detach": False, "aten.mean": False, "aten.add_": True, "aten.mul": False}),
        (without_a_twin, {"aten.empty_like": False, "aten.normal_": False, "aten.add": False}),
    ],
)
def test_what_becomes_of_writing(function, expected: dict[str, bool]) -> None:
    assert ops(function) == expected
