"""Two models side by side, value by value: sizes first, then the values themselves in batches of bounded bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto

from ampgraph.errors import ModelError
from ampgraph.inspection.comparison import Difference
from ampgraph.onnx_model.batches import MOST_BYTES, batches
from ampgraph.onnx_model.differences import measure
from ampgraph.onnx_model.dtypes import NAMES, precision_of
from ampgraph.onnx_model.inventory import Entry
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.matching_values import NUMBERS, Pair
from ampgraph.onnx_model.run import Array, Feed, run
from ampgraph.onnx_model.subjects import Subject, fed
from ampgraph.onnx_model.surfacing import Probe
from ampgraph.onnx_model.turns import Turn, Turns, elements, index_of, read_turns, unlike
from ampgraph.precision import LOW_PRECISIONS, Precision

Progress = Callable[[int, int], None]
_NUMBERS = {name: number for number, name in NAMES.items()}
_BITS = {"float64": 8, "int64": 8, "uint64": 8}


@dataclass(frozen=True)
class Side:
    """One of the two models: how it runs, and on what."""

    subject: Subject
    feeds: Mapping[str, Feed]
    place: str  # its name in errors

    def fetch(self, probes: Sequence[Probe]) -> list[Any]:
        """What the probes see, in order. Raises ModelError where the model does not run."""
        try:
            session, names = self.subject.opened(probes)
            found = run(session, fed(session, self.feeds))
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise does_not_run(self.place, error) from None
        return [found[name] for name in names]


def does_not_run(place: str, error: Exception) -> ModelError:
    """The error of a model that cannot be compared."""
    fact = f"does not run on these inputs ({first_line(error)[:300]})"
    return ModelError(place, fact, "give real ones with --data FILE.npz, or sizes with --shape")


def size_probe(entry: Entry, *, stack: bool) -> Probe:
    """Asks for the sizes of a tensor. `stack`: its rank is taken to be the same at every step of a loop."""
    stacked = stack and entry.in_loop
    return Probe(entry.path, entry.value.name, TensorProto.INT64, sizes=True, given=not entry.node, stacked=stacked)


def data_probe(entry: Entry, turns: Turns = ()) -> Probe:
    """Asks for a value; low precision comes out of bodies as float32, which holds it exactly."""
    stacked = entry.in_loop and len({turn.shape for turn in turns}) == 1
    low = entry.value.dtype in LOW_PRECISIONS
    kind = TensorProto.FLOAT if low else _NUMBERS[entry.value.dtype]
    return Probe(entry.path, entry.value.name, kind, given=not entry.node, stacked=stacked)


def turns_of(entry: Entry, sizes: Array) -> Turns:
    """What a size probe's answer says."""
    return read_turns(sizes) if entry.path else (Turn(tuple(sizes.tolist())),)


@dataclass(frozen=True, slots=True)
class Sized:
    """A pair with when it is computed in both models, and in which shapes."""

    pair: Pair
    reference: Turns
    candidate: Turns

    @property
    def bytes(self) -> int:
        """What fetching both takes."""
        return sum(
            _width(entry) * elements(turns)
            for entry, turns in ((self.pair.reference, self.reference), (self.pair.candidate, self.candidate))
        )


def aligned(each: Sized) -> Sized | None:
    """What of a pair can be compared; None for nothing, as in a branch that is not taken.

    A cast inside a body may read a value from outside, and repeats it every time: its first result stands for all.
    """
    inside = len(each.pair.candidate.path) > len(each.pair.reference.path)
    if not (each.pair.candidate.is_cast and inside):
        return each if each.reference or each.candidate else None
    shapes = {turn.shape for turn in each.candidate}
    if len(each.reference) != 1 or len(shapes) != 1:
        return None
    return Sized(each.pair, each.reference, (Turn(shapes.pop()),))


def _width(entry: Entry) -> int:
    return _BITS.get(entry.value.dtype, 4)


def differences(
    sides: tuple[Side, Side], pairs: Sequence[Sized], tolerance: float, progress: Progress, most: int = MOST_BYTES
) -> Iterator[Difference]:
    """The difference of every pair, in order; both models run once for every batch."""
    for batch in batches([pair.bytes if pair.reference == pair.candidate else 0 for pair in pairs], most):
        progress(batch.start, len(pairs))
        wanted = [pairs[index] for index in batch]
        alike = [each for each in wanted if each.reference == each.candidate]
        arrays = _fetched(sides, alike)
        for each in wanted:
            yield _difference(each, next(arrays), tolerance) if each.reference == each.candidate else _unlike(each)
    progress(len(pairs), len(pairs))


def _fetched(sides: tuple[Side, Side], pairs: Sequence[Sized]) -> Iterator[tuple[Array, Array]]:
    if not pairs:
        return
    first = sides[0].fetch([data_probe(each.pair.reference, each.reference) for each in pairs])
    second = sides[1].fetch([data_probe(each.pair.candidate, each.candidate) for each in pairs])
    for index in range(len(pairs)):
        count = elements(pairs[index].candidate)
        yield flat(first[index]), flat(second[index])[:count]
        first[index] = second[index] = None  # gone before the next is looked at


def flat(value: Any) -> Array:  # noqa: ANN401  (onnxruntime returns arrays and lists of them)
    """A tensor's elements, or those of a sequence one after the other."""
    if isinstance(value, list):
        return np.concatenate([np.asarray(item).reshape(-1) for item in value]) if value else np.empty(0)
    return np.asarray(value).reshape(-1)


def _difference(each: Sized, arrays: tuple[Array, Array], tolerance: float) -> Difference:
    entry = each.pair.candidate
    return compared(blank(entry), arrays, each.candidate, lows(each.pair), tolerance)


def lows(pair: Pair) -> tuple[Precision | None, Precision | None]:
    """The low precision of either side, None where it has another."""
    first, second = (precision_of(entry.value.dtype) for entry in (pair.reference, pair.candidate))
    return first if first in LOW_PRECISIONS else None, second if second in LOW_PRECISIONS else None


def compared(
    about: Difference,
    arrays: tuple[Array, Array],
    turns: Turns,
    low: tuple[Precision | None, Precision | None],
    tolerance: float,
) -> Difference:
    """The difference of two flat arrays, of these turns."""
    found = measure(*arrays, low[1] or low[0], low_found=low[1] is not None)
    only = f"{found.recovered} elements are infinite or NaN in the first model only" if found.recovered else ""
    return replace(
        about,
        elements=found.elements,
        relative=found.relative,
        largest=found.largest,
        at=index_of(found.at, turns) if found.elements else (),
        reference=found.reference,
        found=found.found,
        magnitude=found.magnitude,
        overflowed=found.overflowed,
        flushed=found.flushed,
        clamped=found.clamped,
        flushed_at=index_of(found.flushed_at, turns) if found.flushed else (),
        within=found.within(tolerance),
        mismatch=only,
    )


def blank(entry: Entry) -> Difference:
    """A difference that says no more than what it is of."""
    none = float("inf")
    return Difference(
        entry.value.id, entry.value.name, entry.node, entry.type, entry.order,
        0, none, none, (), none, none, none, 0, 0, within=False,
    )  # fmt: skip


def _unlike(each: Sized) -> Difference:
    return replace(blank(each.pair.candidate), mismatch=unlike(each.reference, each.candidate))


def comparable(pair: Pair) -> bool:
    """Whether both are tensors of numbers."""
    values = pair.reference.value, pair.candidate.value
    return all(value.kind == "tensor" and value.dtype in NUMBERS for value in values)
