"""Step: an operator of ampgraph's own domain that stands for several of a model, before layouts are settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import Array

DOMAIN = "ampgraph"
LATE, LATE_ROW = 1, 2  # what is added after an activation: an image, or a number for each channel
HARD_SIGMOIDS: Mapping[str, float] = {
    "HardSigmoid": 1 / 6,
    "HardSigmoidFifth": 0.2,
}  # slopes; x * slope + 1 / 2, cut off


@dataclass(frozen=True)
class Slot:
    """An input: an image that is read with channels last, a value as it is, or a constant of `array`; "" for none."""

    name: str = ""
    image: bool = False
    array: Array | None = None


NOTHING = Slot()


@dataclass(frozen=True)
class Step:
    """One operator: `old` are the nodes it stands for, the last of which makes `output`.

    `last`: the output is an image with channels last, else it is the value itself. `further`: more outputs, new names.
    """

    op: str
    inputs: tuple[Slot, ...]
    output: str
    old: tuple[NodeProto, ...]
    last: bool = True
    domain: str = DOMAIN
    further: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def image(name: str) -> Slot:
    """An image that is read with channels last."""
    return Slot(name, image=True)


def constant(name: str, array: Array) -> Slot:
    """A new constant, named after the one it is made of."""
    return Slot(name, array=array)
