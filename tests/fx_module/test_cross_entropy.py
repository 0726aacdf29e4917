"""Cross-entropy over many classes: torch's numbers, of infinities and NaN too, and gradients of gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ampgraph
from ampgraph.fx_module.cross_entropy import MANY, cross_entropy

REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}
INFINITE = float("inf")


def batch(dtype: torch.dtype = torch.float16, classes: int = 300) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(24, classes, generator=generator) * 4).to(dtype)
    return scores, torch.randint(classes, (24,), generator=generator)


def gradient(loss: Tensor, scores: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 2.0, loss.numel()).reshape(loss.shape)
    return torch.autograd.grad((loss * weights).sum() * 1024, scores)[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignored", [-100, 7])
def test_it_is_no_farther_from_float64_than_torchs(dtype: torch.dtype, reduction: str, ignored: int) -> None:
    scores, target = batch(dtype)
    target[3] = ignored
    words: dict[str, Any] = {"reduction": reduction, "ignore_index": ignored}
    low = scores.requires_grad_()
    wide = scores.detach().double().requires_grad_()
    exact, torchs = (
        functional.cross_entropy(wide, target, **words),
        functional.cross_entropy(low.float(), target, **words),
    )
    ours = cross_entropy(low, target, REDUCTIONS[reduction], ignored)
    assert ours.dtype is torch.float32
    assert torch.allclose(ours.double(), exact, rtol=1e-6, atol=1e-6)
    expected, found, theirs = gradient(exact, wide), gradient(ours, low), gradient(torchs, low)
    assert found.dtype is dtype
    assert (found - expected).abs().max() <= (theirs - expected).abs().max() * 1.01
    assert torch.equal(found[3], torch.zeros_like(found[3]))


@pytest.mark.parametrize("bad", [float("nan"), INFINITE, -INFINITE, 6e4, -6e4], ids=str)
def test_what_is_not_finite_is_where_torchs_is(bad: float) -> None:
    scores, target = batch()
    scores[0, 1], scores[1, int(target[1])] = bad, bad
    low = scores.requires_grad_()
    expected = functional.cross_entropy(low.float(), target, reduction="none")
    found = cross_entropy(low, target, 0, -100)
    assert torch.allclose(found, expected, equal_nan=True, rtol=1e-5)
    theirs, ours = gradient(expected, low), gradient(found, low)
    assert torch.allclose(ours, theirs, equal_nan=True, rtol=1e-2, atol=1e-2)
    assert torch.equal(ours.isfinite(), theirs.isfinite())


def test_nothing_counted_is_nan_as_torchs() -> None:
    scores, target = batch()
    loss = cross_entropy(scores.requires_grad_(), torch.full_like(target, 7), 1, 7)
    assert loss.isnan()
    assert not torch.autograd.grad(loss, scores)[0].any()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients_of_gradients(reduction: str) -> None:
    scores, target = batch(torch.float32, 9)
    scores = scores.double().float()[:4].requires_grad_()

    def penalty(loss: Tensor) -> Tensor:
        (first,) = torch.autograd.grad((loss * torch.linspace(1, 2, loss.numel())).sum(), scores, create_graph=True)
        return torch.autograd.grad(first.square().sum() + first[0, 0], scores)[0]

    ours = penalty(cross_entropy(scores, target[:4], REDUCTIONS[reduction], -100))
    theirs = penalty(functional.cross_entropy(scores, target[:4], reduction=reduction))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


class Model(nn.Module):
    """As many classes as a vocabulary has."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, classes)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.layer(x), y)


@pytest.mark.parametrize("classes", [MANY, MANY - 1])
def test_a_traced_model_uses_it_for_many_classes(classes: int) -> None:
    module = Model(classes)
    x, y = torch.randn(6, 8), torch.randint(classes, (6,))
    traced = ampgraph.trace(module, (x, y), precision="bfloat16")
    body = traced._bodies[traced._modes(), torch.device("cpu")]
    assert (cross_entropy in {node.target for node in body.graph.nodes}) == (classes >= MANY)
    expected = functional.cross_entropy(module.layer.bfloat16()(x.bfloat16()).float(), y)
    module.layer.float()
    assert torch.allclose(traced(x, y), expected, rtol=1e-3)
    with torch.no_grad():
        assert torch.allclose(traced(x, y), expected, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_transforms_and_compilers_get_torchs_own() -> None:
    module = Model(MANY)
    x, y = torch.randn(6, 8), torch.randint(MANY, (6,))
    traced = ampgraph.trace(module, (x, y), precision="bfloat16")
    expected = torch.autograd.grad(traced(x, y), list(module.parameters()))
    state = {name: each.detach() for name, each in traced.named_parameters()}
    found = torch.func.grad(lambda own: torch.func.functional_call(traced, own, (x, y)))(state)
    assert all(map(_are_close, found.values(), expected))
    compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)
    assert all(map(_are_close, torch.autograd.grad(compiled(x, y), list(module.parameters())), expected))


def _are_close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0.02, atol=1e-5)
