"""Recording work as a CUDA graph, and what can go wrong while recording, in words."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from ampgraph.errors import TrainError
from ampgraph.fx_module.abandoned import abandon
from ampgraph.fx_module.graph_inputs import Blank, Place

Made = TypeVar("Made")
_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)


@dataclass(frozen=True)
class Recording(Generic[Made]):
    """Recorded work: `replay` runs it on what was written into `inputs` since the last time, and returns what it made,
    until the next replay. What lies in `inputs` afterwards is anything."""

    inputs: list[Tensor]
    replay: Callable[[], Made]


class Recorder(Protocol):
    """Runs work, or records it without running it."""

    def run(self, work: Callable[[], Made]) -> Made:
        """Run it now, where it would be recorded."""

    def record(self, work: Callable[[list[Tensor]], Made], inputs: Sequence[Blank]) -> Recording[Made]:
        """Record the work on inputs that are made for it. The list of them is the work's: it may empty it."""


class CudaRecorder:
    """CUDA graphs on a stream of their own, which all steps of a thread share, out of one pool of memory.

    They may share the pool since nothing a graph leaves in it is read after another one is replayed, and the stream
    since that one has cuBLAS's workspace, tens of MiB. The device's default random generator takes part by itself:
    every replay draws new numbers, the ones that eager steps would.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        self._stream = _stream(self._device, threading.get_ident())
        self._pool = torch.cuda.graph_pool_handle()
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()

    def run(self, work: Callable[[], Made]) -> Made:
        """Run it on the recording stream, so that autograd and the libraries are set up for that one."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            made = work()
        current.wait_stream(self._stream)
        return made

    def record(self, work: Callable[[list[Tensor]], Made], inputs: Sequence[Blank]) -> Recording[Made]:
        """A CUDA graph of the work. Other threads may go on using the device, as data loaders do.

        The inputs lie in the graph's memory; where the work drops them, what it makes later may lie there.

        Work that breaks the recording raises what it raised, or what torch said of it, and leaves torch as it was.
        """
        if not self._graphs:  # torch gives a pool up with its last graph, and refuses it while any of it is in use
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
            try:
                with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                    given = [each.made() for each in inputs]
                    places = [Place.of(each) for each in given]
                    made = work(given)
            except BaseException:
                abandon(graph, self._pool, self._stream)
                raise
        self._graphs.add(graph)

        def replay() -> Made:
            graph.replay()
            return made

        return Recording([place.tensor() for place in places], replay)


@functools.cache
def _stream(device: torch.device, thread: int) -> torch.cuda.Stream:
    """A thread's own: what one thread launches on a stream would get into what another one records there."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


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
