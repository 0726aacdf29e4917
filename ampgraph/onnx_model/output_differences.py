"""Differences of what cannot be asked for its size first: outputs of any kind, and sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ampgraph.inspection.comparison import Difference
from ampgraph.onnx_model.compare import is_number, tensors_of
from ampgraph.onnx_model.compare_values import blank, compared, data_probe, flat, lows
from ampgraph.onnx_model.dtypes import precision_of
from ampgraph.onnx_model.first_runs import Answers, Sides
from ampgraph.onnx_model.inventory import Entry, Inventory
from ampgraph.onnx_model.matching_values import NUMBERS, Pair
from ampgraph.onnx_model.run import Array
from ampgraph.onnx_model.turns import Turn, Turns, unlike
from ampgraph.precision import LOW_PRECISIONS, Precision


def output_differences(answers: Answers, candidate: Inventory, tolerance: float) -> Iterator[Difference]:
    """Differences of outputs by name, of every tensor in them; what only one model has is a mismatch."""
    makers = {entry.value.name: entry for entry in candidate.made if not entry.path}
    expected, found = (dict(tensors_of(answer)) for answer in answers)
    for name in dict.fromkeys((*expected, *found)):
        about = _about(name, makers)
        if name not in expected or name not in found:
            yield replace(about, mismatch="missing" if name in expected else "not in the reference")
        else:
            yield _output(about, expected[name], found[name], tolerance)


def _about(name: str, makers: dict[str, Entry]) -> Difference:
    """The blank difference of an output; one that no node makes is an input or a constant."""
    entry = makers.get(name) or makers.get(name.rpartition("[")[0])
    none = float("inf")
    if entry is None:
        return Difference(name, name, "", "", -1, 0, none, none, (), none, none, none, 0, 0, within=False)
    return replace(blank(entry), name=name)


def _output(about: Difference, expected: Array, found: Array, tolerance: float) -> Difference:
    if expected.shape != found.shape:
        return replace(about, mismatch=unlike((Turn(expected.shape),), (Turn(found.shape),)))
    if not is_number(expected) or not is_number(found):
        if expected.dtype.kind == found.dtype.kind and np.array_equal(expected, found):
            return replace(
                about, elements=expected.size, relative=0.0, largest=0.0, reference=0.0, found=0.0, magnitude=0.0,
                within=True,
            )  # fmt: skip
        return replace(about, elements=expected.size, mismatch="another text or type")
    if (expected.dtype.kind in "iub") != (found.dtype.kind in "iub"):
        return replace(about, mismatch=f"{found.dtype} instead of {expected.dtype}")
    low = _low(expected), _low(found)
    return compared(about, (expected.reshape(-1), found.reshape(-1)), (Turn(expected.shape),), low, tolerance)


def _low(array: Array) -> Precision | None:
    precision = precision_of(str(array.dtype))
    return precision if precision in LOW_PRECISIONS else None


def sequence_differences(sides: Sides, pairs: Sequence[Pair], tolerance: float) -> Iterator[Difference]:
    """Differences of the main graph's sequences of numbers, fetched one at a time."""
    for pair in pairs:
        if is_sequence(pair):
            entries = zip(sides, (pair.reference, pair.candidate), strict=True)
            first, second = (side.fetch([data_probe(entry)])[0] for side, entry in entries)
            yield _sequence(pair, first, second, tolerance)


def is_sequence(pair: Pair) -> bool:
    """Whether both are sequences of numbers that can be handed out."""
    entries = (pair.reference, pair.candidate)
    return all(each.value.kind == "sequence" and not each.path and each.value.dtype in NUMBERS for each in entries)


def _sequence(pair: Pair, first: list[Any], second: list[Any], tolerance: float) -> Difference:
    expected, found = _positions(first), _positions(second)
    if expected != found:
        return replace(blank(pair.candidate), mismatch=unlike(expected, found))
    return compared(blank(pair.candidate), (flat(first), flat(second)), found, lows(pair), tolerance)


def _positions(items: list[Any]) -> Turns:
    return tuple(Turn(np.asarray(item).shape, (position,)) for position, item in enumerate(items))
