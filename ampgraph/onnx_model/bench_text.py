"""A bench as a table of 100 columns, as JSON, and as a picture."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

from ampgraph.onnx_model.bench import Bench, Row, Spread
from ampgraph.onnx_model.given import GENERATED
from ampgraph.settings import words_of_shapes
from ampgraph.wording import numbered

VERSION = 1
COLUMNS = 100
_HEADER = ("model", "batch", "ms (quartiles)", "gain (quartiles)", "rel. L2", "largest", "MB")
_GAP = "  "
_WIDTH, _BAR, _LEFT, _RIGHT, _HEAD = 800, 18, 260, 90, 34
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")


def to_table(bench: Bench) -> str:
    """Rows in columns, what was not done as asked for beneath, and what the figures are."""
    cells = [_cells(row) for row in bench.rows]
    widths = [max(map(len, column)) for column in zip(_HEADER, *cells, strict=True)]
    widths[0] = min(widths[0], COLUMNS - sum(widths[1:]) - len(_GAP) * (len(widths) - 1))
    lines = [_line(words, widths) for words in (_HEADER, ["-" * width for width in widths], *cells)]
    lines += [f"{row.model}: {note}" for row in _one_a_model(bench.rows) for note in row.notes]
    lines += [*_unlike(bench.rows), *_generated(bench)]
    graphs = [row.model for row in _one_a_model(bench.rows) if row.cuda_graph]
    rounds = numbered(bench.rounds, "interleaved round")
    said = f"{bench.provider}, {bench.inputs} inputs, {rounds}; gain over the first model"
    return "\n".join([*lines, said, *([f"as CUDA graphs: {', '.join(graphs)}"] if graphs else [])])


def to_json(bench: Bench) -> str:
    """The bench as JSON, layout version 1.

    `version`, `provider`, `inputs` ("generated" or a file), `rounds`, and `rows`, one for every batch and model in the
    order given: `model`, `batch` (0: inputs as they are), `shapes` by input, `ms` and `gain` (each `median`, `low` and
    `high` quartile; gain is the first model's time over this one's, paired by round), `error` against the first model
    (`relative` L2 and `largest` difference of the worst output, `mismatch` in words, `blank`
    for what the first model answers instead of anything to compare with), `memory` (peak bytes of GPU or
    process, null where not known), `cuda_graph`, `nhwc`, `notes`, `on_cpu` (nodes). An infinite number is null.
    """
    return json.dumps({"version": VERSION, **_finite(asdict(bench))}, indent=1, allow_nan=False) + "\n"


def to_svg(bench: Bench) -> str:
    """Bars of median milliseconds with quartile whiskers, a group for each batch."""
    longest = max(row.ms.high for row in bench.rows) or 1.0
    scale = (_WIDTH - _LEFT - _RIGHT) / longest
    models = list(dict.fromkeys(row.model for row in bench.rows))
    root = ElementTree.Element("svg", xmlns="http://www.w3.org/2000/svg", width=str(_WIDTH))
    root.set("font-family", "sans-serif")
    root.set("font-size", "12")
    ElementTree.SubElement(root, "rect", width="100%", height="100%", fill="white")
    _text(root, 10, 20, f"milliseconds a run, {bench.provider}, median and quartiles")
    top, batch = float(_HEAD), -1
    for row in bench.rows:
        if row.batch != batch:
            batch = row.batch
            top += _BAR
            _text(root, 10, top, f"batch {batch}" if batch else "inputs as they are", weight="bold")
            top += _BAR / 3
        _bar(root, row, top, scale, _COLOURS[models.index(row.model) % len(_COLOURS)])
        top += _BAR * 1.3
    root.set("height", f"{top + _BAR:.0f}")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def figure(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if 100 <= value < 1e6 else f"{value:.3g}"


def spread_text(spread: Spread) -> str:
    """A median with its quartiles in brackets."""
    return f"{figure(spread.median)} ({figure(spread.low)}-{figure(spread.high)})"


def _cells(row: Row) -> list[str]:
    error = row.error
    return [
        row.model,
        str(row.batch) if row.batch else "-",
        spread_text(row.ms),
        spread_text(row.gain),
        "differs" if error.mismatch else "-" if error.blank else figure(error.relative),
        "-" if error.blank else figure(error.largest),
        "-" if row.memory is None else figure(row.memory / 1e6),
    ]


def _generated(bench: Bench) -> list[str]:
    """Of what shapes inputs were made, batch by batch, where they were."""
    shapes = dict.fromkeys(words_of_shapes(row.shapes) for row in bench.rows)
    said = f"generated inputs: {'; '.join(shapes)}" if bench.inputs == GENERATED and any(shapes) else ""
    return textwrap.wrap(said, COLUMNS, break_long_words=False, break_on_hyphens=False)


def _unlike(rows: Sequence[Row]) -> Iterator[str]:
    """What no distance says of the answers, for each model at the first batch where there is something."""
    if blank := next((row.error.blank for row in rows if row.error.blank), ""):
        yield f"answers are not compared: {rows[0].model} answers with {blank}; give real inputs with --data"
    yield from (
        f"{row.model}: other answers than {rows[0].model} ({row.error.mismatch})"
        for row in _one_a_model([row for row in rows if row.error.mismatch])
    )


def _line(words: Sequence[str], widths: Sequence[int]) -> str:
    name, *others = words
    first = _shortened(name, widths[0]).ljust(widths[0])
    return _GAP.join([first, *(word.rjust(width) for word, width in zip(others, widths[1:], strict=True))])


def _shortened(name: str, width: int) -> str:
    """A name without its middle: what tells conversions of a model apart stands at the end."""
    if len(name) <= width:
        return name
    tail = (width - 2) * 2 // 3
    return f"{name[: width - 2 - tail]}..{name[-tail:]}"


def _one_a_model(rows: Sequence[Row]) -> list[Row]:
    return list({row.model: row for row in reversed(rows)}.values())[::-1]


def _finite(value: Any) -> Any:  # noqa: ANN401  (whatever JSON can say)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def _bar(root: ElementTree.Element, row: Row, top: float, scale: float, colour: str) -> None:
    middle, end = top + _BAR / 2, _LEFT + row.ms.median * scale
    _text(root, _LEFT - 6, middle + 4, _shortened(row.model, 38), anchor="end")
    place = {"x": f"{_LEFT}", "y": f"{top:.1f}", "width": f"{end - _LEFT:.1f}", "height": f"{_BAR}"}
    ElementTree.SubElement(root, "rect", {**place, "fill": colour})
    whisker = {"x1": f"{_LEFT + row.ms.low * scale:.1f}", "x2": f"{_LEFT + row.ms.high * scale:.1f}"}
    ElementTree.SubElement(root, "line", {**whisker, "y1": f"{middle}", "y2": f"{middle}", "stroke": "black"})
    _text(root, _LEFT + row.ms.high * scale + 6, middle + 4, figure(row.ms.median))


def _text(
    root: ElementTree.Element, x: float, y: float, words: str, anchor: str = "start", weight: str = "normal"
) -> None:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "font-weight": weight}
    ElementTree.SubElement(root, "text", place).text = words
