"""What only backward would call: refused where a graph would lose it, kept where it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch_models import mlp

import ampgraph
from ampgraph.errors import ModelError


class Sign(torch.autograd.Function):
    """A straight-through estimator: its own derivative is zero."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


sign = Sign.apply  # bound before anything is traced, as most authors do


class Around(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.function = nn.Linear(4, 4), nn.Linear(4, 4), function

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


@pytest.mark.parametrize("function", [sign, lambda x: Sign.apply(x), lambda x: x + sign(x)])
def test_a_function_with_a_backward_of_its_own_is_refused_with_its_line(function: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ModelError, match=r"Around at .*\.py:\d+ .*: Sign is a torch.autograd.Function, whose backward"):
        ampgraph.trace(Around(function), torch.randn(3, 4))


def test_where_no_gradient_comes_it_is_traced_and_refused_when_one_does() -> None:
    module = Around(sign).requires_grad_(False)
    x = torch.randn(3, 4)
    traced = ampgraph.trace(module, x)
    torch.testing.assert_close(traced(x), module(x), rtol=0.02, atol=0.02)
    with pytest.raises(ModelError, match="Sign"):
        traced(x.clone().requires_grad_())
    with torch.no_grad():
        traced(x.clone().requires_grad_())
    module.first.requires_grad_(True)
    with pytest.raises(ModelError, match="Sign"):
        traced(x)


def test_a_region_without_gradients_may_hold_one() -> None:
    def quiet(x: Tensor) -> Tensor:
        with torch.no_grad():
            return sign(x)

    module, x = Around(lambda x: x + quiet(x)), torch.randn(3, 4)
    traced = ampgraph.trace(module, x, precision="bfloat16")
    _same_gradients(module, traced, x)


def test_functions_work_as_before_once_a_module_is_traced() -> None:
    ampgraph.trace(mlp(), torch.randn(2, 12))
    x = torch.randn(3, requires_grad=True)
    sign(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(3))
    assert "apply" not in torch.autograd.function._SingleLevelFunction.__dict__


def test_other_threads_are_not_watched_while_one_traces() -> None:
    found: list[Tensor] = []

    def elsewhere() -> None:
        x = torch.randn(3, requires_grad=True)
        x.register_hook(lambda gradient: gradient * 2)
        sign(x).sum().backward()
        found.append(x.grad)

    class Waits(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            return x + 1

    ampgraph.trace(Waits(), torch.randn(2, 3))
    assert found
    assert all(torch.equal(each, torch.full((3,), 2.0)) for each in found)


@torch.library.custom_op("ampgraph_tests::sign", mutates_args=())
def kept_sign(x: Tensor) -> Tensor:
    return x.sign()


kept_sign.register_fake(torch.empty_like)
kept_sign.register_autograd(lambda ctx, gradient: gradient)


def test_an_op_with_a_registered_backward_is_kept() -> None:
    module, x = Around(kept_sign), torch.randn(3, 4)
    _same_gradients(module, ampgraph.trace(module, x, precision="bfloat16"), x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_of_either_kind_keep_their_gradients(reentrant: bool) -> None:
    inner = nn.Linear(4, 4)
    module = Around(lambda x: x + checkpoint(inner, x, use_reentrant=reentrant))
    module.add_module("inner", inner)
    x = torch.randn(3, 4)
    _same_gradients(module, ampgraph.trace(module, x, precision="bfloat16"), x)


def _same_gradients(module: nn.Module, traced: nn.Module, x: Tensor) -> None:
    module(x).square().sum().backward()
    expected = {name: parameter.grad for name, parameter in module.named_parameters()}
    module.zero_grad()
    traced(x).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert (parameter.grad - expected[name]).norm() <= 0.05 * expected[name].norm(), name


def test_hooks_on_tensors_in_forward_are_refused() -> None:
    def hooked(x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient * 0)
        return x

    with pytest.raises(ModelError, match=r"test_own_backward.py:\d+ \(x.register_hook.*puts a hook on a tensor"):
        ampgraph.trace(Around(hooked), torch.randn(3, 4))
    ampgraph.trace(Around(hooked).requires_grad_(False), torch.randn(3, 4))


REGISTER = ("register_full_backward_hook", "register_full_backward_pre_hook")


@pytest.mark.parametrize("register", REGISTER)
def test_backward_hooks_of_modules_are_refused_before_tracing_and_after(register: str) -> None:
    module = mlp()
    handle = getattr(module[2], register)(lambda *_: None)
    with pytest.raises(ModelError, match="Linear 2: has a backward hook"):
        ampgraph.trace(module, torch.randn(2, 12))
    handle.remove()
    traced = ampgraph.trace(module, torch.randn(2, 12))
    handle = getattr(module[0], register)(lambda *_: None)
    with pytest.raises(ModelError, match="Linear 0: has a backward hook"):
        traced(torch.randn(2, 12))
    handle.remove()
    fired: list[int] = []
    getattr(traced, register)(lambda *_: fired.append(1))
    module[0].weight.register_hook(lambda gradient: fired.append(2))
    module[0].weight.register_post_accumulate_grad_hook(lambda parameter: fired.append(3))
    traced(torch.randn(2, 12, requires_grad=True)).sum().backward()
    assert sorted(fired) == [1, 2, 3]
