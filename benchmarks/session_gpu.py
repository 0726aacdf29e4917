"""Does `ampgraph.Session` keep its word on a GPU? `python -m benchmarks.session_gpu --corpus DIR`, under a minute.

The PP-OCR models at batch 1, as they are and converted under `coverage`: plain, as a CUDA graph, with channels last,
and both. Every setting must give the answers of a plain session, on the inputs it was captured with and, replayed, on
others. Exits with 1 where one does not; prints milliseconds a run and every note.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import ampgraph
from ampgraph.onnx_model.bench import interleaved, spread, worst_error
from ampgraph.onnx_model.bench_text import spread_text
from ampgraph.onnx_model.run import open_session, run
from benchmarks.corpus_inputs import stream_for
from benchmarks.record import table

NAMES = ("cls", "rec", "det")
SETTINGS = {
    "plain": {"cuda_graph": False, "nhwc": False},
    "graph": {"cuda_graph": "auto", "nhwc": False},
    "nhwc": {"cuda_graph": False, "nhwc": True},
    "graph + nhwc": {"cuda_graph": "auto", "nhwc": True},
}
BARS = {"float32": 1e-2, "float16": 3e-2}  # relative L2: other kernels, in TF32 or float16
ROUNDS, RUNS = 9, 20
Feeds = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Tried:
    """One setting of one model: its session, bound inputs, and the worst error in answers and in replayed answers."""

    setting: str
    session: ampgraph.Session
    bound: Any
    opened: float
    error: float
    replayed: float

    def milliseconds(self) -> float:
        start = time.perf_counter()
        for _ in range(RUNS):
            self.bound.run()
        self.bound.wait()
        return (time.perf_counter() - start) / RUNS * 1e3


def attempt(setting: str, model: onnx.ModelProto, feeds: Feeds, others: Feeds, expected: list[Any]) -> Tried:
    """Open, bind, and run thrice on each inputs, so that a graph is captured by `run` too and then replayed."""
    start = time.perf_counter()
    session = ampgraph.Session(model, **SETTINGS[setting])
    bound = session.bind(feeds)
    opened = time.perf_counter() - start
    bound.run()
    answers = [bound.outputs(), *(session.run(feeds) for _ in range(3))]
    replayed = [off(expected[1], session.run(others)), off(expected[0], session.run(feeds))]
    bound.run()
    replayed.append(off(expected[0], bound.outputs()))
    return Tried(setting, session, bound, opened, max(off(expected[0], found) for found in answers), max(replayed))


def off(expected: dict[str, Any], found: dict[str, Any]) -> float:
    """The relative error of the worst output, infinite where dtype, shape or finite elements differ."""
    error = worst_error(expected, found)
    return float("inf") if error.mismatch else error.relative


def models(path: Path, feeds: Feeds) -> Iterator[tuple[str, onnx.ModelProto]]:
    source = onnx.load(path)
    yield "float32", source
    shapes = {name: value.shape for name, value in feeds.items()}
    yield "float16", ampgraph.convert(source, objective="coverage", shapes=shapes).model


def measure(path: Path, corpus: Path) -> list[list[Any]]:
    """Rows of one model."""
    feeds = {name: value[:1] for name, value in stream_for(path.stem, corpus).feeds[0].items()}
    others = {name: np.ascontiguousarray(value[..., ::-1]) for name, value in feeds.items()}
    rows = []
    for kind, model in models(path, feeds):
        plain = open_session(model, tf32=True)
        expected = [run(plain, feeds), run(plain, others)]
        tried = [attempt(setting, model, feeds, others, expected) for setting in SETTINGS]
        for one in tried:
            for note in one.session.notes:
                print(f"{path.stem} {kind}, {one.setting}: {note}", flush=True)
        samples = interleaved([one.milliseconds for one in tried], ROUNDS)
        for one, times in zip(tried, samples, strict=True):
            worst = max(one.error, one.replayed)
            verdict = "ok" if worst <= BARS[kind] else "WRONG"
            replays = "yes" if one.bound.cuda_graph else "no"
            said = spread_text(spread(times))
            rows.append(
                [path.stem[:24], kind, one.setting, replays, said, one.opened, one.error, one.replayed, verdict]
            )
    return rows


def main() -> None:
    """Print the table; exit with 1 where an answer is wrong, or no graph was captured at all on CUDA."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    corpus = parser.parse_args().corpus
    warnings.simplefilter("ignore", RuntimeWarning)  # printed as notes
    start = time.perf_counter()
    paths = [path for name in NAMES for path in sorted(corpus.glob(f"*_{name}_infer.onnx"))]
    rows = [row for path in paths for row in measure(path, corpus)]
    header = ["model", "weights", "setting", "replays", "ms (quartiles)", "open s", "error", "replayed", "answers"]
    print(table(header, rows))
    provider = ampgraph.Session(onnx.load(paths[0])).provider
    print(f"{provider}, {time.perf_counter() - start:.0f} s")
    wrong = any(row[-1] != "ok" for row in rows)
    none = provider != "CPUExecutionProvider" and all(row[3] == "no" for row in rows)
    sys.exit(1 if wrong or none else 0)


if __name__ == "__main__":
    main()
