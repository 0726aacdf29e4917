"""Probe: what torch says an op does with low operands."""

import pytest
import torch
from graphs import Function, prepared
from torch import nn

from ampgraph.fx_module.probe import Prober
from ampgraph.precision import Precision

torch.manual_seed(0)
X = torch.randn(4, 6)


def ask(function, *formals: str) -> str:
    graph = prepared(Function(function, w=nn.Parameter(torch.randn(6, 6))), X).graph
    node = next(node for node in reversed(graph.nodes) if node.op == "call_function")
    mode = next(iter(graph.nodes)).meta["val"].fake_mode
    return Prober(Precision.FLOAT16, mode).refusal(node, set(formals), result_follows=True)


@pytest.mark.parametrize(
    ("function", "formals", "answer"),
    [
        (lambda m, x: x @ m.w, ("self", "other"), ""),
        (lambda m, x: torch.linalg.inv(m.w + x.sum()), ("A",), "torch refuses it"),
        (lambda m, x: x + m.w[0], ("self",), "torch makes torch.float32 of it"),
        (lambda m, x: nn.functional.layer_norm(x, (6,)), ("input",), ""),
    ],
)
def test_answers(function, formals, answer) -> None:
    found = ask(function, *formals)
    assert found.startswith(answer) if answer else not found
