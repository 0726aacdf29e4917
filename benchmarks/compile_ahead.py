"""Everything a measurement needs that takes no GPU's time: `python -m benchmarks.compile_ahead FOLDER [--only A,B]`.

Where a GPU is lent for minutes, they are for measuring. This exports the networks, runs every converter on them
(gpu_onnx.py finds the files by name) and compiles torch's, all side by side, so that Inductor's cache is warm when
`python -m benchmarks.gpu_rows --models FOLDER` opens them. One process a network for the files and one for torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import gpu_models
from benchmarks.processes import Task, run_all

FILES, TORCH = "files", "torch"
_THREADS = {"TORCHINDUCTOR_COMPILE_THREADS": "3", "OMP_NUM_THREADS": "2"}  # a process: 16 cores, 18 processes


def make_files(name: str, arguments: argparse.Namespace) -> None:
    """Export a network unless it is there, and run every converter."""
    from benchmarks import gpu_onnx, gpu_rows

    folder = arguments.folder
    if not (folder / f"{name}.onnx").exists():
        unfinished = folder / f"{name}.{os.getpid()}"
        gpu_models.export(name, unfinished).replace(folder / f"{name}.onnx")
    arguments.only, arguments.models, arguments.plain = name, folder, False
    for case in gpu_rows.network_cases(arguments, folder):
        for made in gpu_onnx.prepared(case):
            print(f"{name} b{case.batch} {made.title}: {made.failure or made.note or 'made'}", flush=True)


def compile_torch(name: str, arguments: argparse.Namespace) -> None:
    """Compile and run a network at every batch, which fills Inductor's cache."""
    from benchmarks import gpu_torch
    from benchmarks.gpu_timing import Turns

    modes = gpu_torch.COMPILED[: 1 + arguments.max_autotune]
    for size in arguments.batches.split(","):
        batch = gpu_models.row(name)[2] if size == "large" else int(size)
        start = time.perf_counter()
        for found in gpu_torch.contenders(name, batch, modes, Turns(), eager=False):
            print(f"{name} b{batch} {found.name}: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Start a process for each network and task, or be one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="comma-separated substrings of the networks")
    parser.add_argument("--batches", default="large,1")
    parser.add_argument("--tasks", default=f"{FILES},{TORCH}")
    parser.add_argument("--max-autotune", action="store_true", help="compile in that mode too: minutes")
    parser.add_argument("--modelopt", type=Path, help="folder of benchmarks/modelopt_stripped.py")
    parser.add_argument("--limit", type=float, default=200.0, metavar="SECONDS", help="then what still runs is stopped")
    parser.add_argument("--network", default="", help="the one network of a process that this command started")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.network:
        task = make_files if arguments.tasks == FILES else compile_torch
        task(arguments.network, arguments)
        return
    names = gpu_models.named(arguments.only)
    command = [sys.executable, "-m", "benchmarks.compile_ahead", *sys.argv[1:]]
    threads = {key: value for key, value in _THREADS.items() if key not in os.environ}
    tasks = [
        Task(f"{task} {name}", [*command, "--network", name, "--tasks", task], threads)
        for task in arguments.tasks.split(",")
        for name in names
    ]
    unfinished = run_all(tasks, arguments.limit)
    print(f"not finished: {', '.join(unfinished) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
