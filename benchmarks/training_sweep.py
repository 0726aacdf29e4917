"""Every model traces, trains ten steps, and follows float32's losses: ours and autocast's distance, side by side.

Beside them the distance of a control, which says what the setup itself does to a rounding: float32 throughout, but each
step's gradients are taken with parameters moved by noise of the size of one rounding. Straight from random weights
(`--warm-up 0`) deep networks with batch norm fail that control: float32 does not follow itself. So all models first
take steps in float32, each on a batch and random labels of its own; what is measured is then learnt from one batch.

`python -m benchmarks.training_sweep --precision bfloat16` on a CPU, `--device cuda` on a GPU; further arguments, parts
of names, choose models. Rows are added one by one to benchmarks/results/training_sweep_<device>_<precision>.json,
with `_from_random` at the end without a warm-up, or replace what was measured with other settings: a run may be
stopped by `--limit`, go on with `--missing`, and be shared by several processes (`--part 1/4` to `--part 4/4`).
"""

from __future__ import annotations

import argparse
import copy
import fcntl
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import ampgraph
from ampgraph.precision import Precision
from benchmarks.record import RESULTS, machine, table
from benchmarks.training_models import Case, cases, without_noise

STEPS, RATE = 10, 1e-5
WARM_UP_RATE = 1e-3
BAR = 0.02


def labels_for(out: Tensor, seed: int = 0) -> Tensor:
    """A seed's labels for the classes along the axis that `logits` moves last; not of the numbers that its batch is
    drawn from, which would make them the tokens themselves.
    """
    generator = torch.Generator().manual_seed(seed + 1_000_000)
    found = logits(out)
    return torch.randint(0, found.shape[-1], (found.shape[0],), generator=generator).to(out.device)


def logits(out: Tensor) -> Tensor:
    """Scores by row; an image's classes are its second axis."""
    moved = out.movedim(1, -1) if out.dim() == 4 else out
    return moved.reshape(-1, moved.shape[-1]).float()


def batch_of(case: Case, seed: int, device: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments and keywords, the same for a seed wherever they are drawn."""
    args, kwargs = case.draw(torch.Generator().manual_seed(seed))
    moved = pytree.tree_map_only(Tensor, lambda each: each.to(device), (args, dict(kwargs)))
    return moved[0], moved[1]


def output(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The first floating tensor that a call returns."""
    leaves = pytree.tree_leaves(module(*args, **kwargs))
    return next(leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point())


def warm_up(module: nn.Module, case: Case, steps: int, device: str) -> None:
    """Steps of Adam in float32, each on a batch and random labels of its own: there is nothing to learn, so that the
    losses that are measured afterwards have their fall before them.
    """
    optimizer = torch.optim.Adam(module.parameters(), WARM_UP_RATE)
    for step in range(steps):
        args, kwargs = batch_of(case, step + 1, device)
        out = output(module, args, kwargs)
        nn.functional.cross_entropy(logits(out), labels_for(out, step + 1)).backward()
        optimizer.step()
        optimizer.zero_grad()


@contextmanager
def nudged(module: nn.Module, part: float, generator: torch.Generator) -> Iterator[None]:
    """Within, each parameter is off by up to `part` of itself, at random: gradients of the moved reach the unmoved."""
    kept = [each.detach().clone() for each in module.parameters()]
    with torch.no_grad():
        for each in module.parameters():
            noise = torch.rand(each.shape, generator=generator).to(each.device)
            each.mul_(1 + part * (2 * noise - 1))
    yield
    with torch.no_grad():
        for each, before in zip(module.parameters(), kept, strict=True):
            each.copy_(before)


def losses(
    module: nn.Module,
    call: Callable[[nn.Module], Tensor],
    scaled: bool,
    device: str,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[float]:
    """Losses of ten steps of Adam; scaled where float16 wants it. Gradients are taken inside `around`."""
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    scaler = torch.amp.GradScaler(device, init_scale=1024.0, enabled=scaled)
    found, labels = [], None
    for _ in range(STEPS):
        with around():
            out = call(module)
            labels = labels_for(out) if labels is None else labels
            loss = nn.functional.cross_entropy(logits(out), labels)
            scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def distance(found: list[float], expected: list[float]) -> float:
    """Largest relative difference of two runs."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def missed(found: list[float], expected: list[float]) -> float:
    """The part of the fall of float32's loss that a run does not make, or makes too much: small losses move little in
    ten steps, and then a small `distance` says nothing.
    """
    return abs((found[0] - found[-1]) / (expected[0] - expected[-1]) - 1)


def measure(case: Case, precision: str, device: str, warm_up_steps: int) -> dict[str, Any]:
    """One model's row."""
    torch.manual_seed(0)
    module = without_noise(case.make()).to(device).train()
    warm_up(module, case, warm_up_steps, device)
    args, kwargs = batch_of(case, 0, device)
    exact, cast, control = (copy.deepcopy(module) for _ in range(3))
    start = time.perf_counter()
    traced = ampgraph.trace(module, args, kwargs, precision=precision)
    seconds = time.perf_counter() - start
    dtype, scaled = getattr(torch, precision), precision == "float16"
    rounding, noise = torch.finfo(dtype).eps / 2, torch.Generator().manual_seed(9)

    def call(each: nn.Module) -> Tensor:
        with torch.autocast(device, dtype) if each is cast else nullcontext():
            return output(each, args, kwargs)

    found = {
        "float32": losses(exact, call, False, device),
        "traced": losses(traced, call, scaled, device),
        "autocast": losses(cast, call, scaled, device),
        "control": losses(control, call, False, device, lambda: nudged(control, rounding, noise)),
    }
    captured = traced.train().captured
    decisions = [captured.plan.choices[each.id] for each in captured.graph.decisions.values() if each.principal]
    return {
        "trace_seconds": round(seconds, 2),
        "low": sum(choice.precision is Precision(precision) for choice in decisions),
        "ops": len(decisions),
        "casts": len(captured.plan.casts),
        "parameter_casts": sum(Precision(precision) in kept for kept in captured.plan.parameters.values()),
        "losses": found,
        **compared(found),
        "notes": list(captured.notes),
    }


def compared(found: Mapping[str, list[float]]) -> dict[str, float]:
    """How far each run is from float32's, and the part of the fall that it misses."""
    runs = {"": "traced", "autocast_": "autocast", "control_": "control"}
    far = {f"{key}distance": distance(found[run], found["float32"]) for key, run in runs.items()}
    return far | {f"{key}missed_fall": missed(found[run], found["float32"]) for key, run in runs.items()}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="bfloat16", choices=["float16", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=96, help="of images, a multiple of 32")
    parser.add_argument("--warm-up", type=int, default=500, metavar="STEPS", help="of float32 before what is measured")
    parser.add_argument("--missing", action="store_true", help="only models without a row, or whose row is an error")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="every Nth model, from the Kth")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS", help="then no model is begun")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where rows are kept")
    parser.add_argument("models", nargs="*", help="parts of names; all models when none is given")
    given, start = parser.parse_args(), time.perf_counter()
    warnings.simplefilter("ignore")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    settings = {"bar": BAR, "steps": STEPS, "rate": RATE, "batch": given.batch, "size": given.size}
    settings |= {"warm_up": given.warm_up, "warm_up_rate": WARM_UP_RATE}
    name = f"training_sweep_{given.device}_{given.precision}{'' if given.warm_up else '_from_random'}"
    every = cases(given.batch, given.size)
    done = kept(given.out / f"{name}.json", settings) if given.missing else {}
    for model in chosen(list(every), given.models, given.part):
        if time.perf_counter() - start > given.limit:
            print("time is up; go on with --missing")
            break
        if "distance" not in done.get(model, {}):
            row = attempt(every[model], given.precision, given.device, given.warm_up)
            add_row(given.out / f"{name}.json", settings, model, row)
            print(model, {key: value for key, value in row.items() if key != "losses"}, flush=True)
    rows = kept(given.out / f"{name}.json", settings)
    cells = [[name, *_cells(row)] for name, row in rows.items()]
    columns = ["distance", "autocast's", "control's", "missed fall", "autocast's", "control's"]
    print(table(["model", "trace s", "low", "casts", *columns], cells))
    ours, control = ([row.get(key, 1.0) <= BAR for row in rows.values()] for key in ("distance", "control_distance"))
    print(f"{sum(ours)} of {len(rows)} follow float32 within {BAR:.0%}; the control, {sum(control)}")


def attempt(case: Case, precision: str, device: str, warm_up_steps: int) -> dict[str, Any]:
    """One model's row, or what went wrong."""
    try:
        return measure(case, precision, device, warm_up_steps)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}


def _part(text: str) -> tuple[int, int]:
    first, count = map(int, text.split("/"))
    if not 1 <= first <= count:
        raise argparse.ArgumentTypeError(f"{text} is no part: give 1/4 to 4/4 for four")
    return first, count


def chosen(names: Sequence[str], words: Sequence[str], part: tuple[int, int]) -> list[str]:
    """The names that have one of the words in them, or all; of those one part."""
    first, count = part
    return [name for name in names if not words or any(word in name for word in words)][first - 1 :: count]


def kept(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rows that earlier runs with these settings kept."""
    return _rows(file.read_text(), settings) if file.exists() else {}


def _rows(text: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    figures = json.loads(text)["figures"] if text else {}
    same = bool(figures) and all(figures.get(key) == value for key, value in settings.items())
    return dict(figures["models"]) if same else {}


def add_row(path: Path, settings: Mapping[str, Any], model: str, row: Mapping[str, Any]) -> None:
    """Add a row to those that are kept, which other processes may do at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        figures = {**settings, "models": {**_rows(file.read(), settings), model: row}}
        file.truncate(0)
        file.write(json.dumps({"machine": machine(), "figures": figures}, indent=1) + "\n")


def _cells(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [row["error"][:60], *[""] * 8]
    low = f"{row['low']}/{row['ops']}"
    runs = ("", "autocast_", "control_")
    shown = [f"{row[run + key]:.4f}" for key in ("distance", "missed_fall") for run in runs]
    return [str(row["trace_seconds"]), low, str(row["casts"]), *shown]


if __name__ == "__main__":
    main()
