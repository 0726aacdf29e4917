"""Recipes: new constants made of the model's own, which keep their data out of the way until everything is found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Recipe(Protocol):
    """How a new constant is made of others."""

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of, "" for none."""

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data, of theirs."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Constants side by side along an axis, zeros of that width for ""."""

    names: tuple[str, ...]
    width: int
    axis: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        shape = next((list(known[name].shape) for name in self.names if name), [self.width])
        shape[self.axis] = self.width
        return np.concatenate([known[name] if name else np.zeros(shape, np.float32) for name in self.names], self.axis)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A constant with every place along its last axis multiplied by that of another one."""

    name: str
    scale: str

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.name, self.scale)

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        found: Array = known[self.name] * known[self.scale].reshape(-1)
        return found


@dataclass(frozen=True, slots=True)
class _OfOne:
    """What is made of one constant alone."""

    name: str

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Turned(_OfOne):
    """A constant with its axes in another order, then in two: the first so many as rows, the others as columns."""

    order: tuple[int, ...]
    rows: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        turned = known[self.name].transpose(self.order)
        return np.ascontiguousarray(turned).reshape(math.prod(turned.shape[: self.rows]), -1)


@dataclass(frozen=True, slots=True)
class Paired(_OfOne):
    """A constant with the halves of every head, along an axis, place by place side by side."""

    heads: int
    axis: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        values = known[self.name]
        places = np.arange(values.shape[self.axis]).reshape(self.heads, 2, -1).swapaxes(1, 2)
        return values.take(places.reshape(-1), self.axis)


@dataclass(frozen=True, slots=True)
class Sorted(_OfOne):
    """A constant with the parts of heads, along the last axis, sorted: the first ones of all heads, then the second."""

    heads: int
    parts: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        values = known[self.name]
        apart = values.reshape(*values.shape[:-1], self.heads, self.parts, -1)
        return np.ascontiguousarray(apart.swapaxes(-3, -2)).reshape(values.shape)


@dataclass(frozen=True, slots=True)
class Channels(_OfOne):
    """A vector with so many axes of 1 behind it, which is one number per channel."""

    axes: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        return known[self.name].reshape(-1, *[1] * self.axes)


@dataclass(frozen=True, slots=True)
class Columns(_OfOne):
    """A part of a constant along its last axis."""

    start: int
    size: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        return np.ascontiguousarray(known[self.name][..., self.start : self.start + self.size])


@dataclass(frozen=True, slots=True)
class Row(_OfOne):
    """One row of a table."""

    place: int

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        return np.ascontiguousarray(known[self.name][self.place])


@dataclass(frozen=True, slots=True)
class Carried:
    """A bias with another one on top that was added before the product with a weight."""

    before: str
    weight: str
    bias: str

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.before, self.weight, self.bias)

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        before, weight = known[self.before].reshape(-1), known[self.weight]
        total: Array = known[self.bias] + before.astype(np.float64) @ weight.astype(np.float64)
        return total.astype(known[self.bias].dtype)
