"""What a broken CUDA capture leaves behind in torch, and how it is put right.

torch's `capture_end` raises where the capture was broken, by a read of the device for one, and leaves out the rest of
what it does (`CUDAGraph::capture_end`, aten/src/ATen/cuda/CUDAGraph.cpp):

- the default random generator (up to torch 2.12) goes on as if a capture ran, and refuses to draw a number outside of
  one: "Offset increment outside graph capture encountered unexpectedly";
- the allocator goes on as if one ran: it refuses the pool to the next capture, and neither gives cached memory back
  when it runs out nor looks at the events of blocks that other streams used;
- `torch.cuda.graph` does not restore the stream that was current, which is the caller's to do.
"""

from __future__ import annotations

from contextlib import suppress

import torch

Pool = tuple[int, int]  # torch's handle of a pool of memory

# The allocators may still ask these whether an allocation is theirs, through a plain pointer: they are never freed.
_ABANDONED: list[torch.cuda.CUDAGraph] = []


def abandon(graph: torch.cuda.CUDAGraph, pool: Pool, stream: torch.cuda.Stream) -> None:
    """Put right what a capture of `graph` on `stream`, out of `pool`, left behind when it raised.

    Raises nothing: what broke the capture is what is to be told, and where the device itself is lost nothing helps.
    """
    with suppress(RuntimeError), torch.cuda.stream(stream):
        if torch.cuda.is_current_stream_capturing():  # work that raised with another stream current
            graph.capture_end()
    if _end_allocation(pool, stream.device.index):
        _ABANDONED.append(graph)
    _free_generator(stream.device.index)


def _end_allocation(pool: Pool, device: int) -> bool:
    """Whether the allocator was still waiting for the end of a capture."""
    try:
        torch._C._cuda_endAllocateToPool(device, pool)
    except RuntimeError:  # "not currently recording": the capture ended as it should
        return False
    with suppress(RuntimeError):
        torch._C._cuda_releasePool(device, pool)
    return True


def _free_generator(device: int) -> None:
    """The end of any capture tells the generator that none runs, and changes neither seed nor offset."""
    graph = torch.cuda.CUDAGraph()
    try:
        stream, something = torch.cuda.Stream(device), torch.zeros((), device=f"cuda:{device}")  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            graph.capture_begin(capture_error_mode="thread_local")
            something.zero_()  # torch warns of empty graphs
            graph.capture_end()
        torch.cuda.current_stream(device).wait_stream(stream)
    except RuntimeError:
        _ABANDONED.append(graph)
        _exchange_state(torch.cuda.default_generators[device])


def _exchange_state(generator: torch.Generator) -> None:
    """The same seed and offset in a new state. Graphs that were recorded before keep the old one."""
    with suppress(RuntimeError):
        generator.graphsafe_set_state(generator.clone_state())
