"""Processes side by side, with a time limit that also ends what they started."""

import sys
import time
from pathlib import Path

from benchmarks.processes import Task, run_all


def test_processes_end_by_themselves_or_at_the_limit(tmp_path: Path):
    done = tmp_path / "done"
    start = time.perf_counter()
    writes = "import os; open(os.environ['DONE'], 'w')"
    tasks = [
        Task("quick", [sys.executable, "-c", writes], {"DONE": str(done)}),
        Task("wrong", [sys.executable, "-c", "raise SystemExit(3)"]),
        Task("endless", ["sh", "-c", "sleep 60 & wait"]),
    ]
    assert sorted(run_all(tasks, 4)) == ["endless", "wrong"]
    assert time.perf_counter() - start < 30
    assert done.exists()
