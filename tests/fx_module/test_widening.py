"""Casts that the next op does itself: which ones, and that nothing else changes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import ampgraph
from ampgraph import TracedModule
from ampgraph.fx_module.apply import TO_COPY

WEIGHT = torch.linspace(0.5, 1.5, 7)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": functional.cross_entropy,
    "sum": lambda x, y: functional.cross_entropy(x, y, reduction="sum"),
    "none": lambda x, y: functional.cross_entropy(x, y, reduction="none").sum(),
    "weighted": lambda x, y: functional.cross_entropy(x, y, WEIGHT, ignore_index=3),
    "images": lambda x, y: functional.cross_entropy(x.unflatten(0, (2, -1)).mT, y.unflatten(0, (2, -1))),
    "log-softmax": lambda x, y: functional.nll_loss(functional.log_softmax(x, -1), y),
}
OTHERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smoothed": lambda x, y: functional.cross_entropy(x, y, label_smoothing=0.125),
    "probabilities": lambda x, y: functional.cross_entropy(x, functional.one_hot(y, 7).float()),
}


class Scored(nn.Module):
    """A product in low precision and a loss."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], show: bool = False) -> None:
        super().__init__()
        self.layer, self.loss, self.show = nn.Linear(64, 7), loss, show

    def forward(self, x: Tensor, y: Tensor) -> Any:
        scores = self.layer(x)
        return (self.loss(scores, y), scores.float() + 1.0) if self.show else self.loss(scores, y)


def made(module: nn.Module) -> tuple[TracedModule, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    batch = torch.randn(16, 64), torch.randint(7, (16,))
    return ampgraph.trace(module, batch, precision="float16"), batch


def running(traced: TracedModule) -> list[fx.Node]:
    body = traced._bodies[traced._modes(), torch.device("cpu")]
    return list(body.graph.nodes)


def casts_up(nodes: list[fx.Node]) -> int:
    return sum(node.target is TO_COPY and node.kwargs["dtype"] is torch.float32 for node in nodes)


def as_shown(traced: TracedModule, batch: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Loss and gradients of the graph with its casts in the open."""
    graph, state = traced.graph, dict(traced.named_parameters())
    places = [node.target for node in graph.nodes if node.op == "placeholder"]
    given = {"p_layer_weight": state["layer.weight"], "p_layer_bias": state["layer.bias"], "x": batch[0], "y": batch[1]}
    constants = {name: WEIGHT for name in places if name not in given}
    (loss, *_) = fx.GraphModule({}, graph)(*[(given | constants)[str(place)] for place in places])
    return [loss, *torch.autograd.grad(loss, list(state.values()))]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_reads_low_scores_itself_and_is_what_it_was(name: str) -> None:
    traced, batch = made(Scored(LOSSES[name]))
    assert casts_up(list(traced.graph.nodes)) == 1, "shown as it was decided"
    assert casts_up(running(traced)) == 0
    loss = traced(*batch)
    found = [loss, *torch.autograd.grad(loss, list(traced.parameters()))]
    for one, other in zip(found, as_shown(traced, batch), strict=True):
        assert torch.equal(one, other)
        assert one.dtype is torch.float32


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_made_of_more_than_one_reading_keeps_its_cast(name: str) -> None:
    traced, batch = made(Scored(OTHERS[name]))
    assert casts_up(running(traced)) == 1
    assert torch.equal(traced(*batch), as_shown(traced, batch)[0])


def test_a_cast_that_others_read_stays_for_them() -> None:
    traced, batch = made(Scored(functional.cross_entropy, show=True))
    shown, ran = casts_up(list(traced.graph.nodes)), running(traced)
    assert casts_up(ran) == shown == 1
    assert any(node.target is torch.ops.aten.nll_loss_nd.default for node in ran)
    assert torch.equal(traced(*batch)[0], as_shown(traced, batch)[0])


def test_on_a_gpu_it_is_one_kernel() -> None:
    """What torch makes of the op there, on fake tensors: it reads float16 and writes float32, and so does backward."""
    with torch._subclasses.FakeTensorMode():
        low = torch.empty(16, 7, dtype=torch.float16, device="cuda")
        seen: list[Any] = []

        class Seen(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                seen.append(func)
                return func(*args, **(kwargs or {}))

        with Seen():
            torch.ops.aten.log_softmax.int(low, 1, torch.float32)
    assert [each for each in seen if each is not torch.ops.prim.device.default] == [torch.ops.aten._log_softmax.default]
