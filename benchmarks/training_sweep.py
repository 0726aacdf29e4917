"""Every model traces, trains ten steps from random weights, and follows float32's losses: ours and autocast's distance.

Models train on one batch with the optimizer of their kind (AdamW; SGD with momentum for convolutions with batch norm)
and gradients of clipped norm, as published recipes have it. Beside them the distance of a control, which says what the
setup itself does to a rounding: float32 throughout, but each step's gradients are taken with parameters moved by noise
of the size of one rounding. How far the first step's gradient is from float32's says why some are near the bar: deep
networks with batch norm blow up a rounding until their first gradients have little in common.

`python -m benchmarks.training_sweep --precision bfloat16` on a CPU, `--device cuda` on a GPU; further arguments, parts
of names, choose models. Rows are added one by one to benchmarks/results/training_sweep_<device>_<precision>.json, or
replace what was measured with other settings: a run may be stopped by `--limit`, go on with `--missing`, and be shared
by several processes (`--part 1/4` to `--part 4/4`).
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import ampgraph
from ampgraph.precision import Precision
from benchmarks.record import RESULTS, machine, table
from benchmarks.training_models import Case, Optimize, cases, without_noise

STEPS, CLIP = 10, 1.0
BAR = 0.02


@dataclass(frozen=True)
class Run:
    """Losses of ten steps, and the first step's gradient of all parameters, before it is clipped."""

    losses: list[float]
    gradient: Tensor


def labels_for(out: Tensor) -> Tensor:
    """Labels for the rows of `logits`, one for all of an image; not of the numbers that its batch is drawn from, which
    would make them the tokens themselves.
    """
    rows, classes = logits(out).shape
    pixels = out.shape[2:].numel() if out.dim() == 4 else 1
    generator = torch.Generator().manual_seed(1_000_000)
    return torch.randint(0, classes, (rows // pixels,), generator=generator).repeat_interleave(pixels).to(out.device)


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


def train(
    module: nn.Module,
    optimize: Optimize,
    call: Callable[[nn.Module], Tensor],
    scaled: bool,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Run:
    """Ten steps; scaled where float16 wants it. Gradients are taken inside `around`."""
    parameters = list(module.parameters())
    optimizer = optimize(parameters)
    scaler = torch.amp.GradScaler(parameters[0].device.type, init_scale=1024.0, enabled=scaled)
    found, labels, first = [], None, None
    for _ in range(STEPS):
        with around():
            out = call(module)
            labels = labels_for(out) if labels is None else labels
            loss = nn.functional.cross_entropy(logits(out), labels)
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        first = gradient(parameters) if first is None else first
        nn.utils.clip_grad_norm_(parameters, CLIP)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        found.append(loss.item())
    assert first is not None
    return Run(found, first)


def gradient(parameters: Sequence[nn.Parameter]) -> Tensor:
    """All gradients in one; of a parameter that is not used, zeros."""
    return torch.cat([(torch.zeros_like(each) if each.grad is None else each.grad).flatten() for each in parameters])


def distance(found: list[float], expected: list[float]) -> float:
    """Largest relative difference of two runs."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def fall(found: list[float]) -> float:
    """The part of itself that a loss loses in ten steps: below the bar, a run that stands still would pass it."""
    return 1 - found[-1] / found[0]


def missed(found: list[float], expected: list[float]) -> float:
    """The part of the fall of float32's loss that a run does not make, or makes too much: small losses move little in
    ten steps, and then a small `distance` says nothing.
    """
    return abs((found[0] - found[-1]) / (expected[0] - expected[-1]) - 1)


def measure(case: Case, precision: str, device: str) -> dict[str, Any]:
    """One model's row."""
    torch.manual_seed(0)
    module = without_noise(case.make()).to(device).train()
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
        "float32": train(exact, case.optimize, call, False),
        "traced": train(traced, case.optimize, call, scaled),
        "autocast": train(cast, case.optimize, call, scaled),
        "control": train(control, case.optimize, call, False, lambda: nudged(control, rounding, noise)),
    }
    captured, optimizer = traced.train().captured, case.optimize(module.parameters())
    decisions = [captured.plan.choices[each.id] for each in captured.graph.decisions.values() if each.principal]
    return {
        "optimizer": f"{type(optimizer).__name__} {optimizer.defaults['lr']:g}",
        "trace_seconds": round(seconds, 2),
        "low": sum(choice.precision is Precision(precision) for choice in decisions),
        "ops": len(decisions),
        "casts": len(captured.plan.casts),
        "parameter_casts": sum(Precision(precision) in kept for kept in captured.plan.parameters.values()),
        "losses": {run: each.losses for run, each in found.items()},
        **compared(found),
        "notes": list(captured.notes),
    }


def compared(found: Mapping[str, Run]) -> dict[str, float]:
    """How far each run is from float32's, the part of the fall that it misses, and how far its first gradient is,
    relative to the norm of float32's.
    """
    exact = found["float32"]
    row = {"fall": fall(exact.losses), "gradient_norm": exact.gradient.norm().item()}
    for key, run in {"": "traced", "autocast_": "autocast", "control_": "control"}.items():
        off = (found[run].gradient - exact.gradient).norm() / exact.gradient.norm()
        row[f"{key}distance"] = distance(found[run].losses, exact.losses)
        row[f"{key}missed_fall"] = missed(found[run].losses, exact.losses)
        row[f"{key}gradient_distance"] = off.item()
    return row


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", default="bfloat16", choices=["float16", "bfloat16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=96, help="of images, a multiple of 32")
    parser.add_argument("--missing", action="store_true", help="only models without a row, or whose row is an error")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="every Nth model, from the Kth")
    parser.add_argument("--limit", type=float, default=float("inf"), metavar="SECONDS", help="then no model is begun")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where rows are kept")
    parser.add_argument("models", nargs="*", help="parts of names; all models when none is given")
    given, start = parser.parse_args(), time.perf_counter()
    warnings.simplefilter("ignore")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    settings = {"bar": BAR, "steps": STEPS, "clip": CLIP, "batch": given.batch, "size": given.size}
    name = f"training_sweep_{given.device}_{given.precision}"
    every = cases(given.batch, given.size)
    done = kept(given.out / f"{name}.json", settings) if given.missing else {}
    for model in chosen(list(every), given.models, given.part):
        if time.perf_counter() - start > given.limit:
            print("time is up; go on with --missing")
            break
        if "distance" not in done.get(model, {}):
            row = attempt(every[model], given.precision, given.device)
            add_row(given.out / f"{name}.json", settings, model, row)
            print(model, {key: value for key, value in row.items() if key != "losses"}, flush=True)
    rows = kept(given.out / f"{name}.json", settings)
    cells = [[name, *_cells(row)] for name, row in rows.items()]
    columns = [each for what in ("distance", "missed fall", "gradient") for each in (what, "autocast's", "control's")]
    print(table(["model", "trace s", "low", "casts", "fall", *columns], cells))
    ours, control = ([row.get(key, 1.0) <= BAR for row in rows.values()] for key in ("distance", "control_distance"))
    falls = sum(row.get("fall", 0.0) > BAR for row in rows.values())
    print(f"{sum(ours)} of {len(rows)} follow float32 within {BAR:.0%}; the control, {sum(control)}")
    print(f"{falls} fall by more than that: standing still would fail")


def attempt(case: Case, precision: str, device: str) -> dict[str, Any]:
    """One model's row, or what went wrong."""
    try:
        return measure(case, precision, device)
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
        return [row["error"][:60], *[""] * 12]
    low = f"{row['low']}/{row['ops']}"
    runs = ("", "autocast_", "control_")
    shown = [f"{row[run + key]:.4f}" for key in ("distance", "missed_fall", "gradient_distance") for run in runs]
    return [str(row["trace_seconds"]), low, str(row["casts"]), f"{row['fall']:.4f}", *shown]


if __name__ == "__main__":
    main()
