"""The real libraries that people train with: Lightning and accelerate drive the scaler as they do torch's."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as lightning
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import ampgraph
from ampgraph import LossScaler, TracedModule
from tests.training import batches, network, plain_loop, same_state

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


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")  # its own use of it
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
    trainer.fit(Lesson(module), DataLoader(DATA, batch_size=None, generator=torch.Generator()))
    assert same_state(module, expected)
    assert scaler.history() == theirs.history()
    assert sum(each.skipped for each in scaler.history()) == 2
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert saved["MixedPrecision"] == scaler.state_dict()


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    """It keeps a place for a scaler, which ours takes. On a GPU, with mixed_precision="fp16", it unscales before it
    clips as well; on the CPU, where it refuses that, unscaling is the user's."""
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
        scaler.unscale_(optimizer.optimizer)
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
