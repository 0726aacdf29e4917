"""Dot: a document as Graphviz text. Modules are clusters, precisions are colours, casts are marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ampgraph.inspection.document import Document, Node
from ampgraph.inspection.text import short

_FILLS = {"float16": "#c8e6c9", "bfloat16": "#b2dfdb", "float32": "#ffe0b2", "other": "#eceff1"}
_SHAPES = {"op": "box", "cast": "diamond", "input": "ellipse", "output": "ellipse"}
_LONGEST = 40


def to_dot(document: Document) -> str:
    """A digraph whose nodes are numbered in the document's order, for `dot -Tsvg`."""
    numbers = {node.id: number for number, node in enumerate(document.graph.nodes)}
    lines = [
        f"digraph {quoted(document.name)} {{",
        '  node [style="filled" fontname="sans-serif" fontsize=10];',
        *_clusters(document, numbers),
        *_edges(document, numbers),
        "}",
    ]
    return "\n".join(lines) + "\n"


def quoted(text: str, longest: int = 4096) -> str:
    """A string of the dot language. Backslashes are doubled: dot reads escapes in labels."""
    safe = short(text, longest).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{safe}"'


def _clusters(document: Document, numbers: dict[str, int]) -> Iterator[str]:
    """Modules inside each other, each with its own nodes."""
    modules = document.graph.modules
    children: dict[int, list[int]] = {}
    for place, module in enumerate(modules[1:], 1):
        children.setdefault(module.parent, []).append(place)
    inside: dict[int, list[Node]] = {}
    for node in document.graph.nodes:
        inside.setdefault(node.module, []).append(node)
    waiting: list[tuple[int, bool]] = [(0, True)]
    while waiting:
        place, opens = waiting.pop()
        if not opens:
            yield "  }"
            continue
        if place:
            yield f'  subgraph "cluster_{place}" {{ label={quoted(modules[place].name)};'
            waiting.append((place, False))
        yield from _nodes(inside.get(place, ()), numbers)
        waiting.extend((child, True) for child in reversed(children.get(place, ())))


def _nodes(nodes: Sequence[Node], numbers: dict[str, int]) -> Iterator[str]:
    for node in nodes:
        label = quoted(f"{short(node.type, _LONGEST)} {short(node.name, _LONGEST)}".strip())
        tip, fill = quoted(f"{node.precision}: {node.why}"), _FILLS.get(node.precision, "#ffffff")
        shape = _SHAPES[node.kind]
        yield f'  n{numbers[node.id]} [label={label} tooltip={tip} shape={shape} fillcolor="{fill}"];'


def _edges(document: Document, numbers: dict[str, int]) -> Iterator[str]:
    makers = {value: node.id for node in document.graph.nodes for value in node.outputs if value}
    values = {value.id: value for value in document.graph.values}
    for node in document.graph.nodes:
        for value in dict.fromkeys(node.inputs):
            if value in makers:
                found = values[value]
                sizes = "x".join(map(str, found.shape)) if found.shape is not None else "?"
                label = quoted(f"{found.dtype} {sizes}", _LONGEST)
                yield f"  n{numbers[makers[value]]} -> n{numbers[node.id]} [label={label} fontsize=8];"
