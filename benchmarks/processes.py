"""Processes side by side, with a time limit that also ends what they started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_POLL = 0.5  # seconds


@dataclass(frozen=True)
class Task:
    """A command, and what it finds in its environment besides."""

    title: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """A process of its own session, so that the compilers it starts end with it."""

    title: str
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it with all it started."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()


def run_all(tasks: Sequence[Task], limit: float) -> list[str]:
    """Run them side by side. Returns the titles of those that were stopped at the limit (seconds) or failed."""
    start = time.perf_counter()
    running = [_started(task) for task in tasks]
    unfinished = []
    while running and time.perf_counter() - start < limit:
        for job in [job for job in running if job.process.poll() is not None]:
            running.remove(job)
            unfinished += [job.title] if job.process.returncode else []
            print(f"-- {job.title}: {time.perf_counter() - start:.0f} s, exit {job.process.returncode}", flush=True)
        time.sleep(_POLL)
    for job in running:
        job.stop()
    return unfinished + [job.title for job in running]


def _started(task: Task) -> _Job:
    environment = {**os.environ, **task.environment}
    return _Job(task.title, subprocess.Popen(task.command, env=environment, start_new_session=True))
