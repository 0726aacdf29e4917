"""How long `ampgraph compare` takes and how much memory: `python -m benchmarks.compare_speed CORPUS`.

Every row is of a fresh process: seconds by the clock and of processor time (more of the first than of half the second:
the machine was busy), and the MB by which memory grew at its peak. Chains are N products in float16 of 4 MiB each:
memory must not grow with N.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import ampgraph
from ampgraph.inspection.comparison import Comparison
from ampgraph.onnx_model.memory import with_peak
from benchmarks.record import keep, machine, table

MODELS: tuple[tuple[str, dict[str, tuple[int, ...]]], ...] = (
    ("ch_PP-OCRv4_rec_infer", {}),
    ("ch_PP-OCRv4_rec_infer", {"x": (1, 3, 48, 320)}),
    ("ch_PP-OCRv4_det_infer", {}),
    ("ch_ppocr_mobile_v2.0_cls_infer", {}),
    ("silero_vad", {}),
)
CHAINS = (40, 160, 640)
MEGABYTES = 4  # of a chain's value


def chain(length: int, megabytes: int = MEGABYTES) -> onnx.ModelProto:
    """A model of so many products in a row, all of one size in float32."""
    shape = [megabytes << 8, 1 << 10]
    names = ["x", *(f"v{index}" for index in range(length))]
    nodes = [helper.make_node("Mul", [source, "k"], [target], name=target) for source, target in pairwise(names)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", names[-1])]
    constant = numpy_helper.from_array(np.float32(1.001), "k")
    graph = helper.make_graph(nodes, f"chain of {length}", ends[:1], ends[1:], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def measured(source: str, low: str, shapes: dict[str, list[int]], bound: dict[str, int]) -> dict[str, Any]:
    """Compare in this process."""
    ampgraph.compare  # noqa: B018  (what loading takes is not of a comparison)
    clock, processor = time.perf_counter(), time.process_time()

    def work() -> Comparison:
        return ampgraph.compare(source, low, shapes=shapes, provider="cpu", **bound)

    found, grown = with_peak(work, on_device=False)
    return {
        "seconds": time.perf_counter() - clock,
        "processor": time.process_time() - processor,
        "peak": (grown or 0) / 1e6,
        "values": len(found.values),
        "within": found.within,
    }


def apart(source: Path, low: Path, shapes: dict[str, tuple[int, ...]], **bound: int) -> dict[str, Any]:
    """`measured` in a process of its own."""
    order = json.dumps([str(source), str(low), shapes, bound])
    command = [sys.executable, "-m", "benchmarks.compare_speed", "--one", order]
    root = Path(__file__).resolve().parent.parent
    row: dict[str, Any] = json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)
    return row


def converted_chain(length: int, folder: Path, megabytes: int = MEGABYTES) -> tuple[Path, Path]:
    """A chain and its conversion, as files."""
    source, low = folder / f"chain{length}.onnx", folder / f"chain{length}.low.onnx"
    onnx.save(chain(length, megabytes), source)
    ampgraph.convert(source, low, objective="coverage", low="v")
    return source, low


def rows(corpus: Path) -> list[dict[str, Any]]:
    """All figures."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, shapes in MODELS:
            source, low = corpus / f"{name}.onnx", Path(scratch, "low.onnx")
            ampgraph.convert(source, low, objective="coverage", force=True)
            found.append({"model": name, "shapes": shapes, **apart(source, low, shapes)})
        for length in CHAINS:
            row = apart(*converted_chain(length, Path(scratch)), {})
            found.append({"model": f"chain of {length}", "shapes": {}, **row})
    return found


def main() -> None:
    """Measure all rows, or the one that `apart` asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", nargs="?", type=Path, help="where benchmarks.fetch_corpus put the models")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(*json.loads(given.one))))
        return
    found = rows(given.corpus)
    columns = ("model", "seconds", "processor", "peak", "values")
    print(table(columns, [[row[column] for column in columns] for row in found]))
    print(keep("compare_speed", {"machine": machine(), "figures": found}))


if __name__ == "__main__":
    main()
