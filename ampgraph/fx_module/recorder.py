"""Recording work as a CUDA graph, and what can go wrong while recording, in words."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

import torch

from ampgraph.errors import TrainError

Made = TypeVar("Made")
_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)


class Recorder(Protocol):
    """Runs work, or records it without running it."""

    def run(self, work: Callable[[], Made]) -> Made:
        """Run it now, where it would be recorded."""

    def record(self, work: Callable[[], Made]) -> Callable[[], Made]:
        """What runs the recorded work again, on what then lies at the addresses that it read, and returns what it
        made, until the next replay."""


class CudaRecorder:
    """Records CUDA graphs on one stream of its own, into one memory pool that all of them share.

    They may share it since nothing a graph leaves in the pool is read after another one is replayed. The device's
    default random generator takes part by itself: every replay draws new numbers, the ones that eager steps would.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, work: Callable[[], Made]) -> Made:
        """Run it on the recording stream, so that autograd and the libraries are set up for that one."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            made = work()
        current.wait_stream(self._stream)
        return made

    def record(self, work: Callable[[], Made]) -> Callable[[], Made]:
        """A CUDA graph of the work. Other threads may go on using the device, as data loaders do."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            made = work()

        def replay() -> Made:
            graph.replay()
            return made

        return replay


def failed(error: BaseException) -> TrainError:
    """What stopped a recording, with the line of the user's code that it came from."""
    first = _first(error)
    place = _users_line(first.__traceback__) or "training step"
    fact = f"cannot be recorded as a CUDA graph ({_first_line(first)})"
    remedy = "leave out what reads the device there (.item(), print, if, shapes from data), or use capture=False"
    return TrainError(place, fact, remedy)


def _first(error: BaseException) -> BaseException:
    """Ending a broken recording fails too, and would hide why."""
    while error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    return error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _users_line(trace: TracebackType | None) -> str:
    standard = str(Path(traceback.__file__).parent)
    for frame in reversed(traceback.extract_tb(trace)):
        outside = not frame.filename.startswith((_TORCH, _OURS, standard, "<"))
        if outside and frame.filename != sys.executable:
            return f"{frame.filename}:{frame.lineno}"
    return ""
