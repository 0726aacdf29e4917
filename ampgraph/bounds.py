"""What decides itself: the decisions that verdicts and links settle before any price is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ampgraph.errors import PlanError
from ampgraph.graph import Decision, PrecisionGraph
from ampgraph.judgement import Judgement, Verdict
from ampgraph.precision import Precision

Links = Mapping[str, list[str]]


@dataclass(frozen=True)
class Bounds:
    """Decisions that end low and that stay as they are in every lawful plan; each with the decision that settles it."""

    must: Mapping[str, str]
    never: Mapping[str, str]


def is_free(decision: Decision, verdict: Verdict, precision: Precision) -> bool:
    """Whether a plan may choose: open, legal, and part of the interface only where the user asked for that."""
    return verdict.legal and decision.is_open(precision) and (decision.kind == "op" or verdict.forced)


def is_fixed_low(decision: Decision, precision: Precision) -> bool:
    """Whether the source itself has the decision in the low precision."""
    return decision.present is precision


def ties_of(graph: PrecisionGraph, judgement: Judgement) -> tuple[tuple[str, str], ...]:
    """The ties of structure and those of judgement."""
    return (*graph.ties, *judgement.ties)


def void_link(graph: PrecisionGraph, judgement: Judgement, first: str, second: str) -> bool:
    """Whether a link is between two decisions that nobody may move: then the source itself keeps it or breaks it."""
    return not any(is_free(graph.decisions[id], judgement.verdicts[id], judgement.precision) for id in (first, second))


def implications_of(graph: PrecisionGraph, judgement: Judgement) -> list[tuple[str, str]]:
    """Every link as (a, b): a low requires b low. Links that the source alone answers for are left out."""
    pairs = list(judgement.implications)
    for first, second in ties_of(graph, judgement):
        pairs += (first, second), (second, first)
    return [pair for pair in pairs if not void_link(graph, judgement, *pair)]


def tied_groups(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """A representative of each decision that implies another and is implied by it, directly or around a circle."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return {}
    number = {id: place for place, id in enumerate(dict.fromkeys(id for pair in pairs for id in pair))}
    tails, heads = zip(*((number[first], number[second]) for first, second in pairs), strict=True)
    graph = csr_array(([1] * len(pairs), (tails, heads)), shape=(len(number), len(number)))
    circles = connected_components(graph, connection="strong")[1].tolist()
    first: dict[int, str] = {}
    return {id: first.setdefault(circle, id) for id, circle in zip(number, circles, strict=True)}


def find_bounds(graph: PrecisionGraph, judgement: Judgement) -> Bounds:
    """Follow the links from what is settled by itself; PlanError where that asks both precisions of a decision."""
    precision, lows, highs = judgement.precision, [], []
    for id, decision in graph.decisions.items():
        verdict = judgement.verdicts[id]
        if is_free(decision, verdict, precision):
            if verdict.forced:
                lows.append(id)
        elif is_fixed_low(decision, precision):
            lows.append(id)
        elif verdict.forced and decision.is_open(precision):
            raise _contradiction(id, id, judgement)
        else:
            highs.append(id)
    return _spread(lows, highs, implications_of(graph, judgement), judgement)


def _spread(lows: list[str], highs: list[str], pairs: list[tuple[str, str]], judgement: Judgement) -> Bounds:
    forward, backward = links(pairs)
    must, never = reach(lows, forward), reach(highs, backward)
    for id, origin in must.items():
        if id in never:
            raise _contradiction(origin, never[id], judgement)
    return Bounds(must, never)


def links(pairs: Iterable[tuple[str, str]]) -> tuple[Links, Links]:
    """Implications by their first and by their second decision."""
    forward: dict[str, list[str]] = {}
    backward: dict[str, list[str]] = {}
    for first, second in pairs:
        forward.setdefault(first, []).append(second)
        backward.setdefault(second, []).append(first)
    return forward, backward


def reach(seeds: Iterable[str], links: Links) -> dict[str, str]:
    """Every id that can be reached, with the seed that it was reached from."""
    origin = {seed: seed for seed in seeds}
    stack = [seed for seed in origin if seed in links]
    while stack:
        id = stack.pop()
        for other in links.get(id, ()):
            if other not in origin:
                origin[other] = origin[id]
                stack.append(other)
    return origin


def _contradiction(low: str, high: str, judgement: Judgement) -> PlanError:
    name, why = judgement.precision.value, judgement.verdicts[high].why
    if low == high:
        return PlanError(low, f"has to be {name} but may not be: {why}", "drop the option or rule that asks for it")
    return PlanError(
        low,
        f"has to be {name}, and {high}, which is linked to it, may not be: {why}",
        f"ask {name} of both or of neither",
    )
