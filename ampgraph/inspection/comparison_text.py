"""A comparison as plain text for a terminal: at most 80 columns, no colour."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from ampgraph.inspection.comparison import Comparison, Difference
from ampgraph.settings import words_of_shapes
from ampgraph.wording import are, numbered

WIDTH = 80
OUTPUTS = 12  # shown; the JSON has all
_COLUMNS = "  {:>9} {:>9} {:>9} {:>9}  {}"


def to_text(comparison: Comparison) -> str:
    """What `ampgraph compare` prints."""
    blocks = [_head(comparison), _outputs(comparison), _firsts(comparison), _worst(comparison), _tail(comparison)]
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"


def _wrapped(text: str, indent: str = "", hanging: str = "") -> list[str]:
    """Lines of a sentence; a command is not broken at its hyphens."""
    return textwrap.wrap(
        _printable(text), WIDTH, initial_indent=indent, subsequent_indent=indent + hanging, break_on_hyphens=False
    ) or [indent]


def _printable(text: str) -> str:
    """Names may hold what would steer a terminal: it is shown as its escape."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def _head(comparison: Comparison) -> Iterator[str]:
    yield from _wrapped(f"{comparison.candidate} against {comparison.reference}")
    yield from _wrapped(f"on the {comparison.runtime}" if comparison.ran == "evaluator" else comparison.runtime)
    yield from _wrapped(_fed(comparison))
    beyond = sum(not value.within for value in comparison.values)
    others = comparison.unmatched
    alone = f"; {numbered(others, 'other')} {are(others)} in the second model alone" if others else ""
    compared = numbered(len(comparison.values), "value")
    text = f"{compared} compared, {beyond} beyond the tolerance of {comparison.tolerance:g}"
    yield from _wrapped(text + alone)


def _fed(comparison: Comparison) -> str:
    """What the models were run on."""
    shapes = words_of_shapes(comparison.shapes)
    named = comparison.inputs in ("generated", "given")
    said = f"{comparison.inputs} inputs" if named else f"inputs of {comparison.inputs}"
    return f"{said}: {shapes}" if shapes else said


def _outputs(comparison: Comparison) -> Iterator[str]:
    yield "outputs"
    for output in comparison.outputs[:OUTPUTS]:
        said = "within" if output.within else "BEYOND"
        yield from _wrapped(f"{said}  {output.name}: {_error(output)}", "  ", "        ")
    if len(comparison.outputs) > OUTPUTS:
        rest = comparison.outputs[OUTPUTS:]
        yield f"  and {len(rest)} more, {sum(not output.within for output in rest)} of them beyond (--json has them)"


def _error(value: Difference) -> str:
    if not value.elements and not value.mismatch:
        return "no elements"
    shapes = value.mismatch and not value.elements
    parts = [] if shapes else [f"relative L2 error {value.relative:.2e}, largest {value.largest:.2e}"]
    counts = {"not finite": value.overflowed, "flushed to zero": value.flushed, "clamped": value.clamped}
    parts += [f"{count:,} of {value.elements:,} {what}" for what, count in counts.items() if count]
    return ", ".join([*parts, *([value.mismatch] if value.mismatch else [])])


def _firsts(comparison: Comparison) -> Iterator[str]:
    named = {
        "first value beyond tolerance": comparison.first_beyond,
        "first overflow": comparison.first_overflow,
        "first flush to zero": comparison.first_flush,
    }
    values = {value.value: value for value in comparison.values}
    shown: set[str] = set()
    for title, id in named.items():
        if not id:
            yield f"{title}: none"
        elif id in shown:
            yield from _wrapped(f"{title}: the same, {values[id].name}", "", "  ")
        else:
            yield from _wrapped(f"{title}: {values[id].name}", "", "  ")
            yield from _finding(comparison, values[id])
            shown.add(id)


def _finding(comparison: Comparison, value: Difference) -> Iterator[str]:
    yield from _wrapped(f"made by {value.type} {value.node!r}: {_error(value)}", "  ")
    if value.elements:
        numbers = f"{value.reference:.6g} in the first, {value.found:.6g} in the second"
        alone = math.isfinite(value.reference) is not math.isfinite(value.found)
        what = "first element that one alone has finite" if alone else "largest difference"
        yield from _wrapped(f"{what}, at {_index(value.at)}: {numbers}", "  ")
    if value.flushed:
        yield from _wrapped(f"first flushed to zero, at {_index(value.flushed_at)}", "  ")
    for advice in comparison.advice:
        if advice.value == value.value:
            if advice.why:
                yield from _wrapped(f"recorded: {advice.why}", "  ")
            if not value.within:  # what was lost may be what nobody misses: the error says so
                yield from _wrapped(f"next: {advice.remedy}", "  ", "  ")


def _index(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]"


def _worst(comparison: Comparison) -> Iterator[str]:
    if not comparison.worst:
        return
    values = {value.value: value for value in comparison.values}
    yield f"worst {len(comparison.worst)}" if len(comparison.worst) > 1 else "worst"
    yield _COLUMNS.format("rel. L2", "largest", "infinite", "flushed", "value, operator")
    for id in comparison.worst:
        value = values[id]
        numbers = (f"{value.relative:.2e}", f"{value.largest:.2e}", str(value.overflowed), str(value.flushed))
        label = _printable(f"{value.name}, {value.type}")
        row = _COLUMNS.format(*numbers, label)
        if len(row) <= WIDTH:
            yield row
        else:
            yield _COLUMNS.format(*numbers, "").rstrip()
            yield from _wrapped(label, "      ")


def _tail(comparison: Comparison) -> Iterator[str]:
    for note in comparison.notes:
        yield from _wrapped(f"note: {note}")
    verdict = "within" if comparison.within else "NOT within"
    yield f"outputs are {verdict} the tolerance"
