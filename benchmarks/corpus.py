"""Real trained models through every converter: `python -m benchmarks.corpus --corpus DIR`.

DIR is what benchmarks/fetch_corpus.py makes. Each model is converted without calibration; its outputs on real-looking
inputs are compared with the float32 model's in true float16: the evaluator's, and a GPU's where there is one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from ampgraph.onnx_model.compare import OutputError, output_errors
from ampgraph.onnx_model.run import CPU, CUDA, best_provider, open_session, run
from ampgraph.onnx_model.simulate import simulate
from benchmarks.converters import OBJECTIVES, Converter, ampgraph_with, peers, quiet
from benchmarks.corpus_inputs import SINGLES, Feeds, Stream, singles, stream_for
from benchmarks.record import keep, table

BAR = 3e-2


@dataclass(frozen=True, slots=True)
class Row:
    """One model under one converter; an error is the worst output's relative L2, `failure` what stopped it."""

    model: str
    converter: str
    seconds: float | None
    nodes: int | None
    casts: int | None
    float16_error: float | None
    cuda_error: float | None
    failure: str = ""


def runs(session: ort.InferenceSession, stream: Stream) -> Iterator[tuple[Feeds, dict[str, Any]]]:
    """What each run of the stream is given and its outputs; recurrent state is the session's own."""
    carried: dict[str, Any] = {}
    for given in stream.feeds:
        feeds = {**carried, **given}
        outputs = run(session, feeds)
        carried = {target: outputs[source] for source, target in stream.carry.items()}
        yield feeds, outputs


def play(session: ort.InferenceSession, stream: Stream) -> dict[str, Any]:
    """All outputs over the stream, stacked."""
    played = [outputs for _, outputs in runs(session, stream)]
    return {name: np.stack([outputs[name] for outputs in played]) for name in played[0]}


def samples(path: Path, corpus: Path) -> list[Feeds]:
    """SINGLES different inputs of a corpus model, evenly from all there are, with the states that float32 comes to."""
    found = [feeds for feeds, _ in runs(open_session(onnx.load(path), provider=CPU), singles(path.stem, corpus))]
    return [found[index] for index in np.linspace(0, len(found) - 1, SINGLES).astype(int)]


def worst(errors: Sequence[OutputError]) -> float:
    """The largest relative error, infinite where an output differs in more than numbers."""
    return max(error.relative if not error.nonfinite and not error.mismatch else np.inf for error in errors)


def measure(name: str, model: onnx.ModelProto, stream: Stream, converter: Converter) -> Row:
    """Convert one model with one converter and compare."""
    reference = play(open_session(model, provider=CPU), stream)
    source = onnx.ModelProto()
    source.CopyFrom(model)
    try:
        start = time.perf_counter()
        with quiet():
            converted = converter.convert(source, stream.feeds[0])
        seconds = time.perf_counter() - start
        true = worst(output_errors(reference, play(open_session(simulate(converted), provider=CPU), stream)))
        open_session(converted, provider=CPU)
        cuda = None
        if best_provider() == CUDA:
            cuda = worst(output_errors(reference, play(open_session(converted, provider=CUDA), stream)))
    except Exception as failure:  # a converter or the runtime may raise anything; the table says what
        text = " ".join(f"{type(failure).__name__}: {failure}".split())[:110]
        return Row(name, converter.name, None, None, None, None, None, text)
    casts = sum(node.op_type == "Cast" for node in converted.graph.node)
    return Row(name, converter.name, seconds, len(converted.graph.node), casts, true, cuda)


def corpus_models(corpus: Path) -> dict[str, onnx.ModelProto]:
    """The models by file stem."""
    return {path.stem: onnx.load(str(path)) for path in sorted(corpus.glob("*.onnx"))}


def main() -> None:
    """Measure every model under ampgraph's objectives and the installed peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--only", default="", help="substring of model names")
    parser.add_argument("--converter", default="", help="substring of converter names")
    parser.add_argument("--precision", default="float16", help="ampgraph's precision")
    parser.add_argument("--no-results", action="store_true", help="keep no JSON")
    arguments = parser.parse_args()
    ort.set_default_logger_severity(4)
    converters = [*(ampgraph_with(objective, arguments.precision) for objective in OBJECTIVES), *peers()]
    chosen = [converter for converter in converters if arguments.converter in converter.name]
    rows = [
        measure(name, model, stream_for(name, arguments.corpus), converter)
        for name, model in corpus_models(arguments.corpus).items()
        for converter in chosen
        if arguments.only in name
    ]
    header = [key.replace("_", " ") for key in asdict(rows[0])]
    print(table(header, [list(asdict(row).values()) for row in rows]))
    own = [row for row in rows if row.converter.startswith("ampgraph")]
    missed = [row for row in own if row.float16_error is None or row.float16_error > BAR]
    print(f"ampgraph: {len(missed)} of {len(own)} rows above {BAR} in true float16 or failed")
    if not arguments.no_results:
        keep("corpus", [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
