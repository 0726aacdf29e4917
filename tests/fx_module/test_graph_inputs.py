"""Inputs of recorded steps lie in the graph's memory: nothing may hold them for longer than they are read."""

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import ampgraph
from ampgraph import TrainStep
from ampgraph.fx_module.graph_inputs import Blank, Place
from tests.training import WIDTH, Rerun, batches

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LAYOUTS: dict[str, Tensor] = {
    "vector": torch.zeros(7),
    "transposed": torch.zeros(3, 5).t(),
    "channels last": torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "number": torch.zeros(()),
    "nothing": torch.zeros(0, 4),
    "expanded": torch.zeros(1, 6).expand(5, 6),
}


class Watched(Rerun):
    """Remembers the inputs of what is recorded, without holding them."""

    def __init__(self) -> None:
        self.inputs: list[weakref.ref[Tensor]] = []

    def record(self, work: Any, inputs: Any) -> Any:
        given = [each.like.clone() for each in inputs]
        self.inputs = [weakref.ref(each) for each in given]
        work(given)
        return super().record(work, inputs)


@pytest.mark.parametrize("traced", [False, True])
def test_inputs_are_gone_when_the_first_layer_has_its_gradient(traced: bool) -> None:
    module: nn.Module = nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 5))
    first = module[0].weight  # type: ignore[index]
    data, recorder, alive = batches(3), Watched(), list[bool]()
    model = ampgraph.trace(module, data[0][:1], precision="bfloat16") if traced else module
    step = TrainStep(model, cross_entropy, torch.optim.SGD(module.parameters(), 0.1, fused=True), capture=recorder)
    step(*data[0])
    first.register_post_accumulate_grad_hook(
        lambda _: alive.append(any(each() is not None for each in recorder.inputs))
    )
    step(*data[1])
    assert alive[0] is False


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_blank_is_laid_out_like_a_copy(layout: str) -> None:
    like = LAYOUTS[layout]
    made = Blank(like, torch.float16).made()
    copied = torch.empty_like(like).copy_(like)
    assert (made.dtype, made.shape, made.stride()) == (torch.float16, copied.shape, copied.stride())


@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_on_a_gpu_a_place_is_the_same_memory(layout: str, dtype: torch.dtype) -> None:
    owner = Blank(LAYOUTS[layout].cuda(), dtype).made()
    there = Place.of(owner).tensor()
    there.fill_(1)
    assert (there.shape, there.stride(), there.dtype) == (owner.shape, owner.stride(), owner.dtype)
    assert bool((owner == 1).all())


@on_a_gpu
def test_on_a_gpu_a_recorded_step_holds_its_inputs_no_longer_than_it_reads_them() -> None:
    wide = 1 << 20
    module = nn.Sequential(nn.Linear(wide, 4), nn.ReLU(), nn.Linear(4, 5)).cuda()
    step = TrainStep(module, cross_entropy, torch.optim.SGD(module.parameters(), 0.0, fused=True))
    x, y = torch.ones(8, wide, device="cuda"), torch.zeros(8, dtype=torch.int64, device="cuda")
    step(x, y)
    held = torch.cuda.memory_allocated()
    step(x, y)
    assert torch.cuda.memory_allocated() - held < x.nbytes // 2
    assert step.captured is not None
    assert step.captured.count == 1
