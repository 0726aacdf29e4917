"""The classic tutorial of mixed-precision training: a fully connected network of 784-256-10 learns to read digits.

Traced, trained with a loss scaler, on a GPU as one CUDA graph a step; then saved, converted to ONNX and run there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from ampgraph.digits import SIZE, Bytes, Digits
from ampgraph.drawing import CLASSES, draw_digits
from ampgraph.errors import OptionError
from ampgraph.fx_module.loss_scaler import LossScaler
from ampgraph.fx_module.module import TracedModule
from ampgraph.fx_module.trace import trace
from ampgraph.fx_module.train_step import TrainStep
from ampgraph.onnx_model.compare import outputs_of
from ampgraph.onnx_model.run import CPU, best_provider
from ampgraph.onnx_model.simulate import simulate
from ampgraph.precision import Precision

WIDTH = 256
FILES = ("digits.pt", "digits.float16.onnx")  # that `teach` leaves in float16
_DRAWN = 4000, 1000  # to train and to test with, where there are no real ones
_SHOWN = 20  # steps between two looks at loss and scale: each waits for the device


@dataclass(frozen=True, slots=True)
class Lesson:
    """How the network is trained. `epochs`: rounds over the digits; `rate`: Adam's learning rate."""

    precision: str = "float16"
    device: str = "cpu"
    epochs: int = 10
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1:
            raise OptionError(f"epochs={self.epochs}, batch={self.batch}", "trains nothing", "give 1 or more of both")
        if self.device not in ("cpu", *_gpus()):
            raise OptionError(f"device {self.device}", "is not here", f"choose among {', '.join(('cpu', *_gpus()))}")

    def steps(self, count: int) -> int:
        """Training steps on so many digits."""
        return self.epochs * (count // self.batch)


@dataclass(frozen=True, eq=False)
class Taught:
    """What came of it: the module and its scaler, the ONNX file, and the shares of test digits that each reads."""

    traced: TracedModule
    scaler: LossScaler
    exported: Path
    by_torch: float
    by_onnxruntime: float


def _gpus() -> tuple[str, ...]:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ("cuda", *(f"cuda:{index}" for index in range(count))) if count else ()


def made(folder: Path) -> Path:
    """A folder that is there afterwards. Raises OptionError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"--folder {folder}", f"cannot be made ({error.strerror})", "choose another") from None
    return folder


def perceptron() -> nn.Module:
    """The network: float32 [batch, 784] to float32 [batch, 10]."""
    return nn.Sequential(nn.Linear(SIZE * SIZE, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))


def teach(digits: Digits, lesson: Lesson, folder: Path, say: Callable[[str], None]) -> Taught:
    """Do it all, leaving `digits.pt` and `digits.<precision>.onnx` in a folder. `say`: where lines of text go."""
    made(folder)
    torch.manual_seed(lesson.seed)
    say(f"training 784-256-10 in {lesson.precision} on {digits.source}, {lesson.epochs} epochs")
    images, labels = as_tensors(digits.images, digits.labels, lesson.device)
    if len(images) < lesson.batch:
        raise OptionError(f"batch={lesson.batch}", f"there are {len(images)} digits", "give fewer")
    traced = trace(perceptron().to(lesson.device), (images[: lesson.batch],), precision=lesson.precision)
    scaler = LossScaler(lesson.device, precision=lesson.precision, history=lesson.steps(len(images)))
    train(traced, scaler, (images, labels), lesson)
    torch.save(traced.state_dict(), folder / "digits.pt")
    exported = folder / f"digits.{lesson.precision}.onnx"
    traced.to_onnx(exported, force=True)
    images, labels = as_tensors(digits.test_images, digits.test_labels, lesson.device)
    taught = Taught(traced, scaler, exported, *accuracies(traced, exported, images, labels))
    say(f"skipped steps: {skipped(scaler)}; wrote {folder / 'digits.pt'} and {exported}")
    say(f"digits read correctly, of {len(labels):,} new ones: {_accuracy_text(taught)}")
    return taught


def train(traced: TracedModule, scaler: LossScaler, data: tuple[Tensor, Tensor], lesson: Lesson) -> Tensor:
    """Train in random order, showing a bar with loss and scale; returns the last loss."""
    optimizer = torch.optim.Adam(traced.parameters(), lesson.rate, fused=True)
    step = TrainStep(traced, nn.functional.cross_entropy, optimizer, scaler)
    steps = lesson.steps(len(data[0]))
    loss = torch.zeros(())
    with on_one_thread(), _bar(steps) as show:
        for number, (images, labels) in enumerate(batches(data, lesson), 1):
            loss = step(images, labels)
            if number % _SHOWN == 0 or number == steps:
                show(number, f"loss {float(loss):.3f}, scale {scaler.get_scale():g}")
    return loss


def accuracies(traced: TracedModule, exported: Path, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """The shares of digits that torch and onnxruntime read correctly."""
    import onnx

    traced.eval()
    with torch.no_grad():
        by_torch = traced(images).argmax(1)
    model = onnx.load(exported)
    if best_provider() == CPU and str(Precision.BFLOAT16) in exported.name:
        model = simulate(model)  # that provider has no bfloat16
    (scores,) = outputs_of(model, {model.graph.input[0].name: images.cpu().numpy()}).values()
    right = labels.cpu().numpy()
    return float(np.mean(by_torch.cpu().numpy() == right)), float(np.mean(scores.argmax(1) == right))


def as_tensors(images: Bytes, labels: Bytes, device: str) -> tuple[Tensor, Tensor]:
    """Pixels of 0 to 1, float32 [N, 784], and labels, int64 [N], on a device."""
    return torch.from_numpy(images).flatten(1).float().div(255).to(device), torch.from_numpy(labels).long().to(device)


def batches(data: tuple[Tensor, Tensor], lesson: Lesson) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one size in random order; what is left over waits for the next epoch."""
    images, labels = data
    generator = torch.Generator().manual_seed(lesson.seed)
    for _ in range(lesson.epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for begin in range(0, len(images) - lesson.batch + 1, lesson.batch):
            chosen = order[begin : begin + lesson.batch]
            yield images[chosen], labels[chosen]


def drawn_digits() -> Digits:
    """Drawn ones of the same form, for where no package ships real ones."""
    parts = []
    for seed, count in enumerate(_DRAWN):
        images, labels = draw_digits(count, torch.Generator().manual_seed(seed), SIZE)
        parts += [images[:, 0].round().to(torch.uint8).numpy(), labels.to(torch.uint8).numpy()]
    return Digits(f"{_DRAWN[0]:,} drawn digits", *parts)


def skipped(scaler: LossScaler) -> int:
    """Skipped steps among those that the scaler remembers, here all of them."""
    return sum(each.skipped for each in scaler.history())


@contextmanager
def on_one_thread() -> Iterator[None]:
    """So small a network gains little from threads, and loses much where another program holds a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[int, str], None]]:
    """A bar on a terminal; elsewhere its last state, in one line."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps, {task.fields[state]}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=steps, state="")
        yield lambda done, state: progress.update(task, completed=done, state=state)


def _accuracy_text(taught: Taught) -> str:
    return f"{taught.by_torch:.1%} by torch, {taught.by_onnxruntime:.1%} by onnxruntime"
