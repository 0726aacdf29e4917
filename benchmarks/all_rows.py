"""All rows, on all GPUs that are here: `python -m benchmarks.all_rows --models DIR [--limit SECONDS] ...`.

A process of benchmarks/gpu_rows.py a network, with torch's `max-autotune` and without tuning, those on one GPU with one
lock. Where GPUs are lent for minutes, what was cut short at the limit goes on when this is called again: cases that are
there are left out, and Inductor's cache is warm. Two H200s with 32 cores take some 1,500 seconds.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from benchmarks import gpu_models
from benchmarks.processes import Task, run_all


def tasks(arguments: argparse.Namespace, gpus: int) -> list[Task]:
    """A network each, one GPU after the other."""
    return [_task(name, number % gpus, arguments) for number, name in enumerate(gpu_models.named(arguments.only))]


def _task(name: str, gpu: int, arguments: argparse.Namespace) -> Task:
    folder: Path = arguments.result_dir
    words = ["--only", name, "--max-autotune", "--without-tune", "--missing"]
    places = {"--models": arguments.models, "--modelopt": arguments.modelopt, "--result-dir": folder}
    words += [word for key, value in places.items() if value is not None for word in (key, str(value))]
    words += ["--lock", str(folder / f"gpu{gpu}"), "--batches", arguments.batches]
    chosen = {"CUDA_VISIBLE_DEVICES": str(gpu), "TORCHINDUCTOR_COMPILE_THREADS": str(arguments.threads)}
    return Task(f"{name} on {gpu}", [sys.executable, "-m", "benchmarks.gpu_rows", *words], chosen)


def main() -> None:
    """Run them and say which did not finish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of models; what is made of them goes there")
    parser.add_argument("--modelopt", type=Path, help="folder of benchmarks/modelopt_stripped.py")
    parser.add_argument("--only", default="", help="comma-separated substrings of the networks")
    parser.add_argument("--batches", default="large,1")
    parser.add_argument("--result-dir", type=Path, required=True)
    parser.add_argument(
        "--limit", type=float, default=3600.0, metavar="SECONDS", help="then what still runs is stopped"
    )
    parser.add_argument(
        "--threads", type=int, default=max(1, (os.cpu_count() or 1) // 8), help="of Inductor, a process"
    )
    arguments = parser.parse_args()
    arguments.result_dir.mkdir(parents=True, exist_ok=True)
    unfinished = run_all(tasks(arguments, max(1, torch.cuda.device_count())), arguments.limit)
    print(f"not finished: {', '.join(unfinished) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
