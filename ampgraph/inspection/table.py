"""Table: the compact HTML that notebooks show. Self-contained, escaped, readable on light and on dark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from ampgraph.inspection.document import Document
from ampgraph.plan import Plan
from ampgraph.precision import Precision
from ampgraph.reasons import format_amount
from ampgraph.report import cause_of

REASONS = 8
LONGEST = 300  # characters of a cell
_STYLE = "border-collapse:collapse;font-size:13px;margin:4px 0;color:inherit;background:transparent"
_CELL = "text-align:left;padding:2px 12px 2px 0;border-bottom:1px solid #8884;vertical-align:top"
_MARKS = {"float16": "#2e9e4f", "bfloat16": "#1f9aa8", "float32": "#c98a1b"}  # legible on white and on black


def document_table(document: Document) -> str:
    """Shares by precision, casts, and the islands with their reasons."""
    summary = document.summary
    rows = [
        (
            _precision(share.precision),
            f"{share.nodes}",
            format_amount(share.bytes, "bytes"),
            format_amount(share.parameter_bytes, "bytes"),
            "" if document.unit == "points" else format_amount(round(share.time), document.unit),
        )
        for share in summary.shares
    ]
    price = "" if document.unit == "points" else "price"
    shares = table(("precision", "nodes", "bytes moved", "parameters", price), rows)
    moved = f", {format_amount(summary.cast_bytes, 'bytes')} a run" if summary.casts else ""
    line = f"<div><b>{cell(document.name)}</b>: {document.state}, {summary.casts} casts{moved}</div>"
    reasons = Counter((island.cause, island.why) for island in summary.islands)
    return line + shares + _reasons("float32 islands", reasons)


def plan_table(plan: Plan) -> str:
    """Decisions by precision, casts, and what holds decisions in float32."""
    counts = Counter(choice.precision.value for choice in plan.choices.values())
    kept = Counter(
        (cause_of(choice), choice.why) for choice in plan.choices.values() if choice.precision is Precision.FLOAT32
    )
    before, after = (format_amount(amount, plan.unit) for amount in (plan.baseline, plan.cost))
    line = f"<div><b>{plan.precision} plan</b>, objective {cell(plan.objective)}: {len(plan.casts)} casts"
    line += f", {before} → {after}</div>"
    rows = [(_precision(name), f"{number}") for name, number in counts.most_common()]
    return line + table(("precision", "decisions"), rows) + _reasons("float32 decisions", kept)


def _reasons(title: str, counted: Counter[tuple[str, str]]) -> str:
    rows = [(f"{number}", cell(cause), cell(why)) for (cause, why), number in counted.most_common(REASONS)]
    if not rows:
        return ""
    more = len(counted) - REASONS
    tail = f"<div>and {more} more reasons</div>" if more > 0 else ""
    return table((title, "cause", "why"), rows) + tail


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of cells that are HTML already."""
    lines = (_row("td", row) for row in rows)
    titles, body = _row("th", [escape(name) for name in head]), "".join(lines)
    return f'<table style="{_STYLE}"><thead>{titles}</thead><tbody>{body}</tbody></table>'


def _row(tag: str, cells: Sequence[str]) -> str:
    opening = f'<{tag} style="{_CELL}">'
    return f"<tr>{''.join(f'{opening}{cell}</{tag}>' for cell in cells)}</tr>"


def _precision(name: str) -> str:
    mark = _MARKS.get(name, "#888888")
    return f'<span style="color:{mark}">&#9632;</span> {cell("no floats" if name == "other" else name)}'


def cell(text: str) -> str:
    """Text as text: cut, escaped, and kept from turning its surroundings around."""
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return f"<bdi>{escape(cut)}</bdi>"
