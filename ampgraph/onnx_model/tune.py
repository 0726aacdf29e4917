"""Tune: models of one network in the settings of a session, timed side by side, and what is safely the fastest.

All are judged where the source itself runs fastest, plain or as a CUDA graph: what cannot run that way cannot win. Each
is first timed against the source in the session's own setting; the best stay open and are timed together (race.py). A
winner's quartiles lie below those of the source in its fastest setting, so the choice is never slower beyond the noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model.bench import ROUNDS, Spread
from ampgraph.onnx_model.blank import refuse_blank
from ampgraph.onnx_model.io import reason
from ampgraph.onnx_model.run import Feed, fitted, open_session, run
from ampgraph.onnx_model.setup import chosen_provider
from ampgraph.onnx_model.sizes import fitting_inputs
from ampgraph.settings import GRAPH, Choice, MeasuredSetting, Setting

SECONDS = 75.0
OWN = Setting()


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
    """What was measured of a candidate in a setting. `out`: why it cannot be chosen; `verdict`: chosen, or why not.

    `ms`: milliseconds of a run, None where there is none; `last`: of the last rounds, in which the best took turns,
    else of a first heat. `error`: relative L2 of the worst output against the source in float32, None where it is not a
    number.
    """

    name: str
    low: int
    casts: int
    setting: Setting = OWN
    ms: Spread | None = None
    last: bool = False
    error: float | None = None
    out: str = ""
    chosen: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Tuned:
    """The table of a tuning; the source in the session's own setting is its first row. `way`: of running, of all rows.

    `shapes`: of the inputs. `inputs`: "generated", or the file they come from.
    """

    device: str
    provider: str
    inputs: str
    shapes: Mapping[str, tuple[int, ...]]
    rounds: int
    way: str
    rows: tuple[Trial, ...]
    notes: tuple[str, ...] = ()

    @property
    def winner(self) -> Trial:
        """The row that was chosen."""
        return next(row for row in self.rows if row.chosen)

    @property
    def measured(self) -> MeasuredSetting:
        """The setting that was chosen, as a file records it."""
        return MeasuredSetting(self.winner.setting, self.device, self.provider, self.way == GRAPH, self.shapes)


@dataclass(frozen=True)
class Way:
    """Where and how long to measure. `seconds`: nothing further is opened after them.

    `cuda_graph`: True for runs as a CUDA graph wherever the source can be one, False for plain ones, "auto" for those
    that are faster.
    """

    provider: str = "best"
    rounds: int = ROUNDS
    seconds: float = SECONDS
    cuda_graph: Choice = "auto"


@dataclass(frozen=True)
class Reference:
    """Inputs, and what the source answers in float32, TF32 off. `inputs`: "generated", or the file they come from."""

    feeds: Mapping[str, Feed]
    answers: Mapping[str, Any]
    inputs: str
    bar: float  # relative L2 error that an output may have


def reference(
    model: ModelProto,
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    data: dict[str, Feed] | None,
    said: str,
    bar: float,
    provider: str = "best",
) -> Reference:
    """Run the source at `path`, on given inputs or on generated ones of sizes that it runs at."""
    try:
        session = open_session(path, provider=chosen_provider(provider))
        if data is not None:
            feeds, answers = data, run(session, fitted(session, data))
        else:
            feeds, answers = fitting_inputs(model, session, shapes)
    except Exception as error:  # onnxruntime's exceptions share no base class
        fact = f"does not run on {said} inputs ({reason(error)})"
        raise ModelError("--tune: the source", fact, "give sizes with --shape, or real inputs with --data") from None
    refuse_blank(answers, said)
    return Reference(feeds, answers, said, bar)


def decided(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The rows, those of the source by the first one's name, with exactly one chosen and words about each.

    A candidate must beat the source in its fastest setting by more than the noise: its upper quartile lies below the
    source's lower one. Where none does, the source stays, in another setting only if that beats the session's own
    likewise. Of those that the noise does not tell from the fastest, the one with the fewest low decisions is taken.
    """
    times = {i: trial.ms for i, trial in enumerate(trials) if trial.ms is not None and trial.last and not trial.out}
    own = times[0]
    source = [i for i in times if trials[i].name == trials[0].name]
    bar = min((times[i] for i in source), key=lambda at: at.median)
    faster = [i for i, at in times.items() if i not in source and at.high < bar.low]
    able = faster or [0, *(i for i in source if times[i].high < own.low)]
    best = min((times[i] for i in able), key=lambda at: at.median)
    tied = [i for i in able if times[i].low <= best.high]
    chosen = min(tied, key=lambda i: (trials[i].low, trials[i].casts, trials[i].setting.changes, times[i].median, i))
    words = [_verdict(i, chosen, trials, times, able) for i in range(len(trials))]
    return tuple(replace(trial, chosen=i == chosen, verdict=words[i]) for i, trial in enumerate(trials))


def _verdict(i: int, chosen: int, trials: Sequence[Trial], times: Mapping[int, Spread], able: Sequence[int]) -> str:
    trial, taken = trials[i], times[chosen]
    if i == chosen:
        return "chosen" if i else "chosen: nothing is faster by more than the noise"
    if trial.out:
        return f"out: {trial.out}"
    if i not in times:
        return "slower in its heat than those that ran the last rounds"
    if times[i].low > taken.high:
        return "slower than what is chosen"
    if i in able:
        return "as fast as what is chosen, which changes no more"
    is_source = trial.name == trials[0].name
    return f"not {'slower than what is chosen' if is_source else 'faster than the source'} by more than the noise"
