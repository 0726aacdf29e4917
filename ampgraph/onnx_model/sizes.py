"""Sizes of free dimensions that a model runs at: the modelled ones, else usual ones, tried until a session answers.

What a graph demands of its free dimensions stands nowhere in it: a text line is 48 high since a later Concat fits only
then, a window of sound has 512 samples since a convolution takes no fewer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from onnx import ModelProto
from onnxruntime import InferenceSession

from ampgraph.onnx_model.run import Feed, fitted, random_inputs, run
from ampgraph.onnx_model.types import fixed_size, modelled_inputs

Shapes = Mapping[str, tuple[int, ...]]
USUAL = (512, 256, 64, 48, 32, 16, 1)  # of images, text and sound
MOST_CHANGED, MOST_TRIED = 2, 120


def fitting_inputs(
    model: ModelProto, session: InferenceSession, shapes: Shapes
) -> tuple[dict[str, Feed], dict[str, Any]]:
    """Generated inputs and what the model answers; raises what the session says of the modelled sizes if none fit."""
    first: Exception | None = None
    for sizes in itertools.islice(candidates(model, shapes), MOST_TRIED):
        feeds = random_inputs(model, shapes=sizes)
        try:
            return feeds, run(session, fitted(session, feeds))
        except Exception as error:  # onnxruntime's exceptions share no base class
            first = first or error
    assert first is not None  # the modelled sizes are always tried
    raise first


def candidates(model: ModelProto, shapes: Shapes) -> Iterator[Shapes]:
    """Shapes by input: as modelled, then with one free size changed, then with two; `shapes` and batches stay."""
    start = modelled_inputs(model, shapes)
    places = _free_places(model, shapes)
    yield start
    for count in range(1, MOST_CHANGED + 1):
        for changed in itertools.combinations(places, count):
            for sizes in itertools.product(USUAL, repeat=count):
                taken = {place: size for key, size in zip(changed, sizes, strict=True) for place in places[key]}
                yield {
                    name: tuple(taken.get((name, axis), size) for axis, size in enumerate(shape))
                    for name, shape in start.items()
                }


def _free_places(model: ModelProto, shapes: Shapes) -> dict[str, list[tuple[str, int]]]:
    """(input, axis) by symbol of every free dimension; a symbol of a first dimension, or of `shapes`, is settled."""
    initialized = {tensor.name for tensor in model.graph.initializer}
    places: dict[str, list[tuple[str, int]]] = {}
    settled: set[str] = set()
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
