"""What fusing makes of transformers' models, run on a GPU: `python -m benchmarks.fuse_gpu FOLDER [NAME ...]`.

FOLDER holds what `python -m benchmarks.fuse_transformers --export FOLDER` saves (*.onnx); *.bin are the same without
their weights (weightless.py), small enough to carry. Each is converted for this GPU and runs at three sizes, as a plain
session and as a CUDA graph: relative L2 distance of the answers from float32's on the CPU, attentions that are one
operator or why nothing was fused, and nodes that fell to the CPU. Exits with 1 where answers are further off than
`BAR`, or where a graph is lost that the source runs as. `--part K/N` shares the models among processes.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import ampgraph
from ampgraph.onnx_model.run import CPU, open_session, run
from benchmarks.fuse_transformers import SIZES, feeds
from benchmarks.gpu_onnx import device_short_name
from benchmarks.gpu_timing import relative
from benchmarks.record import RESULTS, add, machine, table
from benchmarks.weightless import filled

MANY = (32, 64)  # sequences or images, and tokens that all models have places for: planned for, where float16 gains
BAR = 2e-2  # relative L2 of float16 in two layers of random weights
_FUSED = ("Attention", "MultiHeadAttention")


def models(folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and files, one a name."""
    yield from sorted({path.stem: path for path in (*folder.glob("*.bin"), *folder.glob("*.onnx"))}.items())


def loaded(path: Path) -> onnx.ModelProto:
    """The model, with weights drawn for those that it lacks."""
    model = onnx.load(path)
    return filled(model) if path.suffix == ".bin" else model


def measure(path: Path) -> dict[str, Any]:
    """One model's row."""
    source = loaded(path)
    given = [feeds(source, *size) for size in SIZES]
    exact = open_session(source, provider=CPU)
    expected = [next(iter(run(exact, each).values())) for each in given]
    shapes = {
        name: (MANY[0], *array.shape[1:]) if array.dtype == np.float32 else MANY for name, array in given[0].items()
    }
    result = ampgraph.convert(source, device=device_short_name(), shapes=shapes, cuda_graph=True)
    operators = [node.op_type for node in result.model.graph.node]
    plain = ampgraph.Session(result.model, provider="cuda", cuda_graph=False)
    graph = ampgraph.Session(result.model, provider="cuda")
    bound = [graph.bind(each) for each in given]
    for each in bound:
        each.run()
    return {
        "attentions": sum(operators.count(kind) for kind in _FUSED),
        "operators": len(operators),
        "low": sum(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in result.model.graph.initializer),
        "plain": _worst(expected, [next(iter(plain.run(each).values())) for each in given]),
        "graph": _worst(expected, [next(iter(each.outputs().values())) for each in bound]),
        "captured": all(each.cuda_graph for each in bound),
        "source_captured": ampgraph.Session(source, provider="cuda").bind(given[0]).cuda_graph,
        "fusing": result.planned.fusing or str(result.plan.fused),
        "on_cpu": [node.name for node in plain.on_cpu],
        "notes": list(graph.notes),
    }


def _worst(expected: list[Any], found: list[Any]) -> float:
    return max(relative(one, np.asarray(other)) for one, other in zip(expected, found, strict=True))


def attempt(path: Path) -> dict[str, Any]:
    """One model's row, or what went wrong."""
    try:
        return measure(path)
    except Exception as error:  # the runtime's, or ours
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def is_right(row: dict[str, Any]) -> bool:
    """Whether a model ran as it should."""
    if "error" in row:
        return False
    return (row["captured"] or not row["source_captured"]) and max(row["plain"], row["graph"]) <= BAR


def main() -> None:
    """Measure, print and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("names", nargs="*", help="parts of names; all models when none is given")
    options.add_argument("--part", default="1/1", metavar="K/N", help="every Nth model, from the Kth")
    options.add_argument("--out", type=Path, default=RESULTS, help="where rows are kept")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    first, step = map(int, arguments.part.split("/"))
    found = [
        each for each in models(arguments.folder) if not arguments.names or any(n in each[0] for n in arguments.names)
    ]
    rows = {}
    for name, path in found[first - 1 :: step]:
        rows[name] = attempt(path)
        print(name, rows[name], flush=True)
        add("fuse_gpu", {name: {**rows[name], "machine": machine()}}, arguments.out)
    names = ("attentions", "operators", "plain", "graph", "captured", "error")
    print(table(["model", *names], [[name, *(row.get(key) for key in names)] for name, row in rows.items()]))
    wrong = [name for name, row in rows.items() if not is_right(row)]
    if wrong:
        sys.exit(f"not as they should be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
