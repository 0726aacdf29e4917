"""What the tests of training share: a small network, data, a hand-written loop, and recording without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from ampgraph.fx_module.graph_inputs import Blank
from ampgraph.fx_module.recorder import Recording

WIDTH, CLASSES = 12, 5
torch.set_num_threads(1)  # so small networks lose by threads, most where workers share the cores


class Network(nn.Module):
    """Linear, batch norm, dropout, linear, its first product in float16 when asked: overflows as such networks do."""

    def __init__(self, *, low: bool = False, drop: float = 0.25) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(WIDTH, 16), nn.BatchNorm1d(16)
        self.drop, self.last = nn.Dropout(drop), nn.Linear(16, CLASSES)
        self.low = low

    def forward(self, x: Tensor) -> Tensor:
        hidden = self._in_half(x) if self.low else self.first(x)
        return self.last(self.drop(torch.relu(self.norm(hidden))))

    def _in_half(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.half(), self.first.weight.half(), self.first.bias.half()).float()


def network(seed: int = 0, **words: Any) -> Network:
    torch.manual_seed(seed)
    return Network(**words)


def batches(count: int, size: int = 8, seed: int = 1, bad: Iterable[int] = ()) -> list[tuple[Tensor, Tensor]]:
    """Inputs and labels; those numbered in `bad` hold an infinity, which makes every gradient NaN."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        x = torch.randn(size, WIDTH, generator=generator)
        if index in set(bad):
            x[0, 0] = float("inf")
        found.append((x, torch.randint(CLASSES, (size,), generator=generator)))
    return found


def plain_loop(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Iterable[tuple[Tensor, Tensor]],
    scaler: GradScaler | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    after: Callable[[], Any] = lambda: None,
) -> list[Tensor]:
    """The loop as a user writes it, word by word from torch's manual. `after`: run after each optimizer step."""
    losses = []
    optimizer.zero_grad()
    for index, (x, y) in enumerate(data):
        loss = nn.functional.cross_entropy(module(x), y)
        share = loss / accumulate if accumulate > 1 else loss
        (scaler.scale(share) if scaler else share).backward()
        losses.append(loss.detach())
        if (index + 1) % accumulate:
            continue
        if clip is not None:
            if scaler:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        if scaler:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad()
        after()
    return losses


class Rerun:
    """Records work by keeping it, and replays it by running it: a recorder for machines without a GPU.

    As with a CUDA graph nothing runs while it is recorded, and a replay reads what then lies at the same addresses.
    """

    def run(self, work: Callable[[], Any]) -> Any:
        return work()

    def record(self, work: Callable[[list[Tensor]], Any], inputs: Sequence[Blank]) -> Recording[Any]:
        given = [each.made() for each in inputs]
        return Recording(given, lambda: work(list(given)))


def same_state(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return all(same(ours[name], theirs[name]) for name in ours)


def same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, a NaN being like any other."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())
