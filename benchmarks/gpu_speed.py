"""Is a converted model ever slower? `python -m benchmarks.gpu_speed --corpus DIR [--batch 1,16] [--bert]`, on a GPU.

Every corpus model is planned for the shapes it is then run at, under `speed` and `coverage`, and timed against its
float32 source, with and without TF32 products (onnxruntime's default is with): medians of interleaved runs with inputs
and outputs bound on the device, and the relative L2 error of the worst output. `--bert` adds BERT-base with random
weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

import ampgraph
from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.feeds import batch_axes, batched
from ampgraph.onnx_model.run import open_session
from benchmarks.corpus_inputs import stream_for
from benchmarks.record import keep, table

Feeds = dict[str, np.ndarray[Any, Any]]
ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One model at one batch: milliseconds a run, gain over the faster source, low decisions, worst error."""

    model: str
    batch: int
    float32_ms: float
    tf32_ms: float
    speed_ms: float
    speed_gain: float
    speed_low: int
    coverage_ms: float
    coverage_gain: float
    coverage_error: float
    speed_error: float


def bind(session: ort.InferenceSession, feeds: Feeds) -> Any:  # noqa: ANN401  (onnxruntime is untyped)
    """Inputs on the device, outputs left there."""
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    return binding


def timed(sessions: Mapping[str, ort.InferenceSession], feeds: Feeds) -> dict[str, float]:
    """Median milliseconds per run of each session, rounds interleaved so that drift hits all alike."""
    bound = {name: bind(session, feeds) for name, session in sessions.items()}
    runs = {name: _calibrated(sessions[name], bound[name]) for name in sessions}
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            samples[name].append(_run(session, bound[name], runs[name]))
    return {name: median(times) for name, times in samples.items()}


def _calibrated(session: ort.InferenceSession, binding: Any) -> int:  # noqa: ANN401
    _run(session, binding, 10)
    return max(5, min(200, int(120 / _run(session, binding, 5))))


def _run(session: ort.InferenceSession, binding: Any, runs: int) -> float:  # noqa: ANN401
    binding.synchronize_inputs()
    start = time.perf_counter()
    for _ in range(runs):
        session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    return (time.perf_counter() - start) / runs * 1e3


def measure(name: str, model: onnx.ModelProto, feeds: Feeds, batch: int) -> Row:
    """Convert for these very shapes, then time and compare."""
    shapes = {key: value.shape for key, value in feeds.items()}
    results = {
        objective: ampgraph.convert(model, objective=objective, shapes=shapes) for objective in ("speed", "coverage")
    }
    sessions = {"float32": open_session(model), "tf32": open_session(model, tf32=True)}
    sessions |= {key: open_session(found.model, tf32=True) for key, found in results.items()}
    answers = {
        key: dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        for key, session in sessions.items()
    }
    errors = {key: max(error.relative for error in output_errors(answers["float32"], answers[key])) for key in results}
    times = timed(sessions, feeds)
    best = min(times["float32"], times["tf32"])
    choices = results["speed"].plan.choices.values()
    return Row(
        name,
        batch,
        times["float32"],
        times["tf32"],
        times["speed"],
        best / times["speed"],
        sum(choice.precision == "float16" for choice in choices),
        times["coverage"],
        best / times["coverage"],
        errors["coverage"],
        errors["speed"],
    )


def bert() -> tuple[onnx.ModelProto, Feeds]:
    """BERT-base, random weights, as torch exports it."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig(attn_implementation="eager")).eval()
    ids, mask = torch.randint(0, 30000, (8, 384)), torch.ones(8, 384, dtype=torch.int64)
    program = torch.onnx.export(model, (ids, mask), dynamo=True, optimize=False, verbose=False)
    names = [value.name for value in program.model_proto.graph.input]
    return program.model_proto, dict(zip(names, (ids.numpy(), mask.numpy()), strict=True))


def rows(corpus: Path, batches: Sequence[int], with_bert: bool) -> Iterator[Row]:
    """Every model at every batch it can take."""
    for path in sorted(corpus.glob("*.onnx")):
        model = onnx.load(path)
        feeds = stream_for(path.stem, corpus).feeds[0]
        axes = batch_axes(model, feeds)
        for batch in batches if axes else (1,):
            yield measure(path.stem, model, batched(feeds, batch, axes), batch)
    if with_bert:
        model, feeds = bert()
        yield measure("BERT-base 8x384", model, feeds, 8)


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--bert", action="store_true")
    arguments = parser.parse_args()
    found = []
    for row in rows(arguments.corpus, [int(size) for size in arguments.batch.split(",")], arguments.bert):
        found.append(row)
        print(table(list(asdict(row)), [list(asdict(row).values())]), flush=True)
    print(table(list(asdict(found[0])), [list(asdict(row).values()) for row in found]))
    print(keep("gpu_speed", [asdict(row) for row in found]))


if __name__ == "__main__":
    main()
