"""Paired timing of models: interleaved runs on the same inputs, with the spread, the error and the memory of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ampgraph.errors import OptionError
from ampgraph.onnx_model.blank import instead
from ampgraph.onnx_model.bound import Bound
from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.feeds import at_batch, inputs_for, shapes_of
from ampgraph.onnx_model.given import name_of_data
from ampgraph.onnx_model.io import load
from ampgraph.onnx_model.memory import with_peak
from ampgraph.onnx_model.run import CPU, Array, Feed
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.setup import chosen_provider
from ampgraph.settings import Choice

ROUNDS = 15
_SAMPLE = 0.03  # seconds that a sample should take: the clock and the scheduler are far finer
_MOST_RUNS = 200  # in one sample
_WARM_UP = 3

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with the quartiles beside it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Error:
    """How far the outputs are from the first model's: of the worst output.

    `mismatch`: how they differ otherwise, in words, or ""; `blank`: what the first model answers instead of anything to
    compare with, or "".
    """

    relative: float
    largest: float
    mismatch: str = ""
    blank: str = ""


@dataclass(frozen=True)
class Row:
    """One model at one batch. `gain`: the first model's time over this one's, round by round; 1 for the first."""

    model: str
    batch: int  # 0: as the inputs are
    shapes: Shapes
    ms: Spread
    gain: Spread
    error: Error
    memory: int | None  # bytes, None where it is not known
    cuda_graph: bool
    nhwc: bool
    notes: tuple[str, ...] = ()
    on_cpu: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bench:
    """Rows of all models at all batches. `inputs`: "generated", or the file they come from."""

    provider: str
    inputs: str
    rounds: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Way:
    """How the models are opened and what they are run on. `fastest`: each in the setting that runs fastest."""

    provider: str = "best"
    cuda_graph: Choice = "auto"
    nhwc: Choice = "auto"
    tf32: Choice = "auto"
    shapes: Shapes = field(default_factory=dict)
    data: Path | None = None
    fastest: bool = False


@dataclass(frozen=True)
class _Entry:
    name: str
    session: Session
    bound: Bound
    memory: int | None


def bench(models: Sequence[Path], batches: Sequence[int] = (), rounds: int = ROUNDS, way: Way | None = None) -> Bench:
    """Time models against the first of them. `batches`: none means the inputs as they are."""
    way = way or Way()
    if rounds < 1:
        raise OptionError(f"--rounds {rounds}", "is no number of rounds", "give 1 or more")
    if any(batch < 1 for batch in batches):
        raise OptionError("--batch", "holds a size below 1", "write it as 1,16")
    loaded = [load(model) for model in models]
    given = inputs_for(loaded, way.data, way.shapes, way.provider)
    names, rows, provider = distinct_names(models), list[Row](), ""
    for batch in batches or (0,):
        feeds = at_batch(loaded[0].model, given, batch)
        entries = _opened(models, names, feeds, way)
        provider = entries[0].session.provider
        rows += _measured(entries, feeds, batch, rounds)
    return Bench(provider, name_of_data(way.data), rounds, tuple(rows))


def distinct_names(models: Sequence[Path]) -> tuple[str, ...]:
    """File names without `.onnx`, with their folders where they would be the same."""
    short = [path.name.removesuffix(".onnx") for path in models]
    return tuple(
        name if short.count(name) == 1 else str(path).removesuffix(".onnx")
        for name, path in zip(short, models, strict=True)
    )


def interleaved(steps: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Samples of every step, one a round, so that drift hits all alike; each round begins with another."""
    samples: list[list[float]] = [[] for _ in steps]
    for turn in range(rounds):
        for position in range(len(steps)):
            index = (turn + position) % len(steps)
            samples[index].append(steps[index]())
    return samples


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles."""
    low, middle, high = np.quantile(np.asarray(samples), (0.25, 0.5, 0.75)).tolist()
    return Spread(middle, low, high)


def gains(reference: Sequence[float], samples: Sequence[float]) -> Spread:
    """The reference's time over the sample's, paired by round."""
    return spread([before / after for before, after in zip(reference, samples, strict=True)])


def worst_error(reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> Error:
    """The error of the worst output; elements that only one of them has finite are a mismatch."""
    errors = output_errors(reference, candidate)
    said = [f"{error.name}: {error.mismatch}" for error in errors if error.mismatch]
    said += [f"{error.name}: {error.nonfinite} elements finite in one only" for error in errors if error.nonfinite]
    relative = max((error.relative for error in errors), default=0.0)
    largest = max((error.largest for error in errors), default=0.0)
    return Error(relative, largest, "; ".join(said), instead(reference))


def _opened(models: Sequence[Path], names: Sequence[str], feeds: Mapping[str, Feed], way: Way) -> list[_Entry]:
    shapes = shapes_of(feeds)

    def prepare(model: Path) -> tuple[Session, Bound]:
        if way.fastest:
            session = Session.fastest(model, feeds, provider=way.provider, cuda_graph=way.cuda_graph, shapes=shapes)
        else:
            session = Session(
                model, provider=way.provider, cuda_graph=way.cuda_graph, nhwc=way.nhwc, tf32=way.tf32, shapes=shapes
            )
        return session, session.bind(feeds)

    on_device = chosen_provider(way.provider) != CPU
    if on_device:
        prepare(models[0])  # what the GPU's libraries themselves take is no model's
    entries = []
    for name, model in zip(names, models, strict=True):
        (session, bound), memory = with_peak(lambda model=model: prepare(model), on_device)  # type: ignore[misc]
        entries.append(_Entry(name, session, bound, memory))
    return entries


def _measured(entries: Sequence[_Entry], feeds: Mapping[str, Feed], batch: int, rounds: int) -> list[Row]:
    steps = [sampler(entry.bound) for entry in entries]
    times = interleaved(steps, rounds)
    answers = [entry.bound.outputs() for entry in entries]
    shapes = shapes_of(feeds)
    return [
        Row(
            entry.name,
            batch,
            shapes,
            spread(samples),
            gains(times[0], samples),
            worst_error(answers[0], found),
            entry.memory,
            entry.bound.cuda_graph,
            entry.session.nhwc,
            entry.session.notes,
            tuple(f"{node.op_type} {node.name}".strip() for node in entry.session.on_cpu),
        )
        for entry, samples, found in zip(entries, times, answers, strict=True)
    ]


def sampler(bound: Bound) -> Callable[[], float]:
    """A sample: milliseconds a run over so many runs that the clock does not matter."""
    _timed(bound, _WARM_UP)
    runs = max(1, min(_MOST_RUNS, int(_SAMPLE * 1e3 / _timed(bound, 1))))
    return lambda: _timed(bound, runs)


def _timed(bound: Bound, runs: int) -> float:
    start = time.perf_counter()
    for _ in range(runs):
        bound.run()
    bound.wait()
    return (time.perf_counter() - start) / runs * 1e3


def milliseconds(bound: Bound, repeat: int) -> Spread:
    """Milliseconds of single runs, after a warm-up."""
    _timed(bound, _WARM_UP)
    return spread([_timed(bound, 1) for _ in range(repeat)])


def describe(array: Array) -> tuple[str, ...]:
    """Least, greatest and mean of an output's elements in words; "-" for what has none."""
    if array.dtype.kind not in "biufV" or not array.size:
        return ("-", "-", "-")
    values = array.astype(np.float64)
    return tuple(f"{figure:.6g}" for figure in (values.min(), values.max(), values.mean()))
