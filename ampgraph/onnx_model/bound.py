"""Bound: a model on inputs that are where it reads them, which is what can be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bound:
    """A model on one set of inputs that lie where it reads them: a run copies nothing, so it can be timed.

    `run` runs once, `wait` returns when the device has finished, `outputs` copies what the last run computed.
    `cuda_graph`: a run replays a captured CUDA graph.
    """

    run: Callable[[], None]
    wait: Callable[[], None]
    outputs: Callable[[], dict[str, Any]]
    cuda_graph: bool = False


def unbound(compute: Callable[[], dict[str, Any]]) -> Bound:
    """For inputs and outputs that onnxruntime cannot bind: sequences, text."""
    found: dict[str, Any] = {}

    def step() -> None:
        found.update(compute())

    step()
    return Bound(step, lambda: None, lambda: dict(found))
