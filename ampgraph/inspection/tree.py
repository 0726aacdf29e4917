"""Tree: the modules of a document in a terminal, each with a bar of its precisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from ampgraph.inspection.document import Document
from ampgraph.inspection.summary import price_of
from ampgraph.inspection.text import COLOURS, amount, short

NAME, BAR, NODES, PRICE = 36, 16, 6, 11  # columns
MODULES = 400  # shown
_LETTERS = {"float32": "▒", "other": "·"}  # the low precision is solid
_LOW = "█"


@dataclass(frozen=True)
class Tally:
    """What a module and all inside it hold: weights and nodes by precision, casts, price."""

    weights: Mapping[str, float]
    nodes: Mapping[str, int]
    casts: int
    time: float


def tree(document: Document, depth: int) -> RenderableType:
    """Modules down to `depth` levels under the root, in order. Bars share out modelled time, or nodes without it."""
    tallies, children = tally(document), _children(document)
    low = document.precision
    legend = f"{_LOW} {low}, {_LETTERS['float32']} float32, {_LETTERS['other']} no floats, by {_measure(document)}"
    lines = [Text(legend, style="dim"), _header(document), *_lines(document, tallies, children, depth)]
    if len(lines) > MODULES:
        more = f"... and {len(lines) - MODULES} more modules (a smaller --depth shows fewer)"
        lines = [*lines[:MODULES], Text(more)]
    return Group(*lines)


def _measure(document: Document) -> str:
    return "nodes" if document.unit == "points" else "time" if document.unit == "picoseconds" else "bytes"


def tally(document: Document) -> list[Tally]:
    """One for each module, everything inside it included."""
    modules = document.graph.modules
    weights: list[dict[str, float]] = [{} for _ in modules]
    nodes: list[dict[str, int]] = [{} for _ in modules]
    casts, times = [0] * len(modules), [0.0] * len(modules)
    for node in document.graph.nodes:
        if node.kind == "cast":
            casts[node.module] += 1
            times[node.module] += node.high or 0.0
        elif node.kind == "op":
            price = price_of(node)
            weight = 1.0 if document.unit == "points" else price
            weights[node.module][node.precision] = weights[node.module].get(node.precision, 0.0) + weight
            nodes[node.module][node.precision] = nodes[node.module].get(node.precision, 0) + 1
            times[node.module] += price
    for place in range(len(modules) - 1, 0, -1):  # children come after their parents
        parent = modules[place].parent
        casts[parent] += casts[place]
        times[parent] += times[place]
        for precision, weight in weights[place].items():
            weights[parent][precision] = weights[parent].get(precision, 0.0) + weight
        for precision, number in nodes[place].items():
            nodes[parent][precision] = nodes[parent].get(precision, 0) + number
    return [Tally(*row) for row in zip(weights, nodes, casts, times, strict=True)]


def _children(document: Document) -> dict[int, list[int]]:
    """Modules by parent, in the order in which the model reaches them."""
    first: dict[int, int] = {}
    modules = document.graph.modules
    for order, node in enumerate(document.graph.nodes):
        place = node.module
        while place >= 0 and place not in first:
            first[place] = order
            place = modules[place].parent
    found: dict[int, list[int]] = {}
    for place in sorted(first, key=lambda each: first[each]):
        found.setdefault(modules[place].parent, []).append(place)
    return found


def _lines(
    document: Document, tallies: Sequence[Tally], children: Mapping[int, Sequence[int]], depth: int
) -> Iterator[Text]:
    waiting = [(0, 0)]
    while waiting:
        place, level = waiting.pop()
        yield _line(document, place, level, tallies[place])
        if level < depth:
            waiting.extend((child, level + 1) for child in reversed(children.get(place, ())))


def _line(document: Document, place: int, level: int, tallied: Tally) -> Text:
    module = document.graph.modules[place]
    kind = f" ({short(module.type, 24)})" if module.type else ""
    name = short(f"{module.name}{kind}" if level else document.name, max(NAME - 2 * level, 8))
    line = Text(f"{'  ' * level}{name}".ljust(NAME) + " ")
    line.append_text(bar(tallied))
    price = "" if document.unit == "points" else amount(tallied.time, document)
    line.append(f"{sum(tallied.nodes.values()):>{NODES}}{price:>{PRICE}}{tallied.casts or '':>6}")
    return line


def _header(document: Document) -> Text:
    price = {"picoseconds": "time", "bytes": "bytes"}.get(document.unit, "")
    return Text(f"{'module':<{NAME}} {'precision':<{BAR}}{'nodes':>{NODES}}{price:>{PRICE}}{'casts':>6}", style="bold")


def bar(tallied: Tally) -> Text:
    """A bar of fixed width; a precision that is there at all has a cell of it, by nodes where nothing is priced."""
    shares = tallied.weights if sum(tallied.weights.values()) > 0 else {k: float(n) for k, n in tallied.nodes.items()}
    present = sorted(shares, key=lambda name: (name == "other", name == "float32", name))
    cells = _cells([shares[name] for name in present])
    line = Text()
    for name, width in zip(present, cells, strict=True):
        line.append(_LETTERS.get(name, _LOW) * width, style=COLOURS.get(name, ""))
    line.append(" " * (BAR - sum(cells)))
    return line


def _cells(weights: Sequence[float]) -> list[int]:
    """Cells in proportion, one at least for each, the largest taking what rounding leaves."""
    total = sum(weights)
    if total <= 0:
        return [0] * len(weights)
    cells = [max(1, round(BAR * weight / total)) for weight in weights]
    cells[weights.index(max(weights))] += BAR - sum(cells)
    return cells
