"""A trap: a float32 model that breaks converters, and what must be low in it for the trap to be sprung."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import ModelProto

from tests.models import W, parse, weight

Feeds = Mapping[str, Any]
X, Y = "float[N,4] x", "float[N,4] y"
IMAGE, KERNEL = "float[1,2,4,4] x", weight("k", 2, 2, 1, 1)


@dataclass(frozen=True)
class Trap:
    """A float32 model. `low`: ops that must have a low decision under `coverage` for target onnx."""

    name: str
    model: ModelProto
    low: frozenset[str]
    feeds: Feeds = field(default_factory=dict)
    runs: bool = True


def trap(
    name: str,
    signature: str,
    body: str,
    low: str = "MatMul",
    *,
    weights: str = W,
    feeds: Feeds | None = None,
    runs: bool = True,
    **header: Any,
) -> Trap:
    """`signature` is "inputs => outputs"; `weights` are initializers."""
    inputs, outputs = signature.split("=>")
    model = parse(f"g ({inputs}) => ({outputs}) <{weights}> {{ {body} }}", **header)
    return Trap(name, model, frozenset(low.split()), feeds or {}, runs)
