"""Tuning: the plans worth trying on a model, written out, measured here, and the best of them as a normal plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ampgraph.conversion import (
    Planned,
    collector_at_rest,
    convert_model,
    named_as_fused,
    plan_model,
    plan_prepared,
)
from ampgraph.cost import price
from ampgraph.decide import decide
from ampgraph.devices import device_named
from ampgraph.errors import AmpgraphError, OptionError, PlanError
from ampgraph.laws import verify
from ampgraph.measured import MeasuredCosts
from ampgraph.onnx_model.check import tolerance
from ampgraph.onnx_model.fuse.accept import difference
from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.given import Data, name_of_data, read_inputs
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.lift import constants_of
from ampgraph.onnx_model.profile import Settings, profile
from ampgraph.onnx_model.race import measure
from ampgraph.onnx_model.run import CUDA, Feed, best_provider
from ampgraph.onnx_model.setup import chosen_provider
from ampgraph.onnx_model.tune import OWN, Candidate, Tuned, Way, reference
from ampgraph.onnx_model.wished import lost_wish
from ampgraph.options import Options
from ampgraph.own_kernels import own_kernels
from ampgraph.plan import Plan, make_plan, mark_of_tuned, untouched

PROFILE_SECONDS = 25.0


@dataclass(frozen=True)
class _Idea:
    """A plan with its name; `flaw`: why it cannot be tried."""

    name: str
    planned: Planned
    flaw: str = ""


@dataclass(frozen=True)
class _Sides:
    """The model as it is, and fused where that can be; what was measured of it, and what is to be said about both."""

    plain: Planned
    fused: Planned | None
    measured: MeasuredCosts | None = None
    notes: tuple[str, ...] = ()


def tune(
    loaded: Loaded,
    options: Options,
    data: Data | None = None,
    *,
    provider: str = "best",
    way: Way | None = None,
    profile_seconds: float = PROFILE_SECONDS,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Planned:
    """The plan that is fastest here in its fastest setting, measured end to end, with the table of all that were tried.

    `provider`: "cpu" measures there, for tests; otherwise a GPU is needed. `profile_seconds`: for measuring operators
    where no `--costs` are given; 0 leaves that out. `alone`: entered while something is measured, for processes that
    share a GPU.
    """
    _refuse(options, provider)
    way = replace(way or Way(cuda_graph=options.cuda_graph or "auto"), provider=provider)
    feeds = read_inputs(data, loaded.model) if data is not None else None
    with collector_at_rest(), TemporaryDirectory(prefix="ampgraph-tune-") as scratch:
        folder = Path(scratch)
        plain = plan_model(loaded, options, as_is=True)
        source = _written(plain, folder / "source.onnx")
        said, bar = name_of_data(data), tolerance(options.precision)
        known = reference(plain.loaded.model, source, options.shapes, feeds, said, bar, provider)
        sides = _sides(plain)
        with alone():
            sides = _with_costs(sides, known.feeds, provider, profile_seconds)
        ideas = list(_ideas(sides))
        candidates = list(_candidates(ideas, source, folder))
        with alone():
            tuned = measure(candidates, known, way, sides.notes)
    return _chosen(next(idea.planned for idea in ideas if idea.name == tuned.winner.name), tuned)


def _chosen(planned: Planned, tuned: Tuned) -> Planned:
    """The plan that won, with the setting that it won in; the source as a session opens it anyway stays untouched."""
    if planned.changes_nothing and tuned.winner.setting == OWN:
        return replace(planned, tuned=tuned)
    plan, measured = planned.plan, tuned.measured
    mark = mark_of_tuned(planned.options.digest(), plan.fused, plan.low, measured)
    return replace(planned, plan=replace(plan, session=measured, tuned=mark), tuned=tuned)


def _refuse(options: Options, provider: str) -> None:
    """Refuse what cannot be measured against the source."""
    remedy = "leave one of them out"
    if options.plan is not None:
        raise OptionError("--tune and --plan", "are both given", remedy)
    if options.objective != "speed":
        raise OptionError(f"--tune and --objective {options.objective}", "contradict each other", remedy)
    if options.target != "onnxruntime-cuda":
        raise OptionError(f"--tune and --target {options.target}", "do not go together: onnxruntime is timed", remedy)
    if options.low or options.io != "keep":
        asked = "--low" if options.low else f"--io {options.io}"
        raise OptionError(f"--tune and {asked}", "contradict each other: that is to be low however slow", remedy)
    if provider == "best" and best_provider() != CUDA:
        fact = "measures on a GPU, and no CUDA session opens here"
        raise OptionError("--tune", fact, "tune where the GPU is and bring the plan, or let the cost model decide")


def _sides(plain: Planned) -> _Sides:
    found = fuse(plain.prepared, plain.shapes) if plain.options.fuse else None
    if found is None:
        return _Sides(plain, None)
    flaw = lost_wish(plain.graph, plain.judgement, plain.options, found.model)
    flaw = flaw or difference(plain.prepared, found.model, plain.shapes, plain.loaded.folder, assumed=plain.assumed)
    if flaw:
        return _Sides(plain, None, notes=(f"no fused candidates: {flaw}",))
    options, shapes = plain.options, plain.shapes
    same = constants_of(plain.graph, found.own)
    fused = plan_prepared(
        plain.loaded, found.model, options, shapes, None, as_is=True, known=found.shapes, measured=same
    )
    return _Sides(plain, named_as_fused(fused, found.counts, plain.plan.baseline))


def _with_costs(sides: _Sides, feeds: Mapping[str, Feed], provider: str, seconds: float) -> _Sides:
    """Measured costs: those given, else what can be measured of the operators in a short time."""
    if sides.plain.measured is not None:
        return replace(sides, measured=sides.plain.measured)
    if seconds <= 0:
        return replace(sides, notes=(*sides.notes, "no candidates at measured costs: none are given (--costs)"))
    said: list[str] = []
    try:
        settings = Settings(chosen_provider(provider), seconds=seconds)
        costs = profile(sides.plain.loaded, sides.plain.options.shapes, feeds, settings, said.append)
    except Exception as error:  # of no common class; the other candidates do without
        flaw = " ".join(str(error).split())[:200]
        return replace(sides, notes=(*sides.notes, f"no candidates at measured costs: {flaw}"))
    notes = [f"operators were measured for {seconds:.0f} s at most, fused ones are modelled"]
    notes += [line for line in said if "were left" in line]
    return replace(sides, measured=costs, notes=(*sides.notes, *notes))


def _ideas(sides: _Sides) -> Iterator[_Idea]:
    """Every plan to try, the source first."""
    plain = sides.plain
    low = untouched(plain.graph, plain.options.precision)
    yield _Idea("source", replace(plain, plan=_marked(plain, low)))  # as it is, whatever the judge asks for
    if sides.fused is not None:
        yield _idea("fused", sides.fused, untouched(sides.fused.graph, sides.fused.options.precision))
    for side in (sides.plain, sides.fused):
        if side is not None:
            prefix = "fused, " if side.plan.fused else ""
            for name, low in _assignments(side, sides.measured):
                yield _idea(f"{prefix}{name}", side, low)


def _assignments(side: Planned, measured: MeasuredCosts | None) -> Iterator[tuple[str, frozenset[str]]]:
    """Low decisions of one graph by how they are found."""
    graph, judgement, options = side.graph, side.judgement, side.options
    device, precision = device_named(options.device), options.precision
    yield "roofline", decide(graph, judgement, price(graph, "speed", device, precision))
    captured = device_named(options.device, cuda_graph=True)
    yield "graph roofline", decide(graph, judgement, price(graph, "speed", captured, precision))
    own = own_kernels(graph, judgement, replace(options, cuda_graph=True, native=True, costs=None))
    yield "own kernels", decide(graph, own.tied(judgement), price(graph, "speed", captured, precision, own=own))
    if measured is not None:
        yield "measured", decide(graph, judgement, price(graph, "speed", device, precision, measured=measured))
    categories = {key: str(verdict.category) for key, verdict in judgement.verdicts.items()}
    yield "all low", decide(graph, judgement, price(graph, "coverage", device, precision, categories))


def _idea(name: str, side: Planned, low: frozenset[str]) -> _Idea:
    """A plan at the options' own prices, as `--plan` makes it again."""
    plan = _marked(side, low)
    try:
        verify(side.graph, side.judgement, plan, side.costs)
    except PlanError as error:
        return _Idea(name, replace(side, plan=plan), f"breaks a law ({error})")
    return _Idea(name, replace(side, plan=plan))


def _marked(side: Planned, low: frozenset[str]) -> Plan:
    """A plan that is known again as a tuned one."""
    head = side.plan
    mark = mark_of_tuned(side.options.digest(), head.fused, low)
    plan = make_plan(side.graph, side.judgement, side.costs, low, "speed")
    plan = replace(plan, model=head.model, options=head.options, tuned=mark)
    return replace(plan, fused=head.fused, replaced=head.replaced)


def _candidates(ideas: list[_Idea], source: Path, folder: Path) -> Iterator[Candidate]:
    """Each different plan as a file."""
    first: dict[tuple[str, frozenset[str]], str] = {}
    for index, idea in enumerate(ideas):
        plan, decisions = idea.planned.plan, idea.planned.graph.decisions
        changed = sum(choice.precision is not decisions[key].present for key, choice in plan.choices.items())
        before = first.setdefault((plan.fused, plan.low), idea.name)
        same_as, flaw, path = "" if before == idea.name else before, idea.flaw, None
        if not same_as and not flaw:
            try:
                path = _written(idea.planned, folder / f"{index}.onnx") if index else source
            except AmpgraphError as error:
                flaw = f"cannot be written ({error})"
        yield Candidate(idea.name, path, changed, len(plan.casts), same_as, flaw)


def _written(planned: Planned, path: Path) -> Path:
    convert_model(planned, path)
    return path
