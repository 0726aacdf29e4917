"""How far the CPU evaluator of low precision is from a GPU: run in two places.

    python -m benchmarks.gpu_agreement prepare DIR [--corpus CORPUS | --probes-only]
    python -m benchmarks.gpu_agreement measure DIR

The first converts and runs on the CPU, anywhere; DIR then holds every probe and converted model with its inputs,
float32's answers and the evaluator's, so that the second needs only numpy and onnxruntime on a CUDA machine. Printed
per output: relative L2 between GPU and evaluator, and of each against float32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.record import keep, table

Array = np.ndarray[Any, Any]
INDEX = "index.json"
_PARTS = ("feed", "float32", "evaluator")


@dataclass(frozen=True)
class Prepared:
    """A low-precision model with a stream's feeds ("run.input") and the answers of float32 and of the evaluator."""

    name: str
    carry: Mapping[str, str]
    model: bytes
    parts: tuple[Mapping[str, Array], ...]


def prepare(folder: Path, prepared: Iterator[Prepared]) -> None:
    """Write every model with its inputs and both sets of answers."""
    folder.mkdir(parents=True, exist_ok=True)
    index: list[dict[str, Any]] = []
    for entry in prepared:
        stem = f"{len(index):04d}"
        (folder / f"{stem}.onnx").write_bytes(entry.model)
        parts = zip(_PARTS, entry.parts, strict=True)
        arrays = {f"{part}:{key}": value for part, values in parts for key, value in values.items()}
        np.savez_compressed(str(folder / f"{stem}.npz"), allow_pickle=False, **arrays)
        index.append({"name": entry.name, "file": stem, "carry": dict(entry.carry)})
    (folder / INDEX).write_text(json.dumps(index, indent=1))
    print(f"{len(index)} models in {folder}")


def prepared_probes() -> Iterator[Prepared]:
    """Single operators, which have no float32 answers of their own."""
    from ampgraph.onnx_model.simulate import simulate
    from benchmarks.operator_probes import probes

    for probe in probes():
        feeds = {f"0.{name}": value for name, value in probe.feeds.items()}
        answers = _answers(simulate(probe.model), ({**probe.feeds},), {})
        yield Prepared(f"op {probe.name}", {}, probe.model.SerializeToString(), (feeds, {}, answers))


def prepared_conversions(corpus: Path | None, objective: str) -> Iterator[Prepared]:
    """The number cases and the corpus."""
    from benchmarks.corpus import corpus_models
    from benchmarks.corpus_inputs import stream_for
    from tests.number_cases import number_cases

    for case in number_cases():
        yield _converted(f"number {case.name}", case.model, (dict(case.feeds),), {}, objective, case.shapes)
    for name, model in (corpus_models(corpus) if corpus else {}).items():
        stream = stream_for(name, corpus or Path())
        yield _converted(f"model {name}", model, stream.feeds, stream.carry, objective, {})


def _converted(
    name: str,
    model: Any,  # noqa: ANN401  (this module runs where onnx is not installed)
    feeds: Sequence[Any],
    carry: Mapping[str, str],
    objective: str,
    shapes: Mapping[str, tuple[int, ...]],
) -> Prepared:
    import ampgraph
    from ampgraph.onnx_model.simulate import simulate

    low = ampgraph.convert(model, objective=objective, shapes=shapes).model
    joined = {f"{index}.{key}": value for index, given in enumerate(feeds) for key, value in given.items()}
    parts = (joined, _answers(model, feeds, carry), _answers(simulate(low), feeds, carry))
    return Prepared(f"{name} ({objective})", carry, low.SerializeToString(), parts)


def _answers(model: Any, feeds: Sequence[Any], carry: Mapping[str, str]) -> dict[str, Array]:  # noqa: ANN401
    from ampgraph.onnx_model.run import CPU, open_session
    from benchmarks.corpus import play
    from benchmarks.corpus_inputs import Stream

    return play(open_session(model, provider=CPU), Stream(tuple(feeds), carry))


def measure(folder: Path, provider: str) -> list[dict[str, Any]]:
    """Run every prepared model on the provider; one row per output."""
    rows = []
    for entry in json.loads((folder / INDEX).read_text()):
        with np.load(folder / f"{entry['file']}.npz") as stored:
            parts = {part: _part(stored, part) for part in _PARTS}
        try:
            found = _played(folder / f"{entry['file']}.onnx", parts["feed"], entry["carry"], provider)
        except Exception as failure:  # the runtime may raise anything; the row says what
            rows.append({"name": entry["name"], "output": "", "failure": " ".join(str(failure).split())[:160]})
            continue
        rows += [_row(entry["name"], name, found[name], parts) for name in parts["evaluator"]]
    return rows


def _part(stored: Mapping[str, Array], part: str) -> dict[str, Array]:
    return {key.split(":", 1)[1]: stored[key] for key in stored if key.startswith(f"{part}:")}


def _played(path: Path, feeds: Mapping[str, Array], carry: Mapping[str, str], provider: str) -> dict[str, Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=[(provider, {}), "CPUExecutionProvider"])
    if session.get_providers()[0] != provider:
        raise SystemExit(f"{provider} does not open here")
    names = [output.name for output in session.get_outputs()]
    carried: dict[str, Array] = {}
    played = []
    for run in range(1 + max(int(key.split(".", 1)[0]) for key in feeds)):
        given = {key.split(".", 1)[1]: value for key, value in feeds.items() if key.startswith(f"{run}.")}
        outputs = dict(zip(names, session.run(names, {**carried, **given}), strict=True))
        carried = {target: outputs[source] for source, target in carry.items()}
        played.append(outputs)
    return {name: np.stack([outputs[name] for outputs in played]) for name in names}


def _row(name: str, output: str, found: Array, parts: Mapping[str, Mapping[str, Array]]) -> dict[str, Any]:
    evaluated, reference = parts["evaluator"][output], parts["float32"].get(output)
    return {
        "name": name,
        "output": output,
        "gpu to evaluator": _relative(evaluated, found),
        "non-finite differing": _nonfinite(evaluated, found),
        "gpu to float32": None if reference is None else _relative(reference, found),
        "evaluator to float32": None if reference is None else _relative(reference, evaluated),
        "bits differing": float(np.mean(~_same(evaluated, found))),
        "worst ulp": _ulps(evaluated, found),
    }


def _same(a: Array, b: Array) -> Array:
    return (a == b) | (_is_nan(a) & _is_nan(b))


def _is_nan(array: Array) -> Array:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def _relative(expected: Array, found: Array) -> float:
    a, b = expected.astype(np.float64), found.astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    difference, norm = np.linalg.norm(a[both] - b[both]), np.linalg.norm(a[both])
    return float(difference / norm) if norm else float(np.inf if difference else 0.0)


def _nonfinite(expected: Array, found: Array) -> int:
    a, b = expected.astype(np.float64), found.astype(np.float64)
    return int(np.sum((~np.isfinite(a) | ~np.isfinite(b)) & ~_same(a, b)))


def _ulps(expected: Array, found: Array) -> int | None:
    """The largest distance in units of float16's last place, over finite elements; None for other types."""
    if expected.dtype != np.float16 or found.dtype != np.float16:
        return None
    both = np.isfinite(expected) & np.isfinite(found)
    ranks = [_rank(array[both]) for array in (expected, found)]
    return int(np.abs(ranks[0] - ranks[1]).max(initial=0))


def _rank(array: Array) -> Array:
    """Integers in the order of the float16 numbers."""
    bits = array.view(np.int16).astype(np.int32)
    return np.asarray(np.where(bits < 0, -(bits & 0x7FFF), bits))


def _print(rows: Sequence[dict[str, Any]]) -> None:
    failed = [row for row in rows if "failure" in row]
    columns = list(next(row for row in rows if "failure" not in row))
    print(table(columns, [[row[key] for key in columns] for row in rows if "failure" not in row]))
    for row in failed:
        print(f"{row['name']}: {row['failure']}")


def main() -> None:
    """Prepare or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("prepare", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--objective", default="coverage", help="of the conversions")
    parser.add_argument("--probes-only", action="store_true", help="no converted models")
    parser.add_argument("--provider", default="CUDAExecutionProvider")
    parser.add_argument("--output", type=Path, help="write the rows as JSON here instead of benchmarks/results")
    arguments = parser.parse_args()
    if arguments.action == "prepare":
        conversions = iter(()) if arguments.probes_only else prepared_conversions(arguments.corpus, arguments.objective)
        prepare(arguments.folder, chain(prepared_probes(), conversions))
        return
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None and arguments.provider.startswith("CUDA"):
        preload()
    rows = measure(arguments.folder, arguments.provider)
    _print(rows)
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1))
    else:
        keep("gpu_agreement", rows)


if __name__ == "__main__":
    main()
