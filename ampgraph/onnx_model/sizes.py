"""Sizes of free dimensions that a model runs at: the modelled ones, else usual ones, tried until a session answers.

What a graph demands of its free dimensions stands nowhere in it: a text line is 48 high since a later Concat fits only
then, a window of sound has 512 samples since a convolution takes no fewer.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto
from onnxruntime import InferenceSession

from ampgraph.onnx_model.dimensions import formulas_of, symbol_sizes
from ampgraph.onnx_model.run import Feed, fitted, random_inputs, run
from ampgraph.onnx_model.types import fixed_size, following, modelled_inputs

Shapes = Mapping[str, tuple[int, ...]]
USUAL = (512, 256, 64, 48, 32, 16, 1)  # of images, text and sound
MOST_CHANGED, MOST_TRIED = 2, 120
MOST_SMALL = 24  # where finding none costs a fusion, not a refusal
SMALL = (64, 96, 80)  # of images that stand for any: unequal, so that height and width are not one
_SMALLER = tuple(size for size in reversed(USUAL) if size <= SMALL[0])


def fitting_inputs(
    model: ModelProto, session: InferenceSession, shapes: Shapes
) -> tuple[dict[str, Feed], dict[str, Any]]:
    """Generated inputs and what the model answers; raises what the session says of the modelled sizes if none fit."""
    return first_that_runs(model, session, candidates(model, shapes))


def first_that_runs(
    model: ModelProto, session: InferenceSession, tried: Iterable[Shapes]
) -> tuple[dict[str, Feed], dict[str, Any]]:
    """Generated inputs of the first sizes that fit and what the model answers; raises what was said of the first."""
    first: Exception | None = None
    for sizes in itertools.islice(tried, MOST_TRIED):
        feeds = random_inputs(model, shapes=sizes)
        try:
            return feeds, run(session, fitted(session, feeds))
        except Exception as error:  # onnxruntime's exceptions share no base class
            first = first or error
    assert first is not None  # some sizes are always tried
    raise first


def small_first(model: ModelProto, shapes: Shapes, assumed: Collection[str]) -> Iterator[Shapes]:
    """Shapes by input, MOST_SMALL at most: images small, then with one size smaller, as modelled, as `candidates`.

    `shapes`: as modelled, of which those of inputs in `assumed` may change.
    """
    seen: list[Shapes] = []
    for sizes in _small_first(model, shapes, assumed):
        if len(seen) == MOST_SMALL:
            return
        if sizes not in seen:
            seen.append(sizes)
            yield sizes


def _small_first(model: ModelProto, shapes: Shapes, assumed: Collection[str]) -> Iterator[Shapes]:
    settled = {name: shape for name, shape in shapes.items() if name not in assumed}
    start = {**modelled_inputs(model, shapes), **shapes}
    places = _free_places(model, settled)
    of_images = {key: found for key, found in places.items() if all(_is_large(start, *place) for place in found)}
    change = _Change(model, of_images, settled)
    small = change.made(start, dict(zip(of_images, itertools.cycle(SMALL), strict=False)))
    yield small
    for key, size in itertools.product(of_images, _SMALLER):
        yield change.made(small, {key: size})
    yield start
    yield from candidates(model, settled)


def _is_large(shapes: Shapes, name: str, axis: int) -> bool:
    return shapes[name][axis] > max(SMALL) and axis >= len(shapes[name]) - 2 and len(shapes[name]) > 3


@dataclass(frozen=True)
class _Change:
    """How sizes change in the places of their symbols. `settled`: inputs whose shapes stay."""

    model: ModelProto
    places: Mapping[str, list[tuple[str, int]]]
    settled: Collection[str]

    def made(self, shapes: Shapes, sizes: Mapping[str, int]) -> Shapes:
        """The shapes with these sizes, by symbol, and with those that follow from them."""
        taken = {place: size for key, size in sizes.items() for place in self.places[key]}
        changed = {
            name: tuple(taken.get((name, axis), size) for axis, size in enumerate(shape))
            for name, shape in shapes.items()
        }
        return following(self.model, changed, symbol_sizes(self.model, changed), self.settled)


def candidates(model: ModelProto, shapes: Shapes) -> Iterator[Shapes]:
    """Shapes by input: as modelled, then with one free size changed, then with two; `shapes` and batches stay."""
    start = modelled_inputs(model, shapes)
    places = _free_places(model, shapes)
    change = _Change(model, places, shapes)
    yield start
    for count in range(1, MOST_CHANGED + 1):
        for changed in itertools.combinations(places, count):
            for sizes in itertools.product(USUAL, repeat=count):
                yield change.made(start, dict(zip(changed, sizes, strict=True)))


def _free_places(model: ModelProto, shapes: Shapes) -> dict[str, list[tuple[str, int]]]:
    """(input, axis) by symbol of every free dimension; a symbol of a first dimension, or of `shapes`, is settled.

    And one that follows from others.
    """
    initialized = {tensor.name for tensor in model.graph.initializer}
    places: dict[str, list[tuple[str, int]]] = {}
    settled = set(formulas_of(model))
    for value in model.graph.input:
        if value.name in initialized:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            key = dim.dim_param or f"{value.name}[{axis}]"
            if axis == 0 or value.name in shapes:
                settled.add(key)
            elif fixed_size(dim) is None:
                places.setdefault(key, []).append((value.name, axis))
    return {key: found for key, found in places.items() if key not in settled}
