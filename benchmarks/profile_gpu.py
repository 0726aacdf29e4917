"""Do measured costs decide better? `python -m benchmarks.profile_gpu --corpus DIR [--batch 1,16]`, on a GPU.

Every corpus model is profiled at the shapes it is then run at, and planned with modelled and with measured costs. The
sources, both plans and the plan that is as low as is legal are timed in interleaved rounds; the table holds what either
cost model says of each beside what it took, and the rank correlation (Spearman) of the two. `--cuda-graph` times and
prices models that are deployed as CUDA graphs, where a launch costs nothing; without it runs are plain.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from scipy.stats import spearmanr

import ampgraph
from ampgraph.api import Result
from ampgraph.cost import price
from ampgraph.devices import device_named
from ampgraph.measured import MeasuredCosts, to_json
from ampgraph.onnx_model import io
from ampgraph.onnx_model.feeds import batch_axes, batched
from ampgraph.onnx_model.profile import Settings, profile
from ampgraph.onnx_model.run import CPU, Provider, best_provider
from ampgraph.onnx_model.timing import Memory, Pace, Tensor, Timed, measure, open_timed
from ampgraph.placement import assignment_cost
from ampgraph.precision import Precision
from benchmarks.corpus_inputs import stream_for
from benchmarks.record import keep, table

Feeds = dict[str, np.ndarray[Any, Any]]
PACE = Pace(rounds=9, sample=0.05)


@dataclass(frozen=True, slots=True)
class Row:
    """One plan of a model at one batch: low decisions, what two cost models say of it, and what it took."""

    model: str
    batch: int
    plan: str
    low: int
    roofline_ms: float | None
    measured_costs_ms: float | None
    took_ms: float
    gain: float  # over the source in TF32
    captured: bool


@dataclass(frozen=True, slots=True)
class Profiled:
    """How profiling a model went."""

    model: str
    batch: int
    seconds: float
    classes: int
    slow_float16: int  # classes that float16 makes slower
    whole_ms: float
    parts_ms: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with the inputs that it is run on."""

    name: str
    batch: int
    path: Path
    feeds: Feeds

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: value.shape for name, value in self.feeds.items()}


def plans(subject: Subject, costs: MeasuredCosts, device: str, graph: bool) -> dict[str, Result]:
    """The plans that are compared."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "costs.json")
        file.write_text(to_json(costs))
        # one graph, so that only the prices differ
        common: dict[str, Any] = {"device": device, "shapes": subject.shapes, "fuse": False, "cuda_graph": graph}
        made = {
            "roofline": ampgraph.convert(subject.path, objective="speed", **common),
            "measured": ampgraph.convert(subject.path, objective="speed", costs=file, **common),
            "all low": ampgraph.convert(subject.path, objective="coverage", **common),
        }
        for result in made.values():
            _ = result.model
    return made


def modelled(result: Result, low: frozenset[str], device: str, costs: MeasuredCosts | None, cuda_graph: bool) -> float:
    """Milliseconds that a cost model says of an assignment."""
    graph, where = result.planned.graph, device_named(device, cuda_graph=cuda_graph)
    prices = price(graph, "speed", where, Precision.FLOAT16, measured=costs)
    return assignment_cost(graph, low, prices) / 1e9


def low_of(result: Result) -> frozenset[str]:
    """The decisions that a plan makes low."""
    return frozenset(key for key, choice in result.plan.choices.items() if choice.precision is Precision.FLOAT16)


def opened(subject: Subject, model: onnx.ModelProto, result: Result, where: Provider, tf32: bool, graph: bool) -> Timed:
    """A whole model with the subject's inputs, its outputs where the device can write them again and again."""
    values = result.planned.graph.values
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
    shapes = {name: values[name].shape for name in kinds}
    outputs = {name: Tensor(kinds[name], shape) for name, shape in shapes.items() if shape is not None}
    numbers = {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in subject.feeds.items()}
    inputs = {name: Tensor(numbers[name], array.shape) for name, array in subject.feeds.items()}
    memory = Memory("cpu" if where == CPU else "cuda")
    data = model.SerializeToString()
    return open_timed(data, inputs, outputs, memory, where, tf32=tf32, capture=graph, merge=True, feeds=subject.feeds)


def measured_rows(subject: Subject, costs: MeasuredCosts, device: str, graph: bool) -> Iterator[Row]:
    """Time the sources and every plan, and set beside it what is modelled."""
    made, where = plans(subject, costs, device, graph), best_provider()
    some = made["roofline"]
    source = onnx.load(subject.path)
    timed = {
        "float32": opened(subject, source, some, where, tf32=False, graph=graph),
        "tf32": opened(subject, source, some, where, tf32=True, graph=graph),
    }
    timed |= {name: opened(subject, found.model, some, where, tf32=True, graph=graph) for name, found in made.items()}
    took = measure(timed, PACE)
    lows = {"float32": frozenset[str](), "tf32": frozenset[str]()} | {name: low_of(each) for name, each in made.items()}
    for name, low in lows.items():
        roofline, priced = (
            None if name == "float32" else modelled(some, low, device, each, graph) for each in (None, costs)
        )
        took_ms, gain = took[name] * 1e3, took["tf32"] / took[name]
        yield Row(subject.name, subject.batch, name, len(low), roofline, priced, took_ms, gain, timed[name].captured)


def profiled(subject: Subject, seconds: float, graph: bool) -> tuple[MeasuredCosts, Profiled]:
    """Profile a model; as a CUDA graph a launch costs nothing."""
    start = time.perf_counter()
    costs = profile(io.load(subject.path), feeds=subject.feeds, settings=Settings(seconds=seconds), say=print)
    whole = costs.whole
    assert whole is not None  # the profiler measures it
    slow = sum(
        (times.get(Precision.FLOAT16) or 0.0) > 1.1 * (times.get(Precision.FLOAT32) or np.inf)
        for times in costs.entries.values()
    )
    figures = (time.perf_counter() - start, len(costs.entries), slow, whole.seconds * 1e3, whole.parts * 1e3)
    found = Profiled(subject.name, subject.batch, *figures, whole.ratio)
    return (replace(costs, launch=0.0) if graph else costs), found


def subjects(corpus: Path, batches: Sequence[int], only: str) -> Iterator[Subject]:
    """Every model at every batch it can take."""
    for path in sorted(corpus.glob("*.onnx")):
        if only not in path.stem:
            continue
        model = io.load(path).model
        feeds = dict(stream_for(path.stem, corpus).feeds[0])
        axes = batch_axes(model, feeds)
        for batch in batches if axes else (1,):
            yield Subject(path.stem, batch, path, batched(feeds, batch, axes))


def correlations(rows: Sequence[Row]) -> dict[str, float]:
    """Rank correlation of modelled and taken time over all plans, and of the gains over TF32."""
    rows = [row for row in rows if row.roofline_ms is not None]
    sources = {(row.model, row.batch): row for row in rows if row.plan == "tf32"}
    found = {}
    for name in ("roofline_ms", "measured_costs_ms"):
        said = [getattr(row, name) for row in rows]
        base = [getattr(sources[row.model, row.batch], name) for row in rows]
        found[f"{name[:-3]}: times"] = _rank(said, [row.took_ms for row in rows])
        plans_only = [i for i, row in enumerate(rows) if row.plan != "tf32"]
        gains = [base[i] / said[i] if said[i] else 1.0 for i in plans_only]
        found[f"{name[:-3]}: gains"] = _rank(gains, [rows[i].gain for i in plans_only])
    return found


def _rank(said: Sequence[float], took: Sequence[float]) -> float:
    if len(set(said)) < 2 or len(set(took)) < 2:  # scipy would warn: there is no order
        return float("nan")
    return float(spearmanr(said, took).statistic)


def show(items: Sequence[Any]) -> None:
    """Print records of one kind as a table."""
    if items:
        print(table(list(asdict(items[0])), [list(asdict(item).values()) for item in items]), flush=True)


def main() -> None:
    """Profile, plan, time, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--only", default="", help="substring of model names")
    parser.add_argument("--device", default="h100", help="whose roofline")
    parser.add_argument("--seconds", type=float, default=60.0, help="to profile one model at one batch")
    parser.add_argument("--total", type=float, default=480.0, help="begin no further model after so many seconds")
    parser.add_argument("--cuda-graph", action="store_true")
    parser.add_argument("--costs", type=Path, help="folder to leave the cost files in")
    parser.add_argument("--no-results", action="store_true", help="keep no JSON")
    arguments = parser.parse_args()
    rows: list[Row] = []
    profiles: list[Profiled] = []
    start = time.monotonic()
    for subject in subjects(arguments.corpus, [int(size) for size in arguments.batch.split(",")], arguments.only):
        if time.monotonic() - start > arguments.total:
            print(f"left out for want of time: {subject.name} at batch {subject.batch}")
            continue
        costs, found = profiled(subject, arguments.seconds, arguments.cuda_graph)
        if arguments.costs:
            arguments.costs.mkdir(parents=True, exist_ok=True)
            (arguments.costs / f"{subject.name}.b{subject.batch}.json").write_text(to_json(costs))
        profiles.append(found)
        rows += measured_rows(subject, costs, arguments.device, arguments.cuda_graph)
        show(profiles[-1:])
        show(rows[-5:])
    show(profiles)
    show(rows)
    ranks = correlations(rows)
    for name, value in ranks.items():
        print(f"Spearman, {name}: {value:.3f}")
    if not arguments.no_results:
        name = "profile_gpu_graph" if arguments.cuda_graph else "profile_gpu"
        figures = {"profiles": [asdict(each) for each in profiles], "rows": [asdict(row) for row in rows]}
        print(keep(name, {**figures, "spearman": ranks}))


if __name__ == "__main__":
    main()
