"""The difference of two plans as plain text for a terminal: at most 80 columns, no colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from ampgraph.inspection.plan_diff import Change, PlanDiff
from ampgraph.inspection.plan_fusions import FusedChange
from ampgraph.inspection.recorded_plan import Line
from ampgraph.reasons import format_amount
from ampgraph.report_text import wrapped
from ampgraph.wording import are, numbered

NAMED = 6  # nodes of a group
GROUPS = 8  # the JSON has all


def to_text(diff: PlanDiff) -> str:
    """What `ampgraph diff` prints."""
    blocks = [
        _head(diff),
        _changes(diff),
        _fused(diff),
        _alone(diff),
        _casts(diff),
        _parameters(diff),
        _reasons(diff),
        _tail(diff),
    ]
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"


def _head(diff: PlanDiff) -> Iterator[str]:
    yield from wrapped(f"{diff.second} against {diff.first}")
    for fact in diff.facts:
        yield from wrapped(f"{fact.name}: {fact.before or 'none'} -> {fact.after or 'none'}")
    price = diff.price
    if price.before is not None and price.after is not None:
        amounts = f"{format_amount(price.before, price.before_unit)} -> {format_amount(price.after, price.after_unit)}"
        other = "" if price.before_unit == price.after_unit else " (not the same unit)"
        yield from wrapped(f"modelled price: {amounts}{other}")
    changed = sum(len(change.decisions) for change in diff.changes)
    yield from wrapped(f"{changed} of {diff.decisions} decisions that both have changed precision")
    if diff.fused:
        moved = sum(len(each.decisions) for each in diff.fused if each.is_moved)
        total = sum(len(each.decisions) for each in diff.fused)
        yield from wrapped(f"{moved} of {total} decisions of nodes that are fused in one of them changed by that")


def _changes(diff: PlanDiff) -> Iterator[str]:
    for change in diff.changes[:GROUPS]:
        assert change.before is not None  # both plans have these
        assert change.after is not None
        title = f"{change.before.precision} -> {change.after.precision}{grounds(change)}"
        yield from _group(title, change, (change.before, change.after))
    yield from _more(diff.changes[GROUPS:])


def _fused(diff: PlanDiff) -> Iterator[str]:
    """What changed by way of fusing, with both reasons; what kept its precision in a line for each operator."""
    moved = [change for change in diff.fused if change.is_moved]
    for change in moved[:GROUPS]:
        title = f"by fusing, {change.before.precision} -> {change.after.precision}{grounds(change)}"
        yield from wrapped(f"{title}, {_into(diff, change)}: {named_nodes(change.decisions)}")
        for when, line in (("before", change.before), ("now", change.after)):
            yield from wrapped(f"{when}: {line.why}", "    ")
    yield from _more(moved[GROUPS:])
    kept: dict[tuple[str, str, str], list[FusedChange]] = {}
    for change in diff.fused:
        if not change.is_moved:
            kept.setdefault((change.type, change.side, change.after.precision), []).append(change)
    for (_, _, precision), changes in kept.items():
        decisions = [id for change in changes for id in change.decisions]
        yield from wrapped(f"fused and still {precision}, {_into(diff, *changes)}: {named_nodes(decisions)}")


def _into(diff: PlanDiff, *changes: FusedChange) -> str:
    """Which fused nodes have them."""
    nodes = list(dict.fromkeys(node for change in changes for node in change.nodes))
    plan = diff.second if changes[0].side == "second" else diff.first
    return f"in {len(nodes)} {changes[0].type} of {plan} ({_few(nodes)})"


def _group(title: str, change: Change, lines: Sequence[Line | None]) -> Iterator[str]:
    yield from wrapped(f"{title}: {named_nodes(change.decisions)}")
    for when, line in zip(("before", "now"), lines, strict=True):
        if line is not None and line.why:
            yield from wrapped(f"{when}: {line.why}", "    ")


def grounds(change: Change | FusedChange) -> str:
    """What it was settled by, before and now; nothing where that is not recorded."""
    grounds = [f"{line.cause} {line.rule}".strip() for line in (change.before, change.after) if line and line.cause]
    return f", {' -> '.join(dict.fromkeys(grounds))}" if grounds else ""


def named_nodes(decisions: Iterable[str]) -> str:
    """How many nodes some decisions are of, and the names of some."""
    names = list(dict.fromkeys(map(_node, decisions)))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{numbered(len(names), 'node')}: {', '.join(names[:NAMED])}{more}"


def _few(nodes: Sequence[str]) -> str:
    """The fused nodes themselves are found by what they stand for."""
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} and {len(nodes) - 1} more"


def _node(decision: str) -> str:
    """A decision's node, or interface value: `input:x` stays, `p2o.Conv.0:T` is `p2o.Conv.0`."""
    if decision.startswith(("input:", "output:")) or ":" not in decision:
        return decision
    return decision.rpartition(":")[0]


def _more(rest: Sequence[Change | FusedChange]) -> Iterator[str]:
    if rest:
        decisions = numbered(sum(len(change.decisions) for change in rest), "decision")
        yield f"and {decisions} in {numbered(len(rest), 'group')} (--json has them)"


def _alone(diff: PlanDiff) -> Iterator[str]:
    for name, changes in ((diff.first, diff.removed), (diff.second, diff.added)):
        ids = [id for change in changes for id in change.decisions]
        if ids:
            yield from wrapped(f"only in {name}: {named_nodes(ids)}")


def _casts(diff: PlanDiff) -> Iterator[str]:
    for what, casts in (("removed", diff.casts_removed), ("added", diff.casts_added)):
        if casts:
            targets = Counter(str(cast.to) for cast in casts)
            shown = ", ".join(f"{count} to {to}" for to, count in targets.items())
            names = ", ".join(f"{cast.value} to {cast.to}" for cast in casts[:NAMED])
            more = f" and {len(casts) - NAMED} more" if len(casts) > NAMED else ""
            yield from wrapped(f"casts {what}: {shown}: {names}{more}")


def _parameters(diff: PlanDiff) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for change in diff.parameters:
        before, after = (" and ".join(kept) or "none" for kept in (change.before, change.after))
        groups.setdefault(f"{before} -> {after}", []).append(change.parameter)
    for title, names in groups.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield from wrapped(f"parameters {title}: {len(names)}: {', '.join(names[:NAMED])}{more}")


def _reasons(diff: PlanDiff) -> Iterator[str]:
    for change in diff.reasons[:GROUPS]:
        assert change.after is not None  # both plans have these
        yield from _group(f"still {change.after.precision}{grounds(change)}", change, (None, change.after))
    yield from _more(diff.reasons[GROUPS:])
    if diff.reworded:
        decisions = f"{numbered(diff.reworded, 'decision')} {are(diff.reworded)}"
        yield f"{decisions} the same for the same reason, with other figures"


def _tail(diff: PlanDiff) -> Iterator[str]:
    yield "both come to the same model" if diff.same else "the plans differ"
