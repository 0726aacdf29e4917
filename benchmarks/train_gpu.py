"""Milliseconds and memory of a training step: `python -m benchmarks.train_gpu [--only NAME] [--without A,B]`, on a GPU.

All contenders of a network train copies of it in one process, in interleaved rounds, with fused optimizers; each does a
whole step: forward, backward, unscale, optimizer, scale. Memory is what a contender adds while it alone is opened and
trains ten steps: `peak_mib` the most that was allocated at a time, `held_mib` what the allocator holds for it at the
end. What graphs use in their pools counts while they are recorded, not when they are replayed: the peer whose optimizer
makes its state after that (forward and backward as a CUDA graph) needs that much more than `peak_mib` says. cuBLAS's
workspaces, one a stream, stay with the process; they are made before anything is weighed, and weighed by themselves.
The same settings of TF32 for all but "float32". Networks are kept one by one: a run cut short keeps what it has.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.onnx_model.bench import spread
from benchmarks.record import RESULTS, add, machine, table
from benchmarks.train_models import TASKS, Batch, Task

DEVICE = torch.device("cuda")
OPENING = 10  # steps before anything is timed: compiles, captures, finds the scale
ROUNDS, SAMPLE = 40, 0.05
Step = Callable[[], Tensor]
Maker = Callable[[Task], Step]


@dataclass(frozen=True, slots=True)
class Row:
    """One contender: milliseconds a step, median and quartiles; MiB; the loss after the opening steps."""

    network: str
    contender: str
    ms: float
    low: float
    high: float
    peak_mib: float
    held_mib: float
    loss: float


def low_products(allowed: bool) -> None:
    """Whether float32 products may be TF32."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def _scaled(
    module: Callable[..., Tensor],
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    low: Callable[[], AbstractContextManager[Any]],
) -> Tensor:
    """The loop of torch's manual."""
    with low():
        loss = module(*batch)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return loss.detach()


def plain(task: Task, *, tf32: bool) -> Step:
    """No low precision, no scaler."""
    module, batch = task.build(DEVICE)
    optimizer = task.optimizer(module.parameters())

    def step() -> Tensor:
        low_products(tf32)
        loss: Tensor = module(*batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        low_products(True)
        return loss.detach()

    return step


def autocast(task: Task, *, compiled: bool = False) -> Step:
    """torch.amp as its manual has it."""
    module, batch = task.build(DEVICE)
    optimizer, scaler = task.optimizer(module.parameters()), torch.amp.GradScaler("cuda")
    model = torch.compile(module) if compiled else module
    low = partial(torch.autocast, "cuda", torch.float16)
    return lambda: _scaled(model, batch, optimizer, scaler, low)


def graphed(task: Task) -> Step:
    """Forward and backward under autocast as one CUDA graph, as torch's manual has it; scaler and optimizer outside."""
    module, (x, y) = task.build(DEVICE)
    optimizer, scaler = task.optimizer(module.parameters()), torch.amp.GradScaler("cuda")
    inputs = torch.empty_like(x).copy_(x), y.clone()

    def forward_backward() -> Tensor:
        with torch.autocast("cuda", torch.float16, cache_enabled=False):
            loss: Tensor = module(*inputs)
        scaler.scale(loss).backward()
        return loss.detach()

    aside = side_stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            optimizer.zero_grad()
            forward_backward()
    torch.cuda.current_stream().wait_stream(aside)
    optimizer.zero_grad()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside):
        loss = forward_backward()

    def step() -> Tensor:
        for held, given in zip(inputs, (x, y), strict=True):
            held.copy_(given)
        graph.replay()
        scaler.step(optimizer)
        scaler.update()
        return loss.clone()

    return step


def traced(task: Task, *, captured: bool) -> Step:
    """ampgraph's graph with its casts, in the plain loop or as a TrainStep."""
    module, batch = task.build(DEVICE)
    model: Any = ampgraph.trace(module, batch)  # type: ignore[attr-defined]
    optimizer, scaler = task.optimizer(model.parameters()), ampgraph.LossScaler("cuda")
    if not captured:
        return lambda: _scaled(model, batch, optimizer, scaler, nullcontext)
    step = ampgraph.TrainStep(model, None, optimizer, scaler)
    return lambda: step(*batch)


class Autocast(nn.Module):
    """A module under autocast, for steps that are captured."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.float16, cache_enabled=False):
            loss: Tensor = self.module(*inputs)
        return loss


def captured_autocast(task: Task) -> Step:
    """TrainStep without our tracing: what the casts' places are worth is the difference."""
    module, batch = task.build(DEVICE)
    optimizer, scaler = task.optimizer(module.parameters()), ampgraph.LossScaler("cuda")
    step = ampgraph.TrainStep(Autocast(module), None, optimizer, scaler)
    return lambda: step(*batch)


EAGER, GRAPHED, OURS, WHOLE = "autocast", "autocast, fw+bw as CUDA graph", "traced", "traced TrainStep"
CONTENDERS: Mapping[str, Maker] = {
    "float32": partial(plain, tf32=False),
    "tf32": partial(plain, tf32=True),
    EAGER: autocast,
    "torch.compile + autocast": partial(autocast, compiled=True),
    GRAPHED: graphed,
    "autocast TrainStep": captured_autocast,
    OURS: partial(traced, captured=False),
    WHOLE: partial(traced, captured=True),
}


@dataclass(frozen=True)
class Opened:
    """A contender that runs, with what it took."""

    name: str
    step: Step
    loss: float
    peak: float
    held: float

    def sampler(self) -> Callable[[], float]:
        """Milliseconds a step over so many that the clock does not matter."""
        self._seconds(3)
        runs = max(3, min(500, int(SAMPLE / self._seconds(5) * 5)))
        return lambda: self._seconds(runs) / runs * 1e3

    def _seconds(self, runs: int) -> float:
        start = time.perf_counter()
        for _ in range(runs):
            self.step()
        torch.cuda.synchronize()
        return time.perf_counter() - start


def opened(name: str, task: Task) -> Opened:
    """Build it alone, train it a little and weigh it."""
    _tidy()
    torch.cuda.reset_peak_memory_stats()
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    step = CONTENDERS[name](task)
    for _ in range(OPENING):
        loss = step()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - allocated
    held = torch.cuda.memory_reserved() - reserved
    return Opened(name, step, float(loss), peak / 2**20, held / 2**20)


@cache
def side_stream() -> torch.cuda.Stream:
    """The one that the peer warms up and records on."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def workspaces() -> dict[str, float]:
    """MiB of cuBLAS's workspaces on the streams that contenders use: who comes first would be charged with them."""
    found = {}
    for name, run in (("default stream", _products), ("side stream", _aside), ("recording stream", _recorded)):
        _tidy()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        _tidy()
        found[name] = (torch.cuda.memory_allocated() - before) / 2**20
    return found


def _products() -> None:
    for dtype in (torch.float32, torch.float16):
        layer = nn.Linear(64, 64, device=DEVICE, dtype=dtype)
        layer(torch.ones(64, 64, device=DEVICE, dtype=dtype)).sum().backward()


def _aside() -> None:
    with torch.cuda.stream(side_stream()):
        _products()


def _recorded() -> None:
    module = Autocast(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, bias=False))).to(DEVICE)
    optimizer = torch.optim.SGD(module.parameters(), 0.0, fused=True)
    step = ampgraph.TrainStep(module, lambda output: output.float().sum(), optimizer)
    for _ in range(3):
        step(torch.ones(64, 64, device=DEVICE))


def _tidy() -> None:
    gc.collect()
    torch.cuda.empty_cache()


def measure(network: str, names: Sequence[str]) -> Iterator[Row]:
    """One network with every contender that opens; the others say why not."""
    torch._dynamo.reset()
    found = []
    for name in names:
        try:
            found.append(opened(name, TASKS[network]))
        except Exception as error:
            traceback.print_exc()
            print(f"{network}, {name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    samples = _samples([each.sampler() for each in found])
    for each, times in zip(found, samples, strict=True):
        said = spread(times)
        yield Row(network, each.name, said.median, said.low, said.high, each.peak, each.held, each.loss)


def _samples(samplers: Sequence[Callable[[], float]]) -> list[list[float]]:
    """Samples of each, a round's in an order of its own: who follows whom matters where steps wait for the host.

    What was made before, a compiler's memory among it, is none of the garbage collector's business while steps run.
    """
    samples: list[list[float]] = [[] for _ in samplers]
    order, shuffled = list(range(len(samplers))), random.Random(0)
    gc.collect()
    gc.freeze()
    for _ in range(ROUNDS):
        shuffled.shuffle(order)
        for index in order:
            samples[index].append(samplers[index]())
    gc.unfreeze()
    return samples


def ratios(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """What the bars ask: how many times faster ours are, and their memory as a share of autocast's."""
    said: dict[str, dict[str, float]] = {}
    for network in dict.fromkeys(row.network for row in rows):
        at = {row.contender: row for row in rows if row.network == network}
        pairs = [(ours, peer) for ours in (OURS, WHOLE) for peer in (EAGER, GRAPHED) if ours in at and peer in at]
        said[network] = {f"{ours} over {peer}": at[peer].ms / at[ours].ms for ours, peer in pairs}
        if EAGER in at:
            memory = {f"memory of {name} / autocast": at[name].peak_mib / at[EAGER].peak_mib for name in at}
            said[network] |= memory
    return said


def main() -> None:
    """Print the tables, and keep each network that all contenders were measured on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="substrings of the networks, by commas")
    parser.add_argument(
        "--without", default="", help="substrings of contenders to leave out, by commas; nothing is kept"
    )
    parser.add_argument("--result", default="train_gpu", help="name of the kept file")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results are kept")
    arguments = parser.parse_args()
    without = [each for each in arguments.without.split(",") if each]
    names = [name for name in CONTENDERS if not any(each in name for each in without)]
    low_products(True)
    libraries = workspaces()
    print("MiB of workspaces:", {name: round(mib, 1) for name, mib in libraries.items()}, flush=True)
    for network in (name for name in TASKS if any(each in name for each in arguments.only.split(","))):
        rows = list(measure(network, names))
        said = ratios(rows)[network]
        print(table(list(asdict(rows[0])), [list(asdict(row).values()) for row in rows]))
        print(network, {name: round(value, 3) for name, value in said.items()}, flush=True)
        if not without:
            known = {"machine": machine(), "torch": torch.__version__, "workspaces_mib": libraries}
            add(
                arguments.result,
                {network: {**known, "rows": [asdict(row) for row in rows], "ratios": said}},
                arguments.out,
            )
        gc.collect()


if __name__ == "__main__":
    main()
