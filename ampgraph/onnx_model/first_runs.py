"""The first run of two models that are compared: settles the inputs, gives the outputs and the sizes of all values."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from onnxruntime import InferenceSession

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model.batches import MOST_BYTES
from ampgraph.onnx_model.blank import refuse_blank
from ampgraph.onnx_model.compare_values import Progress, Side, Sized, does_not_run, size_probe, turns_of
from ampgraph.onnx_model.given import Data, name_of_data, read_inputs
from ampgraph.onnx_model.inventory import Entry, Inventory
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.matching_values import Pair
from ampgraph.onnx_model.run import CPU, Feed, Provider, run
from ampgraph.onnx_model.sizes import fitting_inputs
from ampgraph.onnx_model.subjects import fed, ready

Made = TypeVar("Made")
Sides = tuple[Side, Side]
Answers = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Means:
    """How two models are compared. `data`: inputs by name, or an .npz file; None generates them, of `shapes`."""

    data: Data | None
    tolerance: float
    provider: Provider = CPU
    shapes: Mapping[str, tuple[int, ...]] | None = None
    most_bytes: int = MOST_BYTES
    progress: Progress = lambda done, total: None


def name_of(loaded: Loaded) -> str:
    """What to call a model."""
    return loaded.path.name if loaded.path else loaded.model.graph.name or "model"


def refuse_other_inputs(first: Loaded, second: Loaded) -> None:
    """Raise ModelError where one model takes an input that the other does not."""
    names = _inputs(first), _inputs(second)
    for name in (*names[0], *names[1]):
        if name not in names[0] or name not in names[1]:
            holder = first if name in names[0] else second
            fact = f"the input {name!r} is of {name_of(holder)} alone"
            raise ModelError(name_of(second), fact, "compare models that take the same inputs")


def _inputs(loaded: Loaded) -> list[str]:
    initialized = {tensor.name for tensor in loaded.model.graph.initializer}
    return [value.name for value in loaded.model.graph.input if value.name not in initialized]


@contextmanager
def both_sides(
    loaded: tuple[Loaded, Loaded], inventories: tuple[Inventory, Inventory], provider: Provider
) -> Iterator[Sides]:
    """Both models ready to run, on no inputs yet; their weights lie in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ampgraph-") as scratch:
        sides = []
        for index, (each, inventory) in enumerate(zip(loaded, inventories, strict=True)):
            folder = Path(scratch, str(index))
            folder.mkdir()
            sides.append(Side(ready(each, inventory.model, provider, folder), {}, name_of(each)))
        yield sides[0], sides[1]


def first_runs(sides: Sides, pairs: Sequence[Pair], means: Means) -> tuple[Sides, list[Sized], Answers]:
    """Both models with their inputs, the pairs with their sizes, and the outputs. Raises ModelError, OptionError."""
    references, candidates = [pair.reference for pair in pairs], [pair.candidate for pair in pairs]
    (feeds, first), one = _asked(sides[0], references, lambda session: _inputs_and_answers(sides[0], session, means))
    second, other = _asked(sides[1], candidates, lambda session: run(session, fed(session, feeds)))
    sized = [
        Sized(pair, turns_of(pair.reference, first[a]), turns_of(pair.candidate, second[b]))
        for pair, a, b in zip(pairs, one, other, strict=True)
    ]
    answers = _own(sides[0], first), _own(sides[1], second)
    refuse_blank(answers[0], name_of_data(means.data))
    return (replace(sides[0], feeds=feeds), replace(sides[1], feeds=feeds)), sized, answers


def _own(side: Side, found: Mapping[str, Any]) -> dict[str, Any]:
    return {value.name: found[value.name] for value in side.subject.model.graph.output}


def _asked(side: Side, entries: Sequence[Entry], answer: Callable[[InferenceSession], Made]) -> tuple[Made, list[str]]:
    """What a model answers when it is asked for sizes too, and their names among its outputs.

    Where a rank changes from step to step of a loop, nothing can be stacked: tried again without.
    """
    for stack in (True, False):
        try:
            probes = [size_probe(entry, stack=stack) for entry in entries]
            session, names = side.subject.opened(probes, keep_outputs=True)
            return answer(session), names
        except (ModelError, OptionError):
            raise
        except Exception as error:  # onnxruntime's exceptions share no base class
            if not stack or not any(probe.stacked for probe in probes):
                raise does_not_run(side.place, error) from None
    raise AssertionError  # the second try returns or raises


def _inputs_and_answers(
    side: Side, session: InferenceSession, means: Means
) -> tuple[Mapping[str, Feed], dict[str, Any]]:
    model, shapes = side.subject.model, means.shapes or {}
    initialized = {tensor.name for tensor in model.graph.initializer}
    named = [value.name for value in model.graph.input if value.name not in initialized]
    for name in shapes:
        if name not in named:
            raise OptionError(f"--shape {name}", "is no input of the model", f"choose among {', '.join(sorted(named))}")
    if means.data is None:
        return fitting_inputs(model, session, shapes)
    feeds = read_inputs(means.data, model)
    return feeds, run(session, fed(session, feeds))
