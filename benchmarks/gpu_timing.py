"""What the GPU benchmarks share: something that runs, how it is timed, and turns for processes that share a GPU."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ampgraph.onnx_model.bench import Spread, interleaved, spread

ROUNDS = 7
SAMPLE = 0.02  # seconds a sample takes: 20 contenders in 7 rounds are 3 s
_MOST_RUNS = 200  # in one sample

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contender:
    """Something that runs: `run` starts a run, `wait` returns when the device is done.

    `answer`: its first output; `setting`: "graph" or "plain", and what else it was opened with.
    """

    name: str
    setting: str
    run: Callable[[], Any]
    wait: Callable[[], Any]
    answer: Array = field(repr=False)
    note: str = ""

    def sampler(self) -> Callable[[], float]:
        """A sample: milliseconds a run over so many runs that the clock does not matter."""
        self._seconds(1)
        runs = max(3, min(_MOST_RUNS, int(SAMPLE / self._seconds(1))))
        return lambda: self._seconds(runs) / runs * 1e3

    def _seconds(self, runs: int) -> float:
        start = time.perf_counter()
        for _ in range(runs):
            self.run()
        self.wait()
        return time.perf_counter() - start


def timed(found: list[Contender]) -> list[Spread]:
    """Milliseconds of a run of each, by interleaved rounds. Those of one name and setting are one that was opened more
    than once."""
    pooled: dict[tuple[str, str], list[float]] = {}
    for each, samples in zip(found, interleaved([each.sampler() for each in found], ROUNDS), strict=True):
        pooled.setdefault((each.name, each.setting), []).extend(samples)
    return [spread(pooled[each.name, each.setting]) for each in found]


def relative(reference: Array, found: Array) -> float:
    """Relative L2 error; infinite where the answer is not of the same shape or not finite."""
    if reference.shape != found.shape:
        return float("inf")
    difference = reference.astype(np.float64) - found.astype(np.float64)
    size = float(np.linalg.norm(reference.astype(np.float64))) or 1.0
    error = float(np.linalg.norm(difference)) / size
    return error if np.isfinite(error) else float("inf")


@dataclass(frozen=True)
class Turns:
    """Processes that share a GPU compile side by side, but one that measures is alone on it.

    `lock`: the stem of two lock files, the same for all of them; None: there is no other process. Who wants to be alone
    holds the door, so that those who come later wait until it is done.
    """

    lock: Path | None = None

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """While others may open or compile models too."""
        with self._held("door", fcntl.LOCK_SH):
            pass
        with self._held("room", fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While nobody else uses the GPU."""
        with self._held("door", fcntl.LOCK_EX), self._held("room", fcntl.LOCK_EX):
            yield

    @contextlib.contextmanager
    def _held(self, name: str, how: int) -> Iterator[None]:
        if self.lock is None:
            yield
            return
        with self.lock.with_name(f"{self.lock.name}.{name}").open("a") as file:
            fcntl.flock(file, how)  # released when the file is closed
            yield
