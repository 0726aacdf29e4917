"""Models as ModelOpt's AutoCast makes them, without weights: `python -m benchmarks.modelopt_stripped MODELS OUT`.

ModelOpt does not fit on the machine that is lent for measuring, so models are converted where it is installed, with
their real weights and inputs. What is carried over is a few hundred kilobytes: the converted graph with a recipe for
each weight, which `weightless.restored` follows there (`python -m benchmarks.gpu_rows --modelopt OUT`).

MODELS: full models as `python -m benchmarks.gpu_models MODELS` writes them, or a corpus of benchmarks/fetch_corpus.py.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import onnx

from benchmarks import gpu_models
from benchmarks.converters import peers, quiet
from benchmarks.corpus_inputs import Feeds, stream_for
from benchmarks.weightless import derived


def inputs_of(name: str, model: onnx.ModelProto, folder: Path) -> Feeds:
    """Inputs at the least batch: of a network of gpu_models, else of a model of the corpus."""
    if name not in gpu_models.ROWS:
        return stream_for(name, folder).feeds[0]
    arrays = [each.numpy() for each in gpu_models.inputs(name, 1)]
    return dict(zip([value.name for value in model.graph.input], arrays, strict=True))


def main() -> None:
    """Convert every model that can be, and say why where one cannot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="comma-separated substrings of the models' names")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    autocast = next(each for each in peers() if "modelopt" in each.name)
    for path in sorted(arguments.models.glob("*.onnx")):
        if not any(word in path.stem for word in arguments.only.split(",")):
            continue
        source, start = onnx.load(path), time.perf_counter()
        try:
            with quiet():
                converted = autocast.convert(source, inputs_of(path.stem, source, arguments.models))
        except Exception as error:  # whatever the tool raises
            print(f"{path.stem}: fails: {type(error).__name__}: {str(error)[:300]}", flush=True)
            continue
        small, kept = derived(converted, onnx.load(path))
        onnx.save(small, arguments.out / path.name)
        said = f"{time.perf_counter() - start:.0f} s, {small.ByteSize():,} bytes"
        print(
            f"{path.stem}: {autocast.version}, {said}{', data kept of ' if kept else ''}{', '.join(kept)}", flush=True
        )


if __name__ == "__main__":
    main()
