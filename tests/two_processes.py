"""Two processes on gloo that train together, for the tests of torch's distributed engines."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn

RANKS, SIZE = 2, 8
State = dict[str, Tensor]
Worker = Callable[[int], Any]


def together(worker: Worker, folder: Path) -> list[Any]:
    """What a function of the rank returns in each of two processes."""
    multiprocessing.spawn(_run, (worker, str(folder)), nprocs=RANKS)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


def _run(rank: int, worker: Worker, folder: str) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    try:
        torch.save(worker(rank), f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


class Layers(nn.Module):
    """Without batch statistics, so that two halves of a batch are the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(12, 32), nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.norm(self.first(x))))


def layers() -> Layers:
    torch.manual_seed(0)
    return Layers()


def whole(state: Any) -> State:
    """A state dict with whole tensors in it, copied."""
    return {
        name: (each.full_tensor() if hasattr(each, "full_tensor") else each).detach().clone()
        for name, each in state.items()
    }
