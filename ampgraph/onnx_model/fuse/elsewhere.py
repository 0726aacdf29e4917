"""Elsewhere: other sizes of a model's free dimensions, at which what holds at the modelled ones is looked at again.

Sizes of one symbol move together. Those of different symbols move apart where the model allows it: two lengths that are
modelled alike are then not taken for one. They are multiplied rather than stepped: half of 224 and half of 225 are one
number, and windows want whole multiples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from typing import TypeVar

from onnx import ModelProto

from ampgraph.onnx_model.dimensions import formulas_of
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.types import fixed_size, following

Found = TypeVar("Found")

_WHOLE_STEP = 32  # sizes that are halved, and doubled and added again later, want whole halves
_FAR = 64  # times a size


def varied_sizes(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes with 2 in every free dimension of 1: what a 1 hides is found then, what holds for a 1 alone is not."""
    return _changed(model, shapes, lambda size, _: 2 if size == 1 else size)


def apart_sizes(model: ModelProto, shapes: Mapping[str, Shape], sign: int = 1) -> dict[str, Shape]:
    """The shapes with a step for the first symbol, two for the next: equal then are only sizes that always are."""
    return _changed(model, shapes, lambda size, nth: _moved(size, sign * nth))


def stepped_sizes(model: ModelProto, shapes: Mapping[str, Shape], step: int = 1) -> dict[str, Shape]:
    """The shapes with one step in every free dimension."""
    return _changed(model, shapes, lambda size, _: _moved(size, step))


def elsewhere(
    model: ModelProto,
    shapes: Mapping[str, Shape],
    infer: Callable[[Mapping[str, Shape]], Found],
    known: Callable[[Found], int],
    least: int,
    sign: int = 1,
) -> Found:
    """What is inferred at other sizes, larger ones or (`sign` -1) smaller: the first that tell as much as `least`.

    `known`: how much an inference tells. Where none tells enough, the one that tells most.
    """
    best: Found | None = None
    for sizes in _others(model, shapes, sign):
        found = infer(sizes)
        if known(found) >= least:
            return found
        if best is None or known(found) > known(best):
            best = found
    assert best is not None  # there always are others, if only the same
    return best


def fits(model: ModelProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether every reshape has as many elements as it is given, which inference does not ask. `shapes`: of values."""
    reshapes = (each for each in model.graph.node if each.op_type == "Reshape" and each.domain in ("", "ai.onnx"))
    pairs = ((shapes.get(each.input[0]), shapes.get(each.output[0])) for each in reshapes)
    return all(given is None or made is None or prod(given) == prod(made) for given, made in pairs)


def probes(model: ModelProto, shapes: Mapping[str, Shape]) -> tuple[dict[str, Shape], ...]:
    """Shapes far from the modelled ones, both ways, where a bound that lies beyond those shows; and those of ones."""
    far = _changed(model, shapes, lambda size, nth: size * (_FAR + nth))
    near = _changed(model, shapes, lambda _, nth: nth + 1)
    return tuple(sizes for sizes in (far, near, *_ones(model, shapes)) if sizes != dict(shapes))


def _ones(model: ModelProto, shapes: Mapping[str, Shape]) -> Iterator[dict[str, Shape]]:
    """Shapes with 1 for half of the symbols, those with a digit of 0: any two differ in one, and where kernels want
    alike what a model broadcasts, it is seen."""
    for digit in range((len(_symbols(model, shapes)) - 1).bit_length()):
        yield _changed(model, shapes, partial(_one_without, digit))


def _one_without(digit: int, size: int, nth: int) -> int:
    return size if (nth - 1) >> digit & 1 else 1


def tried_sizes(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Other sizes to run at, no symbol like another: about half of large ones, in steps that windows fit."""

    def change(size: int, nth: int) -> int:
        if size < 2 * _WHOLE_STEP:
            return size + nth
        found = _WHOLE_STEP * (size // (2 * _WHOLE_STEP) + nth)
        return found if found != size else found + _WHOLE_STEP

    return _changed(model, shapes, change)


def _others(model: ModelProto, shapes: Mapping[str, Shape], sign: int) -> Iterator[dict[str, Shape]]:
    """Other sizes, those that tell most apart first."""
    yield _changed(model, shapes, lambda size, nth: _times(size, nth, sign))
    yield _changed(model, shapes, lambda size, _: _times(size, 1, sign))
    yield stepped_sizes(model, shapes, sign)
    yield stepped_sizes(model, shapes, sign * _WHOLE_STEP)


def _times(size: int, nth: int, sign: int) -> int:
    """A size two times for the first symbol, three for the next; or parts of it, and never less than 2, 3 and so on."""
    if sign > 0:
        return size * (nth + 1)
    smaller = max(size // (nth + 1), nth + 1)
    return smaller if smaller < size else size + nth


def _moved(size: int, step: int) -> int:
    """A size with a step down only where enough is left: a 1 hides what holds for others."""
    return size + step if size + step > 1 else size + abs(step)


def _changed(model: ModelProto, shapes: Mapping[str, Shape], change: Callable[[int, int], int]) -> dict[str, Shape]:
    """The shapes with every free dimension changed. `change`: of a size, and which symbol it is of, from 1 on."""
    found, order, changed = dict(shapes), _symbols(model, shapes), dict[str, int]()
    for name, symbols in _free(model, shapes):
        sizes = [
            change(size, order[symbol]) if symbol in order else size
            for size, symbol in zip(shapes[name], symbols, strict=True)
        ]
        found[name] = tuple(sizes)
        changed.update(zip(symbols, sizes, strict=True))
    return dict(following(model, found, changed))


def _symbols(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The symbols of free dimensions in order, from 1 on, but formulas of others; one without a name is its own."""
    formulas = formulas_of(model)
    names = [symbol for _, symbols in _free(model, shapes) for symbol in symbols if symbol and symbol not in formulas]
    return {symbol: nth for nth, symbol in enumerate(dict.fromkeys(names), 1)}


def _free(model: ModelProto, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, list[str]]]:
    """Inputs of a known shape, and the symbol of every dimension of them, "" where it is fixed."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in shapes and len(dims) == len(shapes[value.name]):
            named = [dim.dim_param or f"{value.name} {axis}" for axis, dim in enumerate(dims)]
            yield (
                value.name,
                [symbol if fixed_size(dim) is None else "" for symbol, dim in zip(named, dims, strict=True)],
            )
