"""Tune: models of one network timed side by side, and the one that is safely the fastest.

Candidates are judged where the source itself runs fastest, plain or as a CUDA graph: what cannot run that way cannot
win. A winner's quartiles lie below the source's, so the choice is never slower than the source beyond the noise.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.bench import ROUNDS, Spread, interleaved, sampler, spread
from ampgraph.onnx_model.compare import OutputError, output_errors
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.run import CUDA, Feed, fitted, open_session, run
from ampgraph.onnx_model.session import Bound, Choice, Session, chosen_provider
from ampgraph.onnx_model.sizes import fitting_inputs
from ampgraph.onnx_model.timing import device_name

SECONDS = 75.0
GRAPH, PLAIN = "as CUDA graph", "plain"


@dataclass(frozen=True)
class Candidate:
    """A model to try. `same_as`: an earlier candidate with the same plan, measured in its place; `flaw`: why not."""

    name: str
    model: Path | None
    low: int
    casts: int
    same_as: str = ""
    flaw: str = ""


@dataclass(frozen=True)
class Trial:
    """What was measured of a candidate. `out`: why it cannot be chosen; `verdict`: chosen, or why not, in words.

    `plain` and `graph`: milliseconds of a run, None where there is none. `error`: relative L2 of the worst output
    against the source in float32, None where it is not a number.
    """

    name: str
    low: int
    casts: int
    plain: Spread | None = None
    graph: Spread | None = None
    error: float | None = None
    out: str = ""
    chosen: bool = False
    verdict: str = ""

    def time(self, setting: str) -> Spread | None:
        """Milliseconds in a setting."""
        return self.graph if setting == GRAPH else self.plain


@dataclass(frozen=True)
class Tuned:
    """The table of a tuning; the source is its first row. `setting`: in which the choice was made."""

    device: str
    provider: str
    inputs: str
    rounds: int
    setting: str
    rows: tuple[Trial, ...]
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> Trial:
        """The row that was chosen."""
        return next(row for row in self.rows if row.chosen)


@dataclass(frozen=True)
class Way:
    """Where and how long to measure. `seconds`: no further candidate is opened after them."""

    provider: str = "best"
    rounds: int = ROUNDS
    seconds: float = SECONDS


@dataclass(frozen=True)
class Reference:
    """Inputs, and what the source answers in float32, TF32 off. `inputs`: "generated", or the file they come from."""

    feeds: Mapping[str, Feed]
    answers: Mapping[str, Any]
    inputs: str
    bar: float  # relative L2 error that an output may have


@dataclass(frozen=True)
class _Opened:
    plain: Bound
    graph: Bound | None


# the choice


def setting_of(source: Trial) -> str:
    """How the source runs fastest."""
    assert source.plain is not None  # the source was timed
    return GRAPH if source.graph is not None and source.graph.median < source.plain.median else PLAIN


def decided(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The rows, the source first, with exactly one chosen and words about each.

    A candidate must beat the source by more than the noise: its upper quartile lies below the source's lower one. Of
    those that the noise does not tell from the fastest, the one with the fewest low decisions is taken.
    """
    setting = setting_of(trials[0])
    source = trials[0].time(setting)
    assert source is not None
    faster = {index: at for index, trial in enumerate(trials) if (at := _beats(trial, source, setting))}
    chosen = 0
    if faster:
        best = min(faster.values(), key=lambda at: at.median)
        tied = [index for index, at in faster.items() if at.low <= best.high]
        chosen = min(tied, key=lambda i: (trials[i].low, trials[i].casts, faster[i].median, i))
    words = [_verdict(trial, index, chosen, faster, setting) for index, trial in enumerate(trials)]
    return tuple(
        replace(trial, chosen=index == chosen, verdict=word)
        for index, (trial, word) in enumerate(zip(trials, words, strict=True))
    )


def _beats(trial: Trial, source: Spread, setting: str) -> Spread | None:
    """A candidate's time where it may be chosen."""
    at = trial.time(setting)
    return at if not trial.out and at is not None and at.high < source.low else None


def _verdict(trial: Trial, index: int, chosen: int, faster: Mapping[int, Spread], setting: str) -> str:
    if index == chosen:
        return "chosen" if index else "chosen: nothing is faster by more than the noise"
    if index == 0:
        return "slower than what is chosen"
    if trial.out:
        return f"out: {trial.out}"
    if trial.time(setting) is None:
        return f"out: does not run {setting}, where the source is fastest"
    if index not in faster:
        return "not faster than the source by more than the noise"
    at, taken = faster[index], faster[chosen]
    if at.low <= taken.high and taken.low <= at.high:
        return "as fast as what is chosen, which has no more low decisions"
    return "slower than what is chosen" if at.median > taken.median else "faster, but not beyond the noise of all"


# the measurement


def reference(
    model: ModelProto,
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    data: Mapping[str, Feed] | None,
    said: str,
    bar: float,
    provider: str = "best",
) -> Reference:
    """Run the source at `path`, on given inputs or on generated ones of sizes that it runs at."""
    try:
        session = open_session(path, provider=chosen_provider(provider))
        if data is not None:
            return Reference(data, run(session, fitted(session, data)), said, bar)
        feeds, answers = fitting_inputs(model, session, shapes)
    except Exception as error:  # onnxruntime's exceptions share no base class
        fact = f"does not run on {said} inputs ({first_line(error)[:300]})"
        raise ModelError("--tune: the source", fact, "give sizes with --shape, or real inputs with --data") from None
    return Reference(feeds, answers, said, bar)


def measure(
    candidates: Sequence[Candidate], known: Reference, way: Way | None = None, notes: Sequence[str] = ()
) -> Tuned:
    """Time all candidates, the source first, in interleaved rounds on the same inputs, and choose."""
    way = way or Way()
    provider, start = chosen_provider(way.provider), time.monotonic()
    opened: dict[int, _Opened] = {}
    trials = []
    for index, candidate in enumerate(candidates):
        trial = Trial(candidate.name, candidate.low, candidate.casts, out=_skipped(candidate))
        if not trial.out and index and time.monotonic() - start > way.seconds:
            trial = replace(trial, out="not tried: time was up")
        if not trial.out:
            trial, found = _tried(candidate, trial, known, provider, is_source=not index)
            opened |= {index: found} if found else {}
        trials.append(trial)
    rows = decided(_timed(trials, opened, way.rounds))
    setting = setting_of(rows[0])
    return Tuned(device_name(provider), provider, known.inputs, way.rounds, setting, rows, tuple(notes))


def _skipped(candidate: Candidate) -> str:
    return f"the same plan as {candidate.same_as}" if candidate.same_as else candidate.flaw


def _tried(
    candidate: Candidate, trial: Trial, known: Reference, provider: str, *, is_source: bool
) -> tuple[Trial, _Opened | None]:
    """Open a candidate and hold its answers against the source's. The source is in, whatever TF32 makes of it."""
    try:
        found = _open(candidate, known.feeds, provider)
        errors = [error for bound in (found.plain, found.graph) if bound for error in _errors(known, bound)]
    except Exception as error:  # of no common class: memory, kernels, the model itself
        if is_source:
            raise
        return replace(trial, out=f"does not run here ({first_line(error)[:200]})"), None
    worst = max((error.relative for error in errors), default=0.0)
    flaw = next((_off(error, known.bar) for error in errors if not error.within(known.bar)), "")
    out = "" if is_source else flaw
    return replace(trial, error=worst if np.isfinite(worst) else None, out=out), found


def _open(candidate: Candidate, feeds: Mapping[str, Feed], provider: str) -> _Opened:
    shapes = {name: feed.shape for name, feed in feeds.items() if isinstance(feed, np.ndarray)}

    def bound(cuda_graph: Choice) -> Bound:
        session = Session(candidate.model, provider=provider, cuda_graph=cuda_graph, shapes=shapes)
        return session.bind(feeds)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nodes on the CPU show in the times
        plain, graph = bound(False), bound("auto") if provider == CUDA else None
    return _Opened(plain, graph if graph is not None and graph.cuda_graph else None)


def _errors(known: Reference, bound: Bound) -> tuple[OutputError, ...]:
    return output_errors(known.answers, bound.outputs())


def _off(error: OutputError, bar: float) -> str:
    if error.mismatch or error.nonfinite:
        return f"output {error.name}: {error.mismatch or f'{error.nonfinite} elements are finite in one only'}"
    return f"output {error.name} is off by {error.relative:.2g} relative L2, more than {bar:.2g}"


def _timed(trials: Sequence[Trial], opened: Mapping[int, _Opened], rounds: int) -> list[Trial]:
    """The trials with their times: all settings of all candidates take turns."""
    places = [(index, name, bound) for index, each in opened.items() for name, bound in _bounds(each)]
    steps: list[Callable[[], float]] = [sampler(bound) for _, _, bound in places]
    found = list(trials)
    for (index, name, _), samples in zip(places, interleaved(steps, rounds), strict=True):
        at = spread(samples)
        found[index] = replace(found[index], graph=at) if name == GRAPH else replace(found[index], plain=at)
    return found


def _bounds(opened: _Opened) -> list[tuple[str, Bound]]:
    return [(PLAIN, opened.plain), *([(GRAPH, opened.graph)] if opened.graph is not None else [])]
