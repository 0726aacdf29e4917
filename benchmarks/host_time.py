"""What a training step costs the host: `python -m benchmarks.host_time [--only NAME]`, on a CPU, in about a minute.

A GPU runs kernels while Python is still calling for the next ones; of a small network, and of ResNet-50 and GPT-2 on a
fast GPU, the calling takes longer than the kernels. Here are networks as deep as those and so narrow that hardly
anything is left to compute: what is measured is Python, dispatch, autograd and casts. Kernels of a CPU's library for
low precision, slow to start, are off. The clock is the thread's own, which other processes do not move.

Every contender casts anew in every step, since an optimizer has changed the weights in between.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import ampgraph
from benchmarks.record import keep, table
from benchmarks.train_models import Batch, Gpt, WithLoss

ROUNDS, WARM_UP, STEPS = 15, 10, 20
LOW = torch.bfloat16


class Bottleneck(nn.Module):
    """A block of ResNet-50: three convolutions with batch normalization, and a way around them."""

    def __init__(self, width: int, inner: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inner
        self.convolutions = nn.ModuleList(
            (
                nn.Conv2d(width, inner, 1, bias=False),
                nn.Conv2d(inner, inner, 3, stride, 1, bias=False),
                nn.Conv2d(inner, wide, 1, bias=False),
            )
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(each) for each in (inner, inner, wide))
        self.relu = nn.ReLU(inplace=True)
        around = nn.Sequential(nn.Conv2d(width, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))
        self.around = around if stride != 1 or width != wide else None

    def forward(self, x: Tensor) -> Tensor:
        found = x
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            found = norm(convolution(found))
            found = self.relu(found) if index < 2 else found
        return self.relu(found + (x if self.around is None else self.around(x)))


def resnet(narrow: int = 2) -> nn.Module:
    """As many layers as ResNet-50 (He et al., 2016), 32 times as narrow."""
    layers: list[nn.Module] = [nn.Conv2d(3, narrow, 7, 2, 3, bias=False), nn.BatchNorm2d(narrow)]
    layers += [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    width = narrow
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner = narrow << stage
        for block in range(depth):
            layers.append(Bottleneck(width, inner, 2 if stage and not block else 1))
            width = 4 * inner
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


@dataclass(frozen=True)
class Network:
    """What is trained, on what."""

    build: Callable[[], nn.Module]
    batch: Callable[[], Batch]

    def made(self) -> tuple[nn.Module, Batch]:
        """The same weights and batch every time."""
        torch.manual_seed(0)
        return WithLoss(self.build()), self.batch()


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))


NETWORKS: Mapping[str, Network] = {
    "mlp": Network(_perceptron, lambda: (torch.randn(2, 4), torch.randint(0, 3, (2,)))),
    "resnet": Network(resnet, lambda: (torch.randn(2, 3, 32, 32), torch.randint(0, 10, (2,)))),
    "gpt": Network(partial(Gpt, 4, 12, 2, 2, 8), lambda: (torch.randint(0, 8, (1, 2)), torch.randint(0, 8, (1, 2)))),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One contender: microseconds of the host, medians, of forward, of forward and backward, of a whole step."""

    network: str
    contender: str
    forward: float
    both: float
    step: float


@dataclass(frozen=True)
class Contender:
    """A module that trains, with what its loop needs."""

    name: str
    module: Callable[..., Tensor]
    batch: Batch
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    low: Callable[[], AbstractContextManager[Any]]

    def times(self) -> tuple[float, float, float]:
        """Seconds of the host for forward, forward and backward, and the whole step."""
        start = time.thread_time()
        with self.low():
            loss = self.module(*self.batch)
        forward = time.thread_time() - start
        scaled = self.scaler.scale(loss)
        begun = time.thread_time()
        scaled.backward()
        both = forward + time.thread_time() - begun
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return forward, both, time.thread_time() - start


EAGER, OURS = "autocast", "traced"


def contenders(network: Network) -> Iterator[Contender]:
    """Each with weights of its own."""
    for name in ("float32", EAGER, OURS):
        module, batch = network.made()
        low: Callable[[], AbstractContextManager[Any]] = nullcontext
        scaler: torch.amp.GradScaler = torch.amp.GradScaler("cpu")
        if name == EAGER:
            low = partial(torch.autocast, "cpu", LOW)
        if name == OURS:
            module = ampgraph.trace(module, batch, precision="bfloat16")  # type: ignore[attr-defined]
            scaler = ampgraph.LossScaler("cpu")
        optimizer = torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9, fused=True)
        yield Contender(name, module, batch, optimizer, scaler, low)


def measure(name: str, rounds: int = ROUNDS) -> list[Row]:
    """One network, all contenders in turn, round after round."""
    found = list(contenders(NETWORKS[name]))
    for each in found:
        for _ in range(WARM_UP):
            each.times()
    samples: dict[str, list[tuple[float, float, float]]] = {each.name: [] for each in found}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for each in found:
                samples[each.name] += [each.times() for _ in range(STEPS)]
    finally:
        gc.enable()
    return [_row(name, who, taken) for who, taken in samples.items()]


def _row(network: str, contender: str, taken: Sequence[tuple[float, float, float]]) -> Row:
    return Row(network, contender, *[1e6 * statistics.median(column) for column in zip(*taken, strict=True)])


def ratios(rows: list[Row]) -> dict[str, dict[str, float]]:
    """How many times less host time ours takes than autocast: above 1 it is faster."""
    at = {(row.network, row.contender): row for row in rows}
    return {
        network: {
            part: getattr(at[network, EAGER], part) / getattr(at[network, OURS], part)
            for part in ("forward", "both", "step")
        }
        for network in dict.fromkeys(row.network for row in rows)
    }


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="substring of the networks")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        rows = [row for name in NETWORKS if only in name for row in measure(name)]
    print(table(list(asdict(rows[0])), [_shown(row) for row in rows]))
    for network, said in ratios(rows).items():
        print(network, {part: round(ratio, 3) for part, ratio in said.items()})
    if not only:
        figures = {"torch": torch.__version__, "rows": [asdict(row) for row in rows], "ratios": ratios(rows)}
        print(keep("host_time", figures))


def _shown(row: Row) -> list[Any]:
    return [each if isinstance(each, str) else round(each, 1) for each in asdict(row).values()]


if __name__ == "__main__":
    main()
