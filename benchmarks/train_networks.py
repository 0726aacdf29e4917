"""Networks, data, optimizers and schedules for the checks of captured training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

CLASSES, FEATURES = 10, 48
Optimizer = torch.optim.Optimizer


def _low(layer: nn.Linear, x: Tensor) -> Tensor:
    bias = layer.bias.half()
    return functional.linear(x.half(), layer.weight.half(), bias).float()


class Perceptron(nn.Module):
    """Three layers in float16 with dropout and layer normalization; cross-entropy sees float32."""

    def __init__(self, width: int = 64, drop: float = 0.2) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, width), nn.Linear(width, width)
        self.last, self.norm, self.drop = nn.Linear(width, CLASSES), nn.LayerNorm(width), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(_low(self.first, x)))
        hidden = torch.relu(_low(self.second, self.drop(hidden)))
        return _low(self.last, hidden)


class Plain(nn.Module):
    """Float32 throughout: the casts are for ampgraph to place."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.second, self.last = (
            nn.Linear(FEATURES, width),
            nn.Linear(width, width),
            nn.Linear(width, CLASSES),
        )
        self.batch_norm, self.layer_norm, self.drop = nn.BatchNorm1d(width), nn.LayerNorm(width), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(torch.relu(self.batch_norm(self.first(x))))
        scores: Tensor = self.last(torch.relu(self.layer_norm(self.second(hidden))))
        return scores


class Convolutions(nn.Module):
    """Two convolutions in float16 with batch normalization, whose statistics are buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList((nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, padding=1)))
        self.norms = nn.ModuleList((nn.BatchNorm2d(8), nn.BatchNorm2d(16)))
        self.last = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            low = functional.conv2d(x.half(), conv.weight.half(), conv.bias.half(), conv.stride, conv.padding)
            x = torch.relu(norm(low.float()))
        return _low(self.last, x.mean((2, 3)))


def batches(
    count: int,
    device: torch.device,
    size: int = 32,
    shape: Sequence[int] = (FEATURES,),
    seed: int = 1,
    bad: Iterable[int] = (),
) -> list[tuple[Tensor, Tensor]]:
    """Inputs and labels; those numbered in `bad` are too large for float16."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        x = torch.randn(size, *shape, generator=generator) * (1e6 if index in set(bad) else 1)
        found.append((x.to(device), torch.randint(CLASSES, (size,), generator=generator).to(device)))
    return found


def optimizers(device: torch.device) -> dict[str, Callable[[Any], Optimizer]]:
    """Every optimizer of torch's that a CUDA graph can hold; the rate is a tensor, which both loops read alike."""
    from torch import optim

    def made(kind: Any, **words: Any) -> Callable[[Any], Optimizer]:  # noqa: ANN401
        return lambda parameters: kind(parameters, **words)

    rate = torch.tensor(2e-3, device=device)
    found = {
        f"{kind.__name__}_{flag}": made(kind, lr=rate.clone(), **{flag: True})
        for kind in (optim.Adam, optim.AdamW)
        for flag in ("fused", "capturable")
    }
    found["Adam_amsgrad"] = made(optim.Adam, lr=rate.clone(), fused=True, amsgrad=True)
    found["Adam_for_loop"] = made(optim.Adam, lr=rate.clone(), capturable=True, foreach=False)
    for kind in (optim.NAdam, optim.RAdam, optim.Adamax, optim.ASGD, optim.Rprop, optim.RMSprop, optim.Adadelta):
        found[kind.__name__] = made(kind, lr=rate.clone(), capturable=True)
    found["SGD_fused"] = made(optim.SGD, lr=rate.clone(), fused=True)
    found["SGD_dampened"] = made(optim.SGD, lr=rate.clone(), fused=True, momentum=0.9, dampening=0.1)
    return found


def _chained(optimizer: Optimizer) -> Any:  # noqa: ANN401
    return lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(optimizer, 0.1, 5), lr_scheduler.ExponentialLR(optimizer, 0.95)]
    )


def _in_turn(optimizer: Optimizer) -> Any:  # noqa: ANN401
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, 1, 10), lr_scheduler.CosineAnnealingLR(optimizer, 40)]
    return lr_scheduler.SequentialLR(optimizer, parts, [10])


class _Plateau:
    """ReduceLROnPlateau on a made-up metric."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._plan, self._steps = lr_scheduler.ReduceLROnPlateau(optimizer, patience=2), 0

    def step(self) -> None:
        self._steps += 1
        self._plan.step(float(self._steps % 7))


def _cycled(optimizer: Optimizer) -> Any:  # noqa: ANN401
    return lr_scheduler.CyclicLR(optimizer, 1e-4, 4e-3, 5, cycle_momentum=False)


SCHEDULERS: Mapping[str, Callable[[Optimizer], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.95**epoch),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.97),
    "step": lambda o: lr_scheduler.StepLR(o, 7, 0.5),
    "multi_step": lambda o: lr_scheduler.MultiStepLR(o, [5, 20], 0.3),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.1, 9),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, 1, 20),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.95),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 50),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 50),
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 8),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 4e-3, total_steps=60),
    "one_cycle_fixed_momentum": lambda o: lr_scheduler.OneCycleLR(o, 4e-3, total_steps=60, cycle_momentum=False),
    "cyclic": _cycled,
    "plateau": _Plateau,
    "chained": _chained,
    "in_turn": _in_turn,
}
