"""A report as plain text for a terminal: at most 80 columns, no colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ampgraph.judgement import Cause
from ampgraph.reasons import format_amount
from ampgraph.report import NO_FLOAT, Kept, KeptParameter, Report
from ampgraph.wording import numbered

if TYPE_CHECKING:
    from ampgraph.onnx_model.bench import Spread
    from ampgraph.onnx_model.check import Check
    from ampgraph.onnx_model.compare import OutputError
    from ampgraph.onnx_model.tune import Trial, Tuned

WIDTH = 80
LABEL = 16
GROUPS = 8  # reasons shown; the JSON report has all
PARAMETERS = 5
TYPES = 6


def to_text(report: Report) -> str:
    """The summary that `ampgraph convert` prints."""
    blocks = [
        [*_head(report), *_verdict(report)],
        _figures(report),
        _stayed(report),
        _parameters(report),
        _remarks(report),
    ]
    if report.tuned is not None:
        blocks.append(tuned_lines(report.tuned))
    if report.check is not None:
        blocks.append(check_lines(report.check))
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"


def wrapped(text: str, indent: str = "") -> list[str]:
    """A sentence cut into lines; long names are broken rather than overflowing."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent) or [indent]


def _row(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<{LABEL}} ", subsequent_indent=" " * (LABEL + 1))


def _head(report: Report) -> Iterator[str]:
    arrow = f" -> {report.destination}" if report.destination else ""
    yield from wrapped(f"{report.source}{arrow}")
    where = f"{report.target} on {report.device}" if report.target != "onnx" else f"any ONNX runtime on {report.device}"
    yield from wrapped(f"{report.precision} for {where}, objective {report.objective}")


def _verdict(report: Report) -> Iterator[str]:
    """Whether anything was gained, before the figures that say how."""
    if report.already_converted:
        yield from wrapped("converted by ampgraph with these options already: the model is written as it is")
    elif report.lowers_nothing:
        yield from wrapped(nothing_to_convert(report))
    if report.needed_opsets:
        yield from wrapped(_held_back(report))
    if report.unit != "points":
        yield from wrapped(_prices(report))


def _held_back(report: Report) -> str:
    """The opset that admits the most: the latest one, since later schemas admit what earlier ones did."""
    types, opset = list(report.needed_opsets), max(report.needed_opsets.values())
    shown = f"{', '.join(types[:TYPES])} and {len(types) - TYPES} more" if len(types) > TYPES else ", ".join(types)
    admit, them = ("admit", "all of them") if len(types) > 1 else ("admits", "it")
    return f"{shown} {admit} {report.precision} in later opsets alone: give --opset {opset} to convert {them}"


def _prices(report: Report) -> str:
    """`modelled time 230.8 us, 138.1 us fused, 97.2 us as planned`."""
    what = "modelled time" if report.unit == "picoseconds" else "modelled memory"
    source, fused, planned = (
        format_amount(price, report.unit) if price is not None else ""
        for price in (report.source_price, report.before, report.after)
    )
    steps = (source, "" if report.source_price == report.before else f"{fused} fused", f"{planned} as planned")
    return f"{what} {', '.join(filter(None, steps))}"


def _figures(report: Report) -> Iterator[str]:
    counts = ", ".join(f"{count} {_kind(name)}" for name, count in report.nodes.items())
    yield from _row("nodes", counts)
    coverage = report.coverage
    if coverage.share is not None:
        share = f"{100 * coverage.share:.1f} %"
        yield from _row("coverage", f"{share}: {coverage.low} of {coverage.eligible} ops worth low precision have it")
    moved = f", {format_amount(report.cast_bytes, 'bytes')} a run" if report.cast_bytes else ""
    yield from _row("casts", f"{report.casts}{moved}")
    before, after = report.parameter_bytes_before, report.parameter_bytes_after
    yield from _row("parameters", f"{format_amount(before, 'bytes')} -> {format_amount(after, 'bytes')}")
    if report.session is not None:
        yield from _row("session", report.session.words)
    if report.shapes:
        yield from _row("modelled at", _shapes(report))


def _kind(name: str) -> str:
    return "without floats" if name == NO_FLOAT else name


def _shapes(report: Report) -> str:
    shown = ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in report.shapes.items())
    if not report.assumed:
        return shown
    return f"{shown} (free dimensions of {', '.join(report.assumed)} are assumed; say yours with --shape)"


def _stayed(report: Report) -> Iterator[str]:
    if not report.kept:
        return
    yield "stayed float32"
    for kept in report.kept[:GROUPS]:
        yield from _kept(kept)
    hidden = report.kept[GROUPS:]
    if hidden:
        nodes = numbered(sum(kept.count for kept in hidden), "node")
        yield f"  and {nodes} for {numbered(len(hidden), 'other reason')} (--report has them)"


def _kept(kept: Kept) -> Iterator[str]:
    types = counted(kept.types)
    title = f"{kept.cause} {kept.rule}".strip()
    yield from wrapped(f"{title}: {types}, such as {', '.join(kept.examples)}", "  ")
    yield from wrapped(kept.why, "    ")


def counted(types: Mapping[str, int], limit: int = 6) -> str:
    """`12 Conv, 3 Add`, the most frequent ones."""
    shown = [f"{count} {name}" for name, count in list(types.items())[:limit]]
    more = len(types) - limit
    return ", ".join([*shown, f"{numbered(more, 'more type')}"] if more > 0 else shown)


def _parameters(report: Report) -> Iterator[str]:
    """Only those that stayed for their own numbers: the others follow from the nodes above."""
    own = [kept for kept in report.kept_parameters if kept.cause == Cause.PARAMETER]
    total = sum(kept.bytes for kept in report.kept_parameters)
    if not report.kept_parameters or (report.changes_nothing and not own):
        return
    yield f"parameters that stayed float32: {len(report.kept_parameters)}, {format_amount(total, 'bytes')}"
    for kept in own[:PARAMETERS]:
        yield from _parameter(kept)
    if len(own) > PARAMETERS:
        yield f"  and {len(own) - PARAMETERS} more for their numbers (--report has them)"


def _parameter(kept: KeptParameter) -> Iterable[str]:
    why = kept.why.removeprefix(f"{kept.name}: ")
    return wrapped(f"{kept.name} ({format_amount(kept.bytes, 'bytes')}, read by {kept.consumer}): {why}", "  ")


def _remarks(report: Report) -> Iterator[str]:
    for line in _remark_sentences(report):
        yield from wrapped(line)


def _remark_sentences(report: Report) -> Iterator[str]:
    if report.unknown_ops:
        yield f"no rule knows: {counted(report.unknown_ops)}; they stay float32 (teach them with --rules)"
    if report.cpu_ops:
        yield f"on the CPU provider in any precision: {counted(report.cpu_ops)}"
    if report.checker:
        yield f"onnx's checker complains of the source and of the result: {report.checker}"
    yield from (f"note: {note}" for note in report.notes)
    yield from (f"warning: {warning}" for warning in report.warnings)


def nothing_to_convert(report: Report) -> str:
    """The line for a model in which nothing becomes low: fused alone, or written as it is."""
    by_cost = sum(kept.count for kept in report.kept if kept.cause == "cost")
    lead, what = "nothing to convert", "the model is written as it is"
    if not report.changes_nothing:
        lead, what = f"nothing becomes {report.precision}", "operators are fused, and that is all"
    if report.session is not None:
        return f"{lead}: {what}, with the session's setting in its metadata"
    if not by_cost:
        return f"{lead}: {what}"
    if report.objective == "coverage":
        return f"{lead}: nothing that may be {report.precision} is worth a cast; {what}"
    return (
        f"{lead}: under --objective {report.objective} on {report.device}, {report.precision} pays nowhere "
        f"at these shapes; {what} (larger shapes: --shape; all that is legal: --objective coverage)"
    )


def check_lines(check: Check) -> Iterator[str]:
    """The outcome of `--check`."""
    how = ", low precision computed by ampgraph since this provider has none" if check.simulated else ""
    yield from wrapped(f"checked on {check.provider} with {check.inputs} inputs{how}")
    for output in check.outputs:
        yield from wrapped(f"{output.name}: {_found(output, check.bar)}", "  ")
    if check.judged:
        still = check.judged - len(check.lowered)
        yield from wrapped(
            f"of {numbered(check.judged, 'node')} kept float32 for their numbers, the runtime keeps {still}", "  "
        )
    opens = (
        f"does not open in a CPU session: {check.cpu_complaint}" if check.cpu_complaint else "opens in a CPU session"
    )
    yield from wrapped(opens, "  ")
    yield from (line for failure in check.failures for line in wrapped(f"FAILED: {failure}", "  "))


def _found(output: OutputError, bar: float) -> str:
    if output.mismatch or output.blank:
        return output.mismatch or f"nothing to compare, the source answers with {output.blank}"
    return f"relative L2 error {output.relative:.2e}, at most {bar:.2g} is allowed; largest {output.largest:.2e}"


def tuned_lines(tuned: Tuned) -> Iterator[str]:
    """The table of `--tune`: milliseconds with quartiles, error, low decisions, casts; setting and verdict beneath."""
    where = f"tuned on {tuned.device} with {tuned.inputs} inputs, all run {tuned.way}"
    how = f"{numbered(tuned.rounds, 'interleaved round')} of the fastest, after a heat of each against the source"
    yield from wrapped(f"{where}; milliseconds with quartiles, {how}")
    yield _tuned_row("candidate", "milliseconds", "rel. L2", "low", "casts")
    for row in tuned.rows:
        yield _trial(row)
        yield from wrapped(f"{row.setting.words}: {row.verdict}" if row.ms else row.verdict, "    ")
    for note in tuned.notes:
        yield from wrapped(f"note: {note}", "  ")


def _trial(row: Trial) -> str:
    error = "-" if row.error is None else f"{row.error:.1e}"
    return _tuned_row(row.name, _milliseconds(row.ms), error, str(row.low), str(row.casts))


def _tuned_row(name: str, ms: str, error: str, low: str, casts: str) -> str:
    return f"  {name:<24} {ms:>22} {error:>9} {low:>7} {casts:>7}"


def _milliseconds(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    digits = 3 if spread.high < 10 else 2 if spread.high < 100 else 0
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}-{spread.high:.{digits}f})"
