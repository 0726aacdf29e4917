"""Is every node explained, and how fast? `python -m benchmarks.inspect_models [--corpus DIR]`.

Every model of a folder (`benchmarks.fetch_corpus` fills one) as it is, planned and converted under `coverage`: nodes,
nodes without a reason, modules and the most children one has. Chains of 10,000 and 50,000 nodes without names: seconds
to plan, to build the document and to write it, and the memory of the process at its peak.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ampgraph
from ampgraph.inspection.document import Document
from ampgraph.inspection.encode import to_json
from ampgraph.inspection.files import document_of, look
from ampgraph.onnx_model.io import Loaded
from ampgraph.options import make_options
from benchmarks.convert_speed import chain
from benchmarks.record import keep, table

SIZES = (10_000, 50_000)
HEAD = ["model", "state", "nodes", "without reason", "modules", "most children"]


def described(name: str, document: Document) -> list[Any]:
    """A row of what a document holds."""
    graph = document.graph
    children = Counter(module.parent for module in graph.modules) + Counter(node.module for node in graph.nodes)
    missing = sum(not node.why for node in graph.nodes)
    return [name, document.state, len(graph.nodes), missing, len(graph.modules), max(children.values())]


def rows_of(path: Path) -> Iterator[list[Any]]:
    """A model as it is, planned, and converted."""
    yield described(path.stem, ampgraph.inspect(path, as_is=True).document)
    yield described(path.stem, ampgraph.inspect(path, objective="coverage").document)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "low.onnx"
        ampgraph.convert(path, target, objective="coverage")
        yield described(path.stem, ampgraph.inspect(target, objective="coverage").document)


def timed(size: int) -> dict[str, Any]:
    """Seconds of each step on a chain without names, and megabytes of the process at its peak."""
    model = chain(size)
    for node in model.graph.node:
        node.name = ""
    marks = [time.perf_counter()]
    looked = look(Loaded(model, Path()), make_options(objective="coverage"))
    marks.append(time.perf_counter())
    document = document_of(looked)
    marks.append(time.perf_counter())
    text = to_json(document)
    marks.append(time.perf_counter())
    plan, build, write = (round(end - start, 2) for start, end in pairwise(marks))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    nodes = len(document.graph.nodes)
    return {"nodes": nodes, "plan": plan, "build": build, "json": write, "bytes": len(text), "peak MB": peak}


def main() -> None:
    """Print both tables and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    corpus = parser.parse_args().corpus
    rows = [row for path in (sorted(corpus.glob("*.onnx")) if corpus else ()) for row in rows_of(path)]
    print(table(HEAD, rows))
    speed = [timed(size) for size in SIZES]
    print(table(list(speed[0]), [list(row.values()) for row in speed]))
    print(keep("inspect_models", {"models": [dict(zip(HEAD, row, strict=True)) for row in rows], "speed": speed}))


if __name__ == "__main__":
    main()
