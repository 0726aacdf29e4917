"""Final accuracy in float32, torch.amp and ampgraph: `python -m benchmarks.train_accuracy [--device D] [--quick]`.

Every column trains the same networks from the same weights on the same batches, seed by seed, with fused AdamW and a
cosine schedule. torch.amp: autocast, and GradScaler for float16, as its manual has it. ampgraph: traced, LossScaler,
TrainStep (one CUDA graph a step on a GPU). What is trained is measured as it was trained, in evaluation mode.
`difference` is the mean over seeds of the column minus float32 of the same seed; `noise` is twice the standard error of
the difference of two means, from the spreads of both columns. Columns are kept one by one: a run may be stopped by
`--limit` and go on with `--missing`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import ampgraph
from ampgraph.tutorial import on_one_thread
from benchmarks.accuracy_tasks import Size, Task, score_loss, tasks
from benchmarks.record import RESULTS, add, machine, table

SEEDS = 5
Low = Callable[[], AbstractContextManager[Any]]
Score = float


@dataclass(frozen=True, slots=True)
class Row:
    """One column of one task over all seeds; `skipped`: steps that overflowed, over all seeds."""

    task: str
    column: str
    measure: str
    mean: float
    spread: float
    difference: float
    noise: float
    skipped: int
    seconds: float
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One training: the final score and how many steps were skipped."""

    score: float
    skipped: int = 0


def train_torch(task: Task, seed: int, low: Low, scaled: bool) -> Run:
    """The loop of torch's manual, with autocast or without."""
    module, optimizer, schedule = _begun(task, task.network(), seed)
    scaler = torch.amp.GradScaler(task.train[0].device.type, enabled=scaled)
    scales: list[Tensor] = []
    generator = torch.Generator().manual_seed(seed)
    for _ in range(task.steps):
        x, y = task.batch_at(generator)
        with low():
            loss = score_loss(module(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        schedule.step()
        scales += [scaler._scale.clone()] if scaled and scaler._scale is not None else []
    return Run(_score(task, module, low), _lowered(scales))


def train_ours(task: Task, seed: int, traced: ampgraph.TracedModule, precision: str) -> Run:
    """The traced module with LossScaler and TrainStep; traced once, for all seeds."""
    _begun(task, traced.original, seed)
    traced.train()
    optimizer, schedule = _optimizer(task, traced)
    scaler = ampgraph.LossScaler(task.train[0].device.type, precision=precision, history=task.steps)
    step = ampgraph.TrainStep(traced, score_loss, optimizer, scaler)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(task.steps):
        step(*task.batch_at(generator))
        schedule.step()
    return Run(_score(task, traced, nullcontext), sum(each.skipped for each in scaler.history()))


def columns(task: Task) -> Mapping[str, Callable[[int], Run]]:
    """Every way to train a task, by seed."""
    kind = task.train[0].device.type
    found: dict[str, Callable[[int], Run]] = {"float32": lambda seed: train_torch(task, seed, nullcontext, False)}
    for dtype in (torch.float16, torch.bfloat16):
        low, name = partial(torch.autocast, kind, dtype), str(dtype).removeprefix("torch.")
        found[f"torch.amp {name}"] = partial(train_torch, task, low=low, scaled=dtype is torch.float16)
        traced = ampgraph.trace(task.network().to(kind), (task.train[0][: task.batch],), precision=name)
        found[f"ampgraph {name}"] = partial(train_ours, task, traced=traced, precision=name)
    return found


def measure(task: Task, seeds: int, done: Sequence[Row] = (), until: float = float("inf")) -> Iterator[list[Row]]:
    """All columns of a task, each as soon as it is there with those before it; none that is `done`, nor begun late.

    `until`: of the clock that time.perf_counter reads.
    """
    rows = {row.column: row for row in done}
    for column, train in columns(task).items():
        if column in rows:
            continue
        if time.perf_counter() > until:
            print("time is up; go on with --missing")
            return
        start = time.perf_counter()
        runs = [train(seed) for seed in range(seeds)]
        seconds = time.perf_counter() - start
        base = rows["float32"].scores if rows else tuple(run.score for run in runs)
        rows[column] = _row(task, column, runs, base, seconds)
        print({key: value for key, value in asdict(rows[column]).items() if key != "scores"}, flush=True)
        yield list(rows.values())


def _row(task: Task, column: str, runs: Sequence[Run], base: Sequence[float], seconds: float) -> Row:
    scores = tuple(run.score for run in runs)
    spreads = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in (scores, base)]
    difference = statistics.fmean(ours - theirs for ours, theirs in zip(scores, base, strict=True))
    noise = 2 * (sum(spread**2 for spread in spreads) / len(scores)) ** 0.5
    mean, skipped = statistics.fmean(scores), sum(run.skipped for run in runs)
    return Row(task.name, column, task.measure, mean, spreads[0], difference, noise, skipped, round(seconds, 1), scores)


def _begun(task: Task, module: nn.Module, seed: int) -> tuple[nn.Module, torch.optim.Optimizer, CosineAnnealingLR]:
    """The module with the weights of a seed, whatever it had."""
    torch.manual_seed(seed)
    fresh = task.network()
    module.load_state_dict(fresh.state_dict())
    module.to(task.train[0].device).train()
    return module, *_optimizer(task, module)


def _optimizer(task: Task, module: nn.Module) -> tuple[torch.optim.Optimizer, CosineAnnealingLR]:
    optimizer = torch.optim.AdamW(module.parameters(), task.rate, fused=True)
    return optimizer, CosineAnnealingLR(optimizer, task.steps)


@torch.no_grad()
def _score(task: Task, module: nn.Module, low: Low) -> Score:
    """Per cent read correctly, or the mean loss in nats."""
    module.eval()
    x, y = task.test
    with low():
        scores = torch.cat([module(part) for part in x.split(task.batch)]).float()
    if task.measure == "loss":
        return float(score_loss(scores, y))
    return 100 * float((scores.argmax(-1) == y).float().mean())


def _lowered(scales: Sequence[Tensor]) -> int:
    """How often the scale fell: once a skipped step."""
    values = torch.stack(list(scales)).tolist() if scales else []
    return sum(later < earlier for earlier, later in zip([2.0**16, *values], values, strict=False))


def main() -> None:
    """Train everything, print the table, and keep it with the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="two seeds and a tenth of the steps; nothing is kept")
    parser.add_argument("--only", default="", help="substring of the task")
    parser.add_argument("--mnist", type=Path, help="a folder with the whole of MNIST")
    parser.add_argument("--missing", action="store_true", help="only columns that are not kept yet")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS", help="then no column is begun")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is kept")
    words = parser.parse_args()
    device, start = torch.device(words.device), time.perf_counter()
    torch.backends.cudnn.allow_tf32 = False  # float32 is to mean it
    rows: list[Row] = []
    with on_one_thread() if device.type == "cpu" else nullcontext():
        for task in tasks(device, Size(device.type == "cpu", words.quick), words.mnist):
            if words.only in task.name:
                done = found = kept(task, device, words.out) if words.missing else []
                for found in measure(task, 2 if words.quick else SEEDS, done, start + words.limit):
                    if not words.quick:
                        _keep(task, found, device, words.out)
                rows += found
    names = [each.name for each in fields(Row) if each.name != "scores"]
    print(table(names, [[getattr(row, name) for name in names] for row in rows]))
    print(f"{time.perf_counter() - start:.0f} s")


def kept(task: Task, device: torch.device, folder: Path) -> list[Row]:
    """The columns that were measured with this torch, this data and as many steps."""
    file = folder / "train_accuracy.json"
    case = json.loads(file.read_text())["figures"].get(f"{device.type}, {task.name}", {}) if file.exists() else {}
    settings = {"torch": torch.__version__, "data": task.data, "steps": task.steps}
    same = bool(case) and all(case[name] == value for name, value in settings.items())
    return [Row(**{**row, "scores": tuple(row["scores"])}) for row in case["rows"]] if same else []


def _keep(task: Task, rows: Sequence[Row], device: torch.device, folder: Path) -> None:
    figures = {"machine": machine(), "torch": torch.__version__, "data": task.data, "steps": task.steps}
    case = {**figures, "rows": [asdict(row) for row in rows]}
    add("train_accuracy", {f"{device.type}, {task.name}": case}, folder)


if __name__ == "__main__":
    main()
