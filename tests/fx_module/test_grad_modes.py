"""Gradients under torch.no_grad in a forward: a traced module trains what the original trains."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import Function, prepared
from torch import Tensor, nn
from torch.nn import functional

import ampgraph
from ampgraph.fx_module.grad_modes import grad_modes
from ampgraph.fx_module.schema import op_type


def commitment(m: Any, x: Tensor) -> Tensor:
    """VQ-VAE: the nearest code is looked for without gradients, before the loss."""
    found = m.encode(x)
    with torch.no_grad():
        nearest = torch.cdist(found, m.buffer).argmin(1)
    return functional.mse_loss(found, m.buffer[nearest])


def statistic(m: Any, x: Tensor) -> Tensor:
    found = m.encode(x)
    with torch.no_grad():
        mean = found.mean(0)
    return (found - mean).exp().mean()


def teacher_first(m: Any, x: Tensor) -> Tensor:
    found = m.encode(x).exp()
    with torch.no_grad():
        target = m.head(found)
    return functional.mse_loss(m.head(found), target * 2)


def teacher_of_the_input(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        target = m.head(x)
    return functional.mse_loss(m.encode(x) + x, target * 2)


def gradients_within(m: Any, x: Tensor) -> Tensor:
    found = m.encode(x).exp()
    with torch.no_grad():
        off = m.head(found)
        with torch.enable_grad():
            on = m.head(found)
    return (off - on * 2).square().mean()


def piece_first(m: Any, x: Tensor) -> Tensor:
    pieces = m.encode(x).view(x.shape[0], 2, 4)
    with torch.no_grad():
        first = pieces.select(1, 0) * 2
    return (pieces.select(1, 1) * first).sum()


def piece_that_leaves(m: Any, x: Tensor) -> Tensor:
    pieces = m.encode(x).view(x.shape[0], 2, 4)
    second = pieces.select(1, 1)
    with torch.no_grad():
        first = pieces.select(1, 0)
    return (second * first).sum()


def turned_piece_that_leaves(m: Any, x: Tensor) -> Tensor:
    pieces = m.encode(x).view(x.shape[0], 2, 4)
    with torch.no_grad():
        turned = pieces.permute(1, 2, 0)
    first, second = turned.unbind()
    return (m.encode(x).sum() * first * second).sum()


FUNCTIONS: list[Callable[[Any, Tensor], Tensor]] = [
    commitment, statistic, teacher_first, teacher_of_the_input, gradients_within,
    piece_first, piece_that_leaves, turned_piece_that_leaves,
]  # fmt: skip


def gradients(module: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    given = x.clone().requires_grad_()
    found = torch.autograd.grad(run(given), [given, *module.parameters()], allow_unused=True)
    return [torch.zeros(()) if each is None else each for each in found]


def assert_close(ours: list[Tensor], theirs: list[Tensor], share: float = 0.05) -> None:
    for our, their in zip(ours, theirs, strict=True):
        assert (our - their).norm() <= share * their.norm()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_are_those_of_the_original(function: Callable[[Any, Tensor], Tensor], precision: str) -> None:
    torch.manual_seed(0)
    module = Function(function, buffer=torch.randn(5, 8))
    module.encode, module.head = nn.Linear(8, 8), nn.Linear(8, 8)
    x = torch.randn(4, 8)
    traced = ampgraph.trace(module, x, precision=precision)
    assert_close(gradients(module, traced, x), gradients(module, module, x))


@pytest.mark.parametrize("norm", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm])
def test_a_spectral_norm_is_trained(norm: Any) -> None:
    def made() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), norm(nn.Linear(8, 5)), nn.Tanh())

    ours, theirs, x = made(), made(), torch.randn(16, 8)
    traced = ampgraph.trace(ours, x, precision="float16")
    found = [torch.autograd.grad(run(x).sum(), list(m.parameters())) for run, m in ((traced, ours), (theirs, theirs))]
    assert_close(list(found[0]), list(found[1]))


def test_modes_end_with_their_regions() -> None:
    def function(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = x.sin()
            with torch.enable_grad():
                z = x.tan()
            y = y.exp() + z
        return y.cos()  # the exporter knows "as outside" and off

    graph = prepared(Function(function), torch.randn(4, 6)).graph
    modes = {op_type(node).removeprefix("aten."): mode for node, mode in grad_modes(graph).items()}
    assert {name: modes[name] for name in ("sin", "tan", "exp", "cos")} == {
        "sin": False, "tan": None, "exp": False, "cos": None,
    }  # fmt: skip
