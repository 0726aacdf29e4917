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


@dataclass(frozen=True, slots=True)
class Step:
    """An operator that multiplies and adds by channel: Add, Mul or BatchNormalization, with the constants it reads."""

    kind: str
    names: tuple[str, ...]
    epsilon: float = 0.0

    def factor_and_share(self, known: Mapping[str, Array]) -> tuple[Array, Array]:
        """What it multiplies by and then adds, float64, a number or one for each channel."""
        given = [known[name].astype(np.float64).reshape(-1) for name in self.names]
        if self.kind == "BatchNormalization":
            scale, bias, mean, variance = given
            factor = scale / np.sqrt(variance + self.epsilon)
            return factor, bias - mean * factor
        return (given[0], np.zeros(1)) if self.kind == "Mul" else (np.ones(1), given[0])


def _of_all(steps: tuple[Step, ...], known: Mapping[str, Array]) -> tuple[Array, Array]:
    """The factor and the share of several steps, one after the other."""
    factor, share = np.ones(1), np.zeros(1)
    for step in steps:
        by, plus = step.factor_and_share(known)
        factor, share = factor * by, share * by + plus
    return factor, share


@dataclass(frozen=True, slots=True)
class AffineWeight:
    """A convolution's weights with the channels of an axis multiplied: 0 or 1 of those it makes, 1 of those it reads.

    With `groups`, those that it reads: the second axis of the weights counts them anew in every group.
    """

    weight: str
    axis: int
    steps: tuple[Step, ...]
    groups: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.weight, *(name for step in self.steps for name in step.names))

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        weight, (factor, _) = known[self.weight], _of_all(self.steps, known)
        if self.groups:
            by = _by_output(factor, weight, self.groups)
        else:
            by = factor.reshape([-1 if axis == self.axis else 1 for axis in range(weight.ndim)])
        return np.ascontiguousarray(weight * by, weight.dtype)


@dataclass(frozen=True, slots=True)
class AffineBias:
    """A convolution's bias after steps on what it makes; or with what steps on its input add, given the weight."""

    bias: str
    width: int
    steps: tuple[Step, ...]
    weight: str = ""
    groups: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.bias, self.weight, *(name for step in self.steps for name in step.names))

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        bias = known[self.bias].astype(np.float64) if self.bias else np.zeros(self.width)
        factor, share = _of_all(self.steps, known)
        if self.weight:
            weight = known[self.weight].astype(np.float64)
            through = weight * _by_output(share, weight, self.groups)
            return np.asarray(bias + through.reshape(self.width, -1).sum(axis=1), np.float32)
        return np.asarray(np.broadcast_to(bias * factor + share, self.width), np.float32)


def _by_output(channels: Array, weight: Array, groups: int) -> Array:
    """Numbers of the channels that a convolution reads, beside its weights: (made, read in a group, 1, ...)."""
    made, read = weight.shape[:2]
    whole = np.broadcast_to(channels, groups * read).reshape(groups, read)
    return np.repeat(whole, made // groups, axis=0).reshape(made, read, *[1] * (weight.ndim - 2))


@dataclass(frozen=True, slots=True)
class Divided:
    """A constant divided by another one."""

    name: str
    by: str

    @property
    def names(self) -> tuple[str, ...]:
        """The constants that it is made of."""
        return (self.name, self.by)

    def array(self, known: Mapping[str, Array]) -> Array:
        """Its data."""
        found: Array = (known[self.name].astype(np.float64) / known[self.by]).astype(np.float32)
        return found
