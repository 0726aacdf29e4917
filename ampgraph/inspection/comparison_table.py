"""Comparisons and differences of plans as compact HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ampgraph.inspection.comparison import Comparison, Difference
from ampgraph.inspection.plan_diff import Change, PlanDiff
from ampgraph.inspection.plan_diff_text import grounds, named_nodes
from ampgraph.inspection.plan_fusions import FusedChange
from ampgraph.inspection.recorded_plan import Line
from ampgraph.inspection.table import cell, table
from ampgraph.reasons import format_amount

ROWS = 10


def comparison_table(comparison: Comparison) -> str:
    """The verdict, the outputs, what goes wrong first and why, and the worst values."""
    said = "within" if comparison.within else "<b>NOT within</b>"
    shapes = ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in comparison.shapes.items())
    head = f"<b>{cell(comparison.candidate)}</b> against {cell(comparison.reference)}"
    verdict = f"outputs are {said} the tolerance of {comparison.tolerance:g}"
    ran = cell(f"{comparison.runtime}; inputs {comparison.inputs}{': ' if shapes else ''}{shapes}")
    outputs = table(("output", *_FIGURES), map(_figures, comparison.outputs[:ROWS]))
    return f"<div>{head}: {verdict}</div><div>{ran}</div>{outputs}{_firsts(comparison)}{_worst(comparison)}"


_FIGURES = ("relative L2 error", "largest difference", "not finite", "flushed to zero")


def _figures(value: Difference) -> tuple[str, ...]:
    counts = (str(count) if count else "" for count in (value.overflowed, value.flushed))
    return (cell(value.name), f"{value.relative:.2e}", f"{value.largest:.2e}", *counts)


def _firsts(comparison: Comparison) -> str:
    """The first values that are off, with the reason recorded for them and what to do."""
    values = {value.value: value for value in comparison.values}
    advice = {each.value: each for each in comparison.advice}
    found = (
        ("beyond the tolerance", comparison.first_beyond),
        ("overflow", comparison.first_overflow),
        ("flush to zero", comparison.first_flush),
    )
    rows = []
    for what, id in found:
        if id:
            told = advice.get(id)
            maker = f"{values[id].type} {values[id].node}"
            parts = (values[id].name, maker, told.why if told else "", told.remedy if told else "")
            rows.append((what, *map(cell, parts)))
    return table(("first", "value", "made by", "recorded", "next"), rows) if rows else ""


def _worst(comparison: Comparison) -> str:
    values = {value.value: value for value in comparison.values}
    rows = [_figures(values[id]) for id in comparison.worst]
    return table(("worst values", *_FIGURES), rows) if rows else ""


def diff_table(diff: PlanDiff) -> str:
    """What changed between two plans and why, changes by fusing included."""
    end = "both come to the same model" if diff.same else "the plans differ"
    head = f"<div><b>{cell(diff.second)}</b> against {cell(diff.first)}: {end}</div>"
    facts = [(cell(fact.name), cell(fact.before or "none"), cell(fact.after or "none")) for fact in diff.facts]
    price = diff.price
    if price.before is not None and price.after is not None:
        amounts = (format_amount(price.before, price.before_unit), format_amount(price.after, price.after_unit))
        facts.append(("modelled price", *amounts))
    counts = ((diff.casts_removed, "casts removed"), (diff.casts_added, "casts added"))
    lines = [f"{len(casts)} {what}" for casts, what in counts if casts]
    lines += [f"{len(diff.parameters)} parameters in other precisions"] if diff.parameters else []
    rows = list(_changes(diff))
    more = f"<div>and {len(rows) - ROWS} more groups</div>" if len(rows) > ROWS else ""
    changes = table(("change", "nodes", "before", "now"), rows[:ROWS]) if rows else ""
    tail = f"<div>{'; '.join(lines)}</div>" if lines else ""
    return f"{head}{table(('', 'before', 'now'), facts) if facts else ''}{changes}{more}{tail}"


def _changes(diff: PlanDiff) -> Iterator[tuple[str, ...]]:
    """A row for each group of decisions, what changed precision first."""
    moved = (change for change in diff.fused if change.is_moved)
    named: Iterable[tuple[str, Change | FusedChange]] = (
        *(("", change) for change in diff.changes),
        *((f", by fusing into {change.type}", change) for change in moved),
        *(("only in the first", change) for change in diff.removed),
        *(("only in the second", change) for change in diff.added),
    )
    for how, change in named:
        precisions = [line.precision for line in (change.before, change.after) if line is not None]
        title = f"{' → '.join(precisions)}{grounds(change)}{how}" if len(precisions) > 1 else f"{how}: {precisions[0]}"
        yield cell(title), cell(named_nodes(change.decisions)), _why(change.before), _why(change.after)


def _why(line: Line | None) -> str:
    return cell(line.why) if line is not None else ""
