"""The laws of a plan, checked on every run. They take nothing from the network that found the plan."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ampgraph.bounds import find_bounds, ties_of, void_link
from ampgraph.costs import Costs
from ampgraph.errors import PlanError
from ampgraph.graph import Decision, PrecisionGraph, Use
from ampgraph.judgement import Judgement
from ampgraph.placement import assignment_cost
from ampgraph.plan import Cast, Plan, source_of, untouched
from ampgraph.precision import Precision

Found = Iterator[tuple[str, str]]  # place, fact


@dataclass(frozen=True)
class _Case:
    graph: PrecisionGraph
    judgement: Judgement
    plan: Plan
    costs: Costs | None

    @cached_property
    def low(self) -> frozenset[str]:
        return self.plan.low

    @cached_property
    def moved(self) -> tuple[Decision, ...]:
        """Decisions whose precision the plan changes."""
        choices = self.plan.choices
        return tuple(each for id, each in self.graph.decisions.items() if choices[id].precision is not each.present)

    @cached_property
    def crossings(self) -> tuple[tuple[Use, Cast | None], ...]:
        """Every use that wants a produced value in its other precision, with the cast that feeds it."""
        all_ = self.graph.numbering
        live, taken_low, made_low = all_.sides(all_.mask(self.low))
        uses = (self.graph.uses[place] for place in np.flatnonzero(live & (taken_low != made_low)).tolist())
        return tuple((use, source_of(self.plan, self.graph, use)) for use in uses)


def violations(graph: PrecisionGraph, judgement: Judgement, plan: Plan, costs: Costs | None = None) -> tuple[str, ...]:
    """Every broken law as one line; the laws of price are checked where `costs` are given."""
    return tuple(f"{place}: {fact}" for place, fact in _broken(graph, judgement, plan, costs))


def verify(graph: PrecisionGraph, judgement: Judgement, plan: Plan, costs: Costs | None = None) -> None:
    """Raise PlanError for the first law that the plan breaks."""
    for place, fact in _broken(graph, judgement, plan, costs):
        remedy = "with an edited plan, undo the edit or try --objective coverage; else please report it with the model"
        raise PlanError(place, fact, remedy)


def _broken(graph: PrecisionGraph, judgement: Judgement, plan: Plan, costs: Costs | None) -> Found:
    case, unknown = _Case(graph, judgement, plan, costs), False
    for place, fact in _complete(case):
        unknown = True
        yield place, fact
    if not unknown:  # the other laws speak of choices that exist
        for law in LAWS:
            yield from law(case)


def _complete(case: _Case) -> Found:
    """Every decision is chosen, and nothing else; casts and parameters are of this graph."""
    graph, plan = case.graph, case.plan
    yield from ((id, "has no choice") for id in graph.decisions if id not in plan.choices)
    yield from ((id, "is chosen but is no decision of the graph") for id in plan.choices if id not in graph.decisions)
    yield from ((id, "is a parameter of no constant") for id in plan.parameters if id not in graph.values)
    for cast in plan.casts:
        if cast.value not in graph.values or cast.scope not in graph.scopes:
            yield cast.value, f"is cast in {cast.scope or 'the main graph'}, but one of the two does not exist"
    if plan.precision is not case.judgement.precision:
        yield "plan", f"is for {plan.precision}, judged for {case.judgement.precision}"


def fixed_stay(case: _Case) -> Found:
    """A decision is low or what it was; one that is not open is what it was."""
    for decision in case.moved:
        chosen = case.plan.choices[decision.id].precision
        if chosen is not case.plan.precision or not decision.is_open(chosen):
            yield decision.id, f"is {decision.present} and cannot become {chosen}"


def forbidden_stay(case: _Case) -> Found:
    """What is not legal does not become low."""
    for decision in case.moved:
        verdict = case.judgement.verdicts[decision.id]
        if not verdict.legal:
            yield decision.id, f"is {case.plan.choices[decision.id].precision} and may not be: {verdict.why}"


def forced_are_low(case: _Case) -> Found:
    """What the user asked low is low."""
    for id, verdict in case.judgement.verdicts.items():
        if verdict.forced and id not in case.low and case.graph.decisions[id].is_open(case.plan.precision):
            yield id, f"is not {case.plan.precision}, which is asked for"


def interface_stays(case: _Case) -> Found:
    """Graph inputs and outputs keep their type unless the user asked otherwise."""
    for decision in case.moved:
        if decision.kind != "op" and not case.judgement.verdicts[decision.id].forced:
            yield decision.id, f"changes its type to {case.plan.choices[decision.id].precision}"


def ties_hold(case: _Case) -> Found:
    """Tied decisions are both low or both not."""
    for first, second in ties_of(case.graph, case.judgement):
        if (first in case.low) is not (second in case.low) and not void_link(case.graph, case.judgement, first, second):
            yield first, f"is tied to {second} and has another precision"


def implications_hold(case: _Case) -> Found:
    """A low decision has what it requires low."""
    for first, second in case.judgement.implications:
        broken = first in case.low and second not in case.low
        if broken and not void_link(case.graph, case.judgement, first, second):
            yield first, f"is {case.plan.precision} and requires {second} to be"


def uses_are_served(case: _Case) -> Found:
    """Every use sees its precision: its producer has it, or a cast in an enclosing scope makes it."""
    for use, cast in case.crossings:
        if cast is None:
            wanted = case.plan.choices[use.decision].precision
            yield use.value, f"is taken as {wanted} by {use.decision}, and no cast makes it so"


def casts_are_sound(case: _Case) -> Found:
    """A cast is of a produced tensor of its scope or of one around it, to another of the two precisions."""
    low = case.plan.precision
    for cast in case.plan.casts:
        value = case.graph.values[cast.value]
        if not value.producer or value.kind != "tensor":
            yield cast.value, "is cast and is no tensor that an op or input produces"
        elif {cast.to, case.plan.choices[value.producer].precision} != {low, Precision.FLOAT32}:
            yield cast.value, f"is cast to {cast.to} for nothing"
        elif value.scope not in _around(case.graph, cast.scope):
            yield cast.value, f"is cast in {cast.scope or 'the main graph'}, where it is not seen"


def casts_are_needed(case: _Case) -> Found:
    """At most one cast per value, precision and scope; each feeds a use, none stands below another that would do."""
    feeding = {cast for _, cast in case.crossings}
    seen: set[Cast] = set()
    every = frozenset(case.plan.casts)
    for cast in case.plan.casts:
        outer = _around(case.graph, cast.scope)[1:]
        if cast in seen:
            yield cast.value, f"is cast to {cast.to} twice in {cast.scope or 'the main graph'}"
        elif cast not in feeding:
            yield cast.value, f"is cast to {cast.to} in {cast.scope or 'the main graph'} for no use"
        elif any(Cast(cast.value, cast.to, scope) in every for scope in outer):
            yield cast.value, f"is cast to {cast.to} in {cast.scope} again"
        seen.add(cast)


def parameters_match(case: _Case) -> Found:
    """A float32 constant exists in each precision that some consumer takes, and in no other."""
    all_, low = case.graph.numbering, case.plan.precision
    live, taken_low, _ = all_.sides(all_.mask(case.low))
    constant = live & (all_.producer[all_.use_value] < 0)
    takers = {
        precision: _float32(case.graph, np.unique(all_.use_value[constant & takes]).tolist())
        for precision, takes in ((Precision.FLOAT32, ~taken_low), (low, taken_low))
    }
    for id in dict.fromkeys((*takers[Precision.FLOAT32], *takers[low], *case.plan.parameters)):
        kept = case.plan.parameters.get(id, ())
        expected = tuple(precision for precision, ids in takers.items() if id in ids)
        if kept != expected:
            yield id, f"is kept in {_list(kept)}, and taken in {_list(expected)}"


def _float32(graph: PrecisionGraph, places: list[int]) -> dict[str, None]:
    ids = (graph.numbering.values[place] for place in places)
    return {id: None for id in ids if graph.values[id].dtype == Precision.FLOAT32}


def price_is_true(case: _Case) -> Found:
    """The plan's prices are those of its decisions, counted anew."""
    if case.costs is None:
        return
    for what, stated, low in (
        ("cost", case.plan.cost, case.low),
        ("baseline", case.plan.baseline, untouched(case.graph, case.plan.precision)),
    ):
        counted = assignment_cost(case.graph, low, case.costs)
        if stated != counted:
            yield "plan", f"states a {what} of {stated}, which is {counted} {case.plan.unit}"


def price_is_not_above_source(case: _Case) -> Found:
    """Under speed and memory a plan is no dearer than the source, or than what the user forced on it alone.

    A tuned plan was measured to be faster, whatever the model says.
    """
    plan = case.plan
    if case.costs is None or plan.tuned or plan.objective not in ("speed", "memory") or plan.cost <= plan.baseline:
        return
    least = find_bounds(case.graph, case.judgement).must
    allowed = assignment_cost(case.graph, least, case.costs)
    if plan.cost > allowed:
        yield "plan", f"costs {plan.cost} {plan.unit}, above the {allowed} of converting nothing unasked"


LAWS: tuple[Callable[[_Case], Found], ...] = (
    fixed_stay,
    forbidden_stay,
    forced_are_low,
    interface_stays,
    ties_hold,
    implications_hold,
    uses_are_served,
    casts_are_sound,
    casts_are_needed,
    parameters_match,
    price_is_true,
    price_is_not_above_source,
)


def _around(graph: PrecisionGraph, scope: str) -> list[str]:
    """A scope and those it lies in, from the inside out."""
    found: list[str] = []
    inner: str | None = scope
    while inner is not None:
        found.append(inner)
        inner = graph.scopes[inner].parent
    return found


def _list(precisions: Collection[Precision]) -> str:
    return " and ".join(sorted(precisions)) or "no precision"
