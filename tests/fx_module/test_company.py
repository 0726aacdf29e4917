"""The real libraries that people train with: Lightning and accelerate drive the scaler, torch's own wrap the module."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

import ampgraph
from ampgraph import LossScaler, TracedModule
from tests.training import batches, network, plain_loop, same, same_state

DATA, CLIP = batches(16, bad=(3, 9)), 0.5


@pytest.fixture(scope="module")
def first() -> TracedModule:
    """With batch norm and dropout; copies of it share its graphs."""
    return ampgraph.trace(network(), (DATA[0][0],), objective="coverage")


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), 1e-2)


def by_hand(module: TracedModule, accumulate: int = 1) -> tuple[TracedModule, LossScaler]:
    """The plain loop, from the same random state as the others."""
    ours, scaler = copy.deepcopy(module), LossScaler("cpu", growth_interval=4)
    torch.manual_seed(5)
    plain_loop(ours, adamw(ours), DATA, scaler, CLIP, accumulate)
    return ours, scaler


class Lesson(lightning.LightningModule):
    """As Lightning's manual has it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        return cross_entropy(self.module(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return adamw(self)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning(first: TracedModule, accumulate: int, tmp_path: Path) -> None:
    expected, theirs = by_hand(first, accumulate)
    module, scaler = copy.deepcopy(first), LossScaler("cpu", growth_interval=4)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
        gradient_clip_val=CLIP,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    torch.manual_seed(5)
    trainer.fit(Lesson(module), DataLoader(DATA, batch_size=None))
    assert same_state(module, expected)
    assert scaler.history() == theirs.history()
    assert sum(each.skipped for each in scaler.history()) == 2
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert saved["MixedPrecision"] == scaler.state_dict()


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    """On the CPU it makes no scaler of its own for float16: ours takes the place that it keeps for one."""
    yield Accelerator(cpu=True)
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def test_accelerate(first: TracedModule, accelerator: Accelerator, tmp_path: Path) -> None:
    expected, theirs = by_hand(first)
    made, scaler = copy.deepcopy(first), LossScaler("cpu", growth_interval=4)
    accelerator.scaler = scaler
    module, optimizer = accelerator.prepare(made, adamw(made))
    torch.manual_seed(5)
    skipped = []
    for x, y in DATA:
        accelerator.backward(cross_entropy(module(x), y))
        accelerator.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        skipped.append(optimizer.step_was_skipped)
        optimizer.zero_grad()
    assert same_state(made, expected)
    assert scaler.history() == theirs.history()
    assert skipped == [each.skipped for each in scaler.history()]
    accelerator.save_state(str(tmp_path))
    before = scaler.state_dict()
    scaler.update(2.0)
    accelerator.load_state(str(tmp_path))
    assert scaler.state_dict() == before


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(first: TracedModule, backend: str) -> None:
    """Without a break in the graph; another batch size, evaluation and training go on alike."""
    module = copy.deepcopy(first)
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    for train in (True, False):
        module.train(train)
        twin = copy.deepcopy(module)
        for x, y in (DATA[0], batches(1, 5)[0]):
            torch.manual_seed(5)
            found = compiled(x)
            torch.manual_seed(5)
            expected = twin(x)
            assert torch.equal(found, expected)
            cross_entropy(found, y).backward()
            cross_entropy(expected, y).backward()
        for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
            assert ours.grad is not None
            assert theirs.grad is not None
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
        module.zero_grad()


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(first: TracedModule, reentrant: bool) -> None:
    """A forward that runs again in backward, with the same dropout."""
    grads = []
    for again in (False, True):
        module, (x, y) = copy.deepcopy(first), DATA[0]
        x = x.clone().requires_grad_()
        torch.manual_seed(5)
        scores: Any = checkpoint(module, x, use_reentrant=reentrant) if again else module(x)
        cross_entropy(scores, y).backward()
        grads.append([each.grad for each in module.parameters()])
    assert all(map(same, *grads))


def test_an_average_of_the_weights(first: TracedModule) -> None:
    """AveragedModel copies the module, and its average is what averaging by hand gives."""
    module, scaler = copy.deepcopy(first), LossScaler("cpu")
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    expected = [each.detach().clone() for each in module.parameters()]
    counted = 0

    def after() -> None:
        nonlocal counted
        average.update_parameters(module)
        for kept, each in zip(expected, module.parameters(), strict=True):
            kept.copy_(each.detach() if counted == 0 else kept.lerp(each.detach(), 0.1))
        counted += 1

    plain_loop(module, adamw(module), batches(6), scaler, after=after)
    for kept, each in zip(expected, average.module.parameters(), strict=True):
        torch.testing.assert_close(each, kept)
    other = copy.deepcopy(first.original)
    other.load_state_dict(average.module.state_dict())
    x = DATA[0][0]
    with torch.no_grad():
        torch.testing.assert_close(average.eval()(x), other.eval()(x), rtol=2e-2, atol=2e-2)
