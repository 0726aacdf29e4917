"""Text: a document's summary and module tree for a terminal, as rich renderables; plain text where it is piped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import StringIO

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ampgraph.inspection.document import Boundary, Document, Island, KeptParameter, Node, Share
from ampgraph.reasons import format_amount
from ampgraph.report_text import counted

WIDTH = 80
COLOURS = {"float16": "green", "bfloat16": "cyan", "float32": "yellow", "other": "bright_black"}
ISLANDS, HOLDS, BOUNDARIES, PARAMETERS = 8, 3, 6, 5  # shown; --json has all
LONGEST = 60  # characters of a name
STATES = {
    "converted": "converted by ampgraph",
    "planned": "not converted yet: what `ampgraph convert` would do",
    "found": "as it was found",
}


def plain(renderable: RenderableType, width: int = WIDTH) -> str:
    """A renderable as text without colours."""
    console = Console(file=StringIO(), width=width, no_color=True, force_terminal=False, highlight=False)
    console.print(renderable)
    assert isinstance(console.file, StringIO)  # what it was made with
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def summary(document: Document) -> Group:
    """The first screen: how much is in which precision, what casts cost, what stays float32 and why."""
    screen = _Screen(document)
    blocks = (_head(document), _shares(document), _figures(screen), *_lists(screen), _remarks(document))
    return Group(*(block for block in blocks if block is not None))


@dataclass(frozen=True)
class _Screen:
    """A document with what is looked up in it again and again."""

    document: Document

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by id."""
        return {node.id: node for node in self.document.graph.nodes}

    @cached_property
    def names(self) -> Mapping[str, str]:
        """Names of values by id."""
        return {value.id: short(value.name) for value in self.document.graph.values}

    def title(self, node: str) -> str:
        """Type and name of a node."""
        found = self.nodes[node]
        return f"{short(found.type)} {short(found.name or found.id)}"

    def cause(self, cause: str, rule: int) -> str:
        """What settled something, with the rule's name."""
        return f"{cause} {self.document.rules[rule].name}" if rule >= 0 else cause


def _head(document: Document) -> RenderableType:
    where = f"{document.target} on {document.device}, objective {document.objective}"
    lines = [Text(short(document.name), style="bold"), Text(f"{STATES[document.state]}; {where}")]
    shapes = (f"{short(name)}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in document.shapes.items())
    if document.shapes:
        lines.append(Text(f"modelled at {', '.join(shapes)}", style="dim"))
    return Group(*lines, "")


def _shares(document: Document) -> RenderableType:
    """Nodes, operations, bytes, parameters and time by precision."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("precision")
    for name in ("nodes", "FLOPs", "bytes moved", "parameters", *_priced(document)):
        table.add_column(name, justify="right")
    for share in document.summary.shares:
        table.add_row(*_share_row(document, share), style=COLOURS.get(share.precision, ""))
    return Padding(table, (0, 0, 1, 0))


def _priced(document: Document) -> tuple[str, ...]:
    """What the document's unit measures; nothing for points."""
    return {"picoseconds": ("modelled time",), "bytes": ("live bytes",)}.get(document.unit, ())


def _share_row(document: Document, share: Share) -> Iterator[str]:
    yield "no floats" if share.precision == "other" else share.precision
    yield f"{share.nodes}"
    yield count(share.operations)
    yield format_amount(share.bytes, "bytes")
    yield format_amount(share.parameter_bytes, "bytes")
    if _priced(document):
        yield amount(share.time, document)


def _figures(screen: _Screen) -> RenderableType:
    document, summary = screen.document, screen.document.summary
    lines = [f"casts: {_casts(document)}"]
    if _priced(document):
        what = "whole model" if document.unit == "picoseconds" else "memory"
        before, after = (amount(price, document) for price in (summary.before, summary.after))
        how = "as planned" if document.state == "planned" else "as it is"
        lines.append(f"{what}: {before} in float32, {after} {how}" if before != after else f"{what}: {after}")
    if summary.cpu_nodes:
        types = Counter(screen.nodes[id].type for id in summary.cpu_nodes)
        lines.append(f"on the CPU provider: {counted(dict(types.most_common()))}")
    return Text("\n".join(lines))


def _casts(document: Document) -> str:
    summary = document.summary
    if not summary.casts:
        return "0"
    costs = f", taking {amount(summary.cast_time, document)}" if _priced(document) else ""
    return f"{summary.casts} move {format_amount(summary.cast_bytes, 'bytes')} a run{costs}"


def _lists(screen: _Screen) -> Iterator[RenderableType]:
    summary, boundaries = screen.document.summary, screen.document.graph.boundaries
    parameters = format_amount(sum(each.bytes for each in summary.kept_parameters), "bytes")
    for title, entries in (
        (f"float32 islands: {len(summary.islands)}", _islands(screen)),
        (f"parameters in float32: {len(summary.kept_parameters)}, {parameters}", _parameters(screen)),
        (
            f"{'dearest' if _priced(screen.document) else 'largest'} boundaries, of {len(boundaries)}",
            _boundaries(screen),
        ),
    ):
        found = list(entries)
        if found:
            yield Group("", Text(title, style="bold"), *found)


def _islands(screen: _Screen) -> Iterator[RenderableType]:
    """Islands with one reason together."""
    groups: dict[tuple[str, int, str], list[Island]] = {}
    for island in screen.document.summary.islands:
        told = island.holds[0]
        spoken = "" if told.rule >= 0 or told.cause == "cost" else told.why
        groups.setdefault((told.cause, told.rule, spoken), []).append(island)
    ordered = sorted(groups.values(), key=lambda each: -sum(island.time for island in each))
    for islands in ordered[:ISLANDS]:
        yield from entry(_island_title(screen, islands), islands[0].why)
        yield from _other_holds(screen, islands)
    if len(ordered) > ISLANDS:
        yield Text(f"  and {len(ordered) - ISLANDS} more reasons (--json has them)")


def _other_holds(screen: _Screen, islands: Sequence[Island]) -> Iterator[RenderableType]:
    """Besides the reason that islands are told by, what holds some of their nodes."""
    counted: Counter[tuple[str, int]] = Counter()
    sentences: dict[tuple[str, int], str] = {}
    for hold in (hold for island in islands for hold in island.holds[1:]):
        counted[hold.cause, hold.rule] += hold.nodes
        sentences.setdefault((hold.cause, hold.rule), hold.why)
    found = counted.most_common(HOLDS)
    for ground, nodes in found:
        held = f"{nodes} {'node' if nodes == 1 else 'nodes'} by {screen.cause(*ground)}"
        yield Padding(Text(short(f"{held}: {sentences[ground]}", 4 * WIDTH), style="dim"), (0, 0, 0, 4))
    if len(counted) > len(found):
        yield Padding(Text(f"and {len(counted) - len(found)} more reasons (--json has them)"), (0, 0, 0, 4))


def _island_title(screen: _Screen, islands: Sequence[Island]) -> str:
    types: Counter[str] = Counter()
    for island in islands:
        types.update(island.types)
    places = f"{len(islands)} islands" if len(islands) > 1 else "1 island"
    held, first = counted(dict(types.most_common()), 3), screen.title(islands[0].nodes[0])
    told = islands[0].holds[0]
    return f"{screen.cause(told.cause, told.rule)}: {places}, {held}, from {first}"


def _parameters(screen: _Screen) -> Iterator[RenderableType]:
    """Parameters whose readers have one reason together, most bytes first."""
    groups: dict[tuple[str, int, str], list[KeptParameter]] = {}
    for kept in screen.document.summary.kept_parameters:
        rule = screen.nodes[kept.reader].rule
        groups.setdefault((kept.cause, rule, kept.why if rule < 0 else ""), []).append(kept)
    ordered = sorted(groups.items(), key=lambda item: -sum(kept.bytes for kept in item[1]))
    for (cause, rule, _), members in ordered[:PARAMETERS]:
        size, largest = sum(kept.bytes for kept in members), max(members, key=lambda kept: kept.bytes)
        held = f"{len(members)}, {format_amount(size, 'bytes')}; {screen.names[largest.value]}"
        yield from entry(f"{screen.cause(cause, rule)}: {held} read by {screen.title(largest.reader)}", members[0].why)
    if len(ordered) > PARAMETERS:
        yield Text(f"  and {len(ordered) - PARAMETERS} more reasons (--json has them)")


def _boundaries(screen: _Screen) -> Iterator[RenderableType]:
    for boundary in screen.document.graph.boundaries[:BOUNDARIES]:
        yield from entry(_boundary_title(screen, boundary), boundary.why)


def _boundary_title(screen: _Screen, boundary: Boundary) -> str:
    """Value, precisions, bytes and cost in a line."""
    moved = f"moves {format_amount(boundary.bytes, 'bytes')}" if boundary.bytes is not None else "of unknown size"
    priced = boundary.cost is not None and _priced(screen.document)
    cost = f", costs {amount(boundary.cost or 0, screen.document)}" if priced else ""
    return f"{screen.names[boundary.value]}: {boundary.source} -> {boundary.target}, {moved}{cost}"


def _remarks(document: Document) -> RenderableType | None:
    notes = document.summary.notes
    return Group("", *(Text(f"note: {short(note, 4 * WIDTH)}") for note in notes)) if notes else None


def entry(title: str, why: str) -> Iterator[RenderableType]:
    """A line, and what is said of it beneath."""
    yield Padding(Text(title), (0, 0, 0, 2))
    yield Padding(Text(short(why, 4 * WIDTH), style="dim"), (0, 0, 0, 4))


def amount(number: float, document: Document) -> str:
    """A price in the document's unit."""
    return format_amount(round(number), document.unit) if number else "0"


def count(number: int) -> str:
    """A number of operations: 4.09 G."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)


def short(name: str, longest: int = LONGEST) -> str:
    """A name in one line, without what would move the cursor or turn the text around."""
    return _cut("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name[:10_000]), longest)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
