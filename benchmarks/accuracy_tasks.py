"""What the accuracy of training is compared on: digits, a small ResNet with batch norm, a small language model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ampgraph.digits import Digits, find_digits, read_mnist
from ampgraph.tutorial import as_tensors, drawn_digits, perceptron
from benchmarks.train_models import Gpt

Pair = tuple[Tensor, Tensor]
SYMBOLS = 128
VALIDATED = 64  # sequences of text that the loss is taken of


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained; `small`: for a CPU, whose float16 convolutions are a thousand times slower than a GPU's."""

    small: bool
    quick: bool

    @property
    def share(self) -> float:
        """Of the steps of a whole run."""
        return 0.1 if self.quick else 1.0


@dataclass(frozen=True)
class Task:
    """A network and the data it learns. `measure`: "accuracy" or "loss", taken on `test` in evaluation mode."""

    name: str
    network: Callable[[], nn.Module]
    train: Pair
    test: Pair
    steps: int
    batch: int
    rate: float
    measure: str
    data: str

    def batch_at(self, generator: torch.Generator) -> Pair:
        """A batch chosen at random."""
        chosen = torch.randint(len(self.train[0]), (self.batch,), generator=generator).to(self.train[0].device)
        return self.train[0][chosen], self.train[1][chosen]


def score_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all that is scored."""
    return functional.cross_entropy(scores.flatten(0, -2), labels.flatten())


class Residual(nn.Module):
    """Two convolutions with batch normalization around a shortcut, after He et al. (2015)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outer),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.convs(x) + self.shortcut(x))


def resnet(width: int) -> nn.Module:
    """Seven convolutions deep: a stem and three residual blocks."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width, width, 1),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def tasks(device: torch.device, size: Size, mnist: Path | None) -> list[Task]:
    """The three tasks with their data on a device."""
    digits = read_mnist(mnist) if mnist else find_digits() or drawn_digits()
    return [_perceptron(digits, device, size), _resnet(digits, device, size), _language(device, size)]


def _perceptron(digits: Digits, device: torch.device, size: Size) -> Task:
    train, test = _digits(digits, device)
    steps = round(620 * size.share)
    return Task("mlp 784-256-10", perceptron, train, test, steps, 64, 1e-3, "accuracy", digits.source)


def _resnet(digits: Digits, device: torch.device, size: Size) -> Task:
    train, test = (_images(pair, size) for pair in _digits(digits, device))
    width, steps, batch = (8, 160, 32) if size.small else (32, 300, 128)
    network, data = (lambda: resnet(width)), f"{digits.source}, {train[0].shape[-1]} pixels wide"
    return Task("resnet, 7 deep", network, train, test, round(steps * size.share), batch, 4e-3, "accuracy", data)


def _language(device: torch.device, size: Size) -> Task:
    width, depth, length, batch, steps = (64, 2, 64, 16, 300) if size.small else (128, 4, 128, 32, 300)
    train, test = (_sequences(text, length, device) for text in _text())
    chosen = torch.linspace(0, len(test[0]) - 1, min(VALIDATED, len(test[0]))).long().to(device)

    def network() -> nn.Module:
        return Gpt(width, depth, width // 32, length, SYMBOLS)

    held = test[0][chosen], test[1][chosen]
    data = f"{train[0].numel():,} characters of Python's standard library"
    return Task(f"gpt {width} x {depth}", network, train, held, round(steps * size.share), batch, 2e-3, "loss", data)


def _digits(digits: Digits, device: torch.device) -> tuple[Pair, Pair]:
    train = as_tensors(digits.images, digits.labels, str(device))
    return train, as_tensors(digits.test_images, digits.test_labels, str(device))


def _images(pair: Pair, size: Size) -> Pair:
    images = pair[0].unflatten(1, (1, 28, 28))
    return (functional.avg_pool2d(images, 2) if size.small else images).contiguous(), pair[1]


def _text() -> tuple[Tensor, Tensor]:
    """ASCII of the standard library's modules, in two parts of whole files; every tenth file is for validation."""
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    parts = [b"".join(f.read_bytes() for i, f in enumerate(files) if (i % 10 == 0) == held) for held in (False, True)]
    train, test = (torch.frombuffer(bytearray(part), dtype=torch.uint8).long() for part in parts)
    return train.clamp(max=SYMBOLS - 1), test.clamp(max=SYMBOLS - 1)


def _sequences(text: Tensor, length: int, device: torch.device) -> Pair:
    count = (len(text) - 1) // length
    inputs, targets = text[: count * length], text[1 : count * length + 1]
    return inputs.view(count, length).to(device), targets.view(count, length).to(device)
