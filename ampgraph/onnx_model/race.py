"""Race: candidates in settings, each timed against the source as it opens, and the best of them together at the end.

Few sessions are open at a time: the source, the best so far, and the one that is tried. What is tried first is what
wins most often: every candidate in the session's own setting and with kernels of our own, those with most fused and
most low first; then the other settings of the source, and of the candidates that lead.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from ampgraph.errors import ModelError
from ampgraph.onnx_model.bench import Spread, gains, interleaved, sampler, spread
from ampgraph.onnx_model.bound import Bound
from ampgraph.onnx_model.compare import OutputError, output_errors
from ampgraph.onnx_model.fastest import settings_of
from ampgraph.onnx_model.feeds import shapes_of
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.run import CUDA, Provider
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.setup import chosen_provider
from ampgraph.onnx_model.timing import device_name
from ampgraph.onnx_model.tune import OWN, Candidate, Reference, Trial, Tuned, Way, decided
from ampgraph.settings import GRAPH, PLAIN, Choice, Setting

HEAT = 5  # rounds that what was just opened runs against the source
FINALISTS = 4  # that stay open beside the source in the session's own setting
LEADERS = 2  # candidates whose every setting is tried
REACH = 2.0  # times that another setting may gain, so that what is slower by more is not tried in others
FIRST_SHARE = 0.7  # of the time, for the session's own setting and kernels of our own
TIME_UP = "not tried: time was up"


def measure(
    candidates: Sequence[Candidate], known: Reference, way: Way | None = None, notes: Sequence[str] = ()
) -> Tuned:
    """Time all candidates, the source first, on the same inputs, and choose one in a setting."""
    way = way or Way()
    provider, start = chosen_provider(way.provider), time.monotonic()
    track, said = _opened_track(candidates[0], known, provider, way.cuda_graph)
    race = _Race(track, candidates)
    race.run(_first(race), start + FIRST_SHARE * way.seconds)
    race.run(_further(race), start + way.seconds)
    rows = decided(race.finished(way.rounds))
    told = (*notes, *said, *race.notes)
    return Tuned(
        device_name(provider), provider, known.inputs, shapes_of(known.feeds), way.rounds, track.way, rows, told
    )


Entry = tuple[int, Setting]  # a candidate, by its place, in a setting
SOURCE: Entry = (0, OWN)


@dataclass(frozen=True)
class _Track:
    """Where and how all run, and the source that they run against. `way`: GRAPH or PLAIN."""

    known: Reference
    provider: Provider
    way: str
    source: Bound

    def open(self, candidate: Candidate, setting: Setting) -> Bound:
        """A candidate in a setting. Raises ModelError where it cannot run this way, else what the runtime raises."""
        bound = _bound(candidate, self.known, self.provider, "auto" if self.way == GRAPH else False, setting)
        if self.way == GRAPH and not bound.cuda_graph:
            raise ModelError(candidate.name, f"does not run {GRAPH}, where the source is fastest", "leave it out")
        return bound

    def ratio(self, bound: Bound) -> tuple[float, Spread]:
        """The time of a run to the source's, and the time itself, of a few rounds in turn."""
        base, samples = interleaved([sampler(self.source), sampler(bound)], HEAT)
        return gains(samples, base).median, spread(samples)


@dataclass
class _Race:
    """What was tried and what is open. Grows with each that is tried, but for what is open."""

    track: _Track
    candidates: Sequence[Candidate]
    trials: dict[Entry, Trial] = field(default_factory=dict)
    open: dict[Entry, Bound] = field(default_factory=dict)
    ratios: dict[Entry, float] = field(default_factory=dict)  # of the time to the source's
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        errors = _errors(self.track.known, self.track.source)
        self.trials[SOURCE] = replace(_blank(self.candidates[0], OWN), error=_worst(errors))
        self.open[SOURCE], self.ratios[SOURCE] = self.track.source, 1.0

    def run(self, entries: Iterable[Entry], until: float) -> None:
        """Try one after the other until the time (of the monotonic clock) is up."""
        late = []
        for index, setting in entries:
            candidate, entry = self.candidates[index], (index, setting)
            if candidate.same_as or candidate.flaw:
                skipped = f"the same plan as {candidate.same_as}" if candidate.same_as else candidate.flaw
                self.trials[entry] = replace(_blank(candidate, setting), out=skipped)
            elif time.monotonic() <= until:
                self.trials[entry] = self._tried(index, setting)
            elif setting == OWN:
                self.trials[entry] = replace(_blank(candidate, setting), out="not tried: time was up")
            else:
                late.append(f"{candidate.name} with {setting.words}")
        self.notes += [f"time was up before {'; '.join(late)}"] if late else []

    def _tried(self, index: int, setting: Setting) -> Trial:
        """Open a candidate, hold its answers against the source's, time it; among the best it stays open."""
        trial = _blank(self.candidates[index], setting)
        try:
            bound = self.track.open(self.candidates[index], setting)
            errors = _errors(self.track.known, bound)
            trial, bar = replace(trial, error=_worst(errors)), self._bar(index)
            flaw = next((_off(error, bar) for error in errors if not error.within(bar)), "")
            if flaw:
                return replace(trial, out=flaw)
            self.ratios[index, setting], took = self.track.ratio(bound)
        except ModelError as error:
            return replace(trial, out=error.fact)
        except Exception as error:  # of no common class: memory, kernels, the model itself
            return replace(trial, out=f"does not run here ({first_line(error)[:200]})")
        self.open[index, setting] = bound
        self._close_slowest()
        return replace(trial, ms=took)

    def _bar(self, index: int) -> float:
        """The error that answers may have: of the source what its own setting has, whatever TF32 makes of it."""
        own = self.trials[SOURCE].error
        return self.track.known.bar if index or own is None else max(self.track.known.bar, own)

    def _close_slowest(self) -> None:
        """Let one session go where there are too many, but not the source's fastest."""
        others = [entry for entry in self.open if entry != SOURCE]
        if len(others) <= FINALISTS:
            return
        kept = min((entry for entry in self.open if not entry[0]), key=self.ratios.__getitem__)
        del self.open[max((entry for entry in others if entry != kept), key=self.ratios.__getitem__)]

    def finished(self, rounds: int) -> list[Trial]:
        """The trials by candidate, those that are open with the times of the last rounds."""
        times = interleaved([sampler(bound) for bound in self.open.values()], rounds)
        for entry, samples in zip(self.open, times, strict=True):
            self.trials[entry] = replace(self.trials[entry], ms=spread(samples), last=True)
        return [trial for _, trial in sorted(self.trials.items(), key=lambda item: item[0][0])]

    def settings(self, index: int) -> tuple[Setting, ...]:
        """What to try of a candidate, the session's own rule first."""
        candidate = self.candidates[index]
        if candidate.model is None or not candidate.model.exists():
            return (OWN,)
        model, track = onnx.load(candidate.model, load_external_data=False), self.track
        found = settings_of(model, shapes_of(track.known.feeds), track.way == GRAPH)
        return tuple(each for each in found if self.track.provider == CUDA or each.native == "auto")


def _blank(candidate: Candidate, setting: Setting) -> Trial:
    return Trial(candidate.name, candidate.low, candidate.casts, setting)


def _first(race: _Race) -> Iterator[Entry]:
    """Every candidate in the session's own setting, and with all kernels of our own where that is another."""
    for index in reversed(range(1, len(race.candidates))):
        yield index, OWN
        if Setting(native=True) in race.settings(index):
            yield index, Setting(native=True)


def _further(race: _Race) -> Iterator[Entry]:
    """What is left of the settings of the source, and of those that lead."""
    best: dict[int, float] = {}
    for (index, _), ratio in race.ratios.items():
        best[index] = min(ratio, best.get(index, ratio))
    leaders = sorted((index for index in best if index), key=best.__getitem__)[:LEADERS]
    fastest = min(best.values())
    for index in (0, *leaders):
        if race.ratios.get((index, OWN), best[index]) > REACH * fastest:
            name = race.candidates[index].name
            race.notes.append(f"{name}: no other settings tried, what is fastest takes less than half as long")
            continue
        yield from ((index, each) for each in race.settings(index) if (index, each) not in race.trials)


def _opened_track(
    source: Candidate, known: Reference, provider: Provider, cuda_graph: Choice
) -> tuple[_Track, tuple[str, ...]]:
    """The source as it runs fastest, or as is asked for, with words about the other way."""
    captured = _bound(source, known, provider, "auto", OWN) if provider == CUDA and cuda_graph is not False else None
    if captured is not None and captured.cuda_graph and cuda_graph is True:
        return _Track(known, provider, GRAPH, captured), ()
    plain = _bound(source, known, provider, False, OWN)
    if captured is None or not captured.cuda_graph:
        return _Track(known, provider, PLAIN, plain), ()
    times = [spread(samples) for samples in interleaved([sampler(captured), sampler(plain)], HEAT)]
    said = f"the source takes {times[0].median:.3g} ms {GRAPH} and {times[1].median:.3g} {PLAIN}"
    way, bound = (GRAPH, captured) if times[0].median < times[1].median else (PLAIN, plain)
    return _Track(known, provider, way, bound), (said,)


def _bound(candidate: Candidate, known: Reference, provider: Provider, cuda_graph: Choice, setting: Setting) -> Bound:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nodes on the CPU show in the times
        session = Session(
            candidate.model, provider=provider, cuda_graph=cuda_graph, shapes=shapes_of(known.feeds), **setting.options
        )
        return session.bind(known.feeds)


def _errors(known: Reference, bound: Bound) -> tuple[OutputError, ...]:
    return output_errors(known.answers, bound.outputs())


def _worst(errors: Sequence[OutputError]) -> float | None:
    worst = max((error.relative for error in errors), default=0.0)
    return worst if np.isfinite(worst) else None


def _off(error: OutputError, bar: float) -> str:
    if error.mismatch or error.nonfinite:
        return f"output {error.name}: {error.mismatch or f'{error.nonfinite} elements are finite in one only'}"
    return f"output {error.name} is off by {error.relative:.2g} relative L2, more than {bar:.2g}"
