"""How long a conversion takes and what it holds in memory: `python -m benchmarks.convert_speed [--corpus DIR]`.

Every figure is of a fresh process, file to file, after import: seconds by the clock and of processor time (more of the
first than of the second: the machine was busy), and peak resident memory in MB.
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from benchmarks.record import keep, table

REC = "ch_PP-OCRv4_rec_infer"
_WIDTH, _LAYERS = 4096, 36  # 36 matrices of 64 MiB
_DISK_NEEDED = 5 * 2**30
_WORTH_REPEATING = 5.0  # seconds
_HEADS, _HEAD = 4, 8
_LAYER = """
    s{i} = Shape({x})  n{i} = Gather(s{i}, zero)  t{i} = Gather(s{i}, one)
    u{i} = Unsqueeze(n{i}, first)  v{i} = Unsqueeze(t{i}, first)
    a{i} = MatMul({x}, w)  b{i} = Concat<axis = 0>(u{i}, v{i}, split)  c{i} = Reshape(a{i}, b{i})
    d{i} = Transpose<perm = [0, 2, 1, 3]>(c{i})  e{i} = Erf(d{i})  f{i} = Transpose<perm = [0, 2, 1, 3]>(e{i})
    g{i} = Concat<axis = 0>(u{i}, v{i}, whole)  h{i} = Reshape(f{i}, g{i})  x{i} = Add(h{i}, {x})"""
_PATTERN = ("MatMul", "Relu", "MatMul", "Add", "Tanh", "MatMul", "Exp", "Softmax", "Mul", "Sigmoid")
_WITH_WEIGHT = ("MatMul", "Add", "Mul")


@dataclass(frozen=True, slots=True)
class Bar:
    """A model file with the most seconds and bytes that converting it may take."""

    name: str
    path: Path
    nodes: int
    seconds: float | None = None
    peak: float | None = None  # MB


def chain(nodes: int) -> onnx.ModelProto:
    """A chain of matrix products, cheap ops and float32 ops, with a weight for every third node or so."""
    made, weights, previous = [], [], "x"
    values = np.random.default_rng(0).standard_normal((nodes, 4, 4)).astype(np.float32)
    for index in range(nodes):
        op, output = _PATTERN[index % len(_PATTERN)], f"v{index}"
        inputs = [previous, f"w{index}"] if op in _WITH_WEIGHT else [previous]
        if op in _WITH_WEIGHT:
            weights.append(numpy_helper.from_array(values[index], f"w{index}"))
        made.append(helper.make_node(op, inputs, [output], name=f"n{index}"))
        previous = output
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (4, 4)) for name in ("x", previous)]
    graph = helper.make_graph(made, f"chain of {nodes}", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def layered(layers: int) -> onnx.ModelProto:
    """Layers that turn heads by computed sizes, at an opset where no inference follows them: each waits for the last.

    Erf, so that fusions are looked for.
    """
    names = ["x", *(f"x{index}" for index in range(layers))]
    body = "".join(_LAYER.format(i=index, x=names[index]) for index in range(layers))
    width = _HEADS * _HEAD
    head = '<ir_version: 8, opset_import: ["" : 13]> layers '
    text = (
        f"{head} (float[batch,tokens,{width}] x) => (float[batch,tokens,{width}] y) {{ {body} y = Relu({names[-1]}) }}"
    )
    model = onnx.parser.parse_model(text)
    sizes = {"zero": 0, "one": 1, "first": [0], "split": [_HEADS, _HEAD], "whole": [width]}
    weights = np.random.default_rng(0).standard_normal((width, width)).astype(np.float32) / width
    arrays = {name: np.array(values, np.int64) for name, values in sizes.items()} | {"w": weights}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return model


def write_large(folder: Path) -> Path:
    """A model of 2.4 GB of external data, written layer by layer."""
    block = (np.random.default_rng(0).standard_normal((_WIDTH, _WIDTH)) / 64).astype(np.float32).tobytes()
    nodes, weights, previous = [], [], "x"
    with (folder / "large.bin").open("wb") as data:
        for layer in range(_LAYERS):
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=(_WIDTH, _WIDTH))
            weight.data_location = TensorProto.EXTERNAL
            entries = {"location": "large.bin", "offset": str(data.tell()), "length": str(len(block))}
            for key, value in entries.items():
                weight.external_data.add(key=key, value=value)
            data.write(block)
            weights.append(weight)
            nodes.append(helper.make_node("MatMul", [previous, weight.name], [f"m{layer}"], name=f"product{layer}"))
            nodes.append(helper.make_node("Relu", [f"m{layer}"], [f"r{layer}"], name=f"relu{layer}"))
            previous = f"r{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", _WIDTH)) for name in ("x", previous)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    path = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def measure_here(source: Path, destination: Path, objective: str) -> dict[str, float]:
    """Convert in this process: seconds of the first and, if short, a second conversion, peak MB after the first."""
    import onnxruntime  # noqa: F401  (its import is not what is measured)

    import ampgraph

    convert = ampgraph.convert
    start = time.process_time()
    seconds = [_timed(convert, source, destination, objective)]
    processor, peak = time.process_time() - start, _peak()
    if seconds[0] < _WORTH_REPEATING:
        gc.collect()
        seconds.append(_timed(convert, source, destination, objective))
    return {"seconds": seconds[0], "processor": processor, "again": seconds[-1], "peak": peak}


def _timed(convert: Any, source: Path, destination: Path, objective: str) -> float:  # noqa: ANN401
    start = time.perf_counter()
    convert(source, destination, objective=objective, force=True)
    return time.perf_counter() - start


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _measure(bar: Bar, folder: Path, objective: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.convert_speed", "--objective", objective]
    command += ["--one", str(bar.path), "--destination", str(folder / f"out-{bar.path.name}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{bar.name}: {done.stderr.strip().splitlines()[-1]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _bars(folder: Path, corpus: Path | None, only: str) -> Iterator[Bar]:
    if corpus is not None and only in "PP-OCRv4 rec":
        path = corpus / f"{REC}.onnx"
        yield Bar("PP-OCRv4 rec", path, len(onnx.load(str(path)).graph.node), 0.7)
    for nodes, seconds in ((4_000, 1.0), (5_000, None), (8_000, 2.0), (50_000, 15.0)):
        name = f"chain of {nodes:,}"
        if only in name:
            path = folder / f"chain{nodes}.onnx"
            onnx.save(chain(nodes), str(path))
            yield Bar(name, path, nodes, seconds)
    for layers in (25, 100):
        name = f"{layers} layers at opset 13"
        if only in name:
            path, model = folder / f"layers{layers}.onnx", layered(layers)
            onnx.save(model, str(path))
            yield Bar(name, path, len(model.graph.node))
    if only in "2.4 GB external data":
        if shutil.disk_usage(folder).free < _DISK_NEEDED:
            print("2.4 GB external data: left out, the temporary folder has less than 5 GB", file=sys.stderr)
            return
        yield Bar("2.4 GB external data", write_large(folder), 2 * _LAYERS, 20.0, 700.0)


def _report(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    print(table(columns, [list(row.values()) for row in rows]))
    per_node = {row["model"]: row["seconds"] / row["nodes"] for row in rows}
    for one, other in (("chain of 5,000", "chain of 50,000"), ("25 layers at opset 13", "100 layers at opset 13")):
        if {one, other} <= set(per_node):
            print(f"time per node, {other} over {one}: {per_node[other] / per_node[one]:.2f} (at most 1.5)")


def main() -> None:
    """Measure every model, or one in this very process (`--one`, which the other way calls)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="folder with PP-OCRv4 rec (benchmarks/fetch_corpus.py)")
    parser.add_argument("--objective", default="speed")
    parser.add_argument("--only", default="", help="substring of the models to measure")
    parser.add_argument("--no-results", action="store_true", help="keep no JSON")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--destination", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure_here(arguments.one, arguments.destination, arguments.objective)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for bar in _bars(Path(scratch), arguments.corpus, arguments.only):
            found = _measure(bar, Path(scratch), arguments.objective)
            met = found["seconds"] <= (bar.seconds or np.inf) and found["peak"] <= (bar.peak or np.inf)
            row = {"model": bar.name, "nodes": bar.nodes, **found, "bar s": bar.seconds, "bar MB": bar.peak}
            rows.append({**row, "met": "yes" if met else "NO"})
    _report(rows)
    if not arguments.no_results:
        keep("convert_speed", rows)


if __name__ == "__main__":
    main()
