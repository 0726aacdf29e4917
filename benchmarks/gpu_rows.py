"""ampgraph against its peers on one GPU: `python -m benchmarks.gpu_rows [--models DIR | --corpus DIR] [--torch]`.

Networks of benchmarks/gpu_models.py at their large batch and at batch 1, or the models of the corpus at 1 and 16. Like
with like: plain runs and CUDA graphs are rows of their own, each with convolutions channels first or last, whichever is
faster for that contender; medians of interleaved rounds, error to float32. `--torch` adds PyTorch in half precision,
eager and compiled into CUDA graphs, on the same architecture.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import ampgraph
from ampgraph.onnx_model.bench import interleaved, spread
from ampgraph.onnx_model.feeds import batch_axes, batched
from benchmarks import gpu_models
from benchmarks.converters import quiet
from benchmarks.corpus_inputs import stream_for
from benchmarks.record import keep, table
from benchmarks.weightless import filled

ROUNDS, SAMPLE = 7, 0.03  # seconds a sample takes
Feeds = dict[str, np.ndarray[Any, Any]]
SETTINGS = tuple({"cuda_graph": graph, "nhwc": nhwc} for nhwc in (False, True) for graph in (False, "auto"))


@dataclass(frozen=True, slots=True)
class Row:
    """One contender on one network at one batch."""

    network: str
    batch: int
    contender: str
    ms: float
    error: float
    setting: str
    note: str = ""


@dataclass(frozen=True)
class Contender:
    """Something that runs: `run` starts a run, `wait` returns when the device is done."""

    name: str
    setting: str
    run: Callable[[], Any]
    wait: Callable[[], Any]
    error: float
    note: str = ""

    def sample(self) -> float:
        """Milliseconds a run."""
        runs = self._runs()
        start = time.perf_counter()
        for _ in range(runs):
            self.run()
        self.wait()
        return (time.perf_counter() - start) / runs * 1e3

    def _runs(self) -> int:
        self.run()
        self.wait()
        start = time.perf_counter()
        self.run()
        self.wait()
        return max(3, min(200, int(SAMPLE / (time.perf_counter() - start))))


def relative(reference: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Relative L2 error."""
    difference = reference.astype(np.float64) - found.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(reference.astype(np.float64)))


def converted(model: onnx.ModelProto, feeds: Feeds, brief: bool) -> Iterator[tuple[str, onnx.ModelProto, bool, str]]:
    """Every converter's model: name, model, TF32 or not, a note. `brief`: the quick ones."""
    yield "float32", model, False, ""
    yield "tf32", model, True, ""
    shapes = {key: value.shape for key, value in feeds.items()}
    ways: dict[str, dict[str, Any]] = (
        {"ampgraph": {}} if brief else {"ampgraph": {}, "ampgraph --no-fuse": {"fuse": False}}
    )
    for title, words in ways.items():
        start = time.perf_counter()
        result = ampgraph.convert(model, device=_device(), shapes=shapes, **words)
        seconds = time.perf_counter() - start
        made = "left alone" if result.planned.changes_nothing else result.plan.fused or "nothing fused"
        note = f"{made}{result.planned.fusing}; {seconds:.1f} s to convert"
        yield title, result.model, True, note
    peers = (("ort float16", _ort), ("ort_fusions + float16", _ort_fused))
    for title, make in peers[:1] if brief else peers:
        with quiet(), contextlib.suppress(Exception):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            yield title, make(copy), True, ""


def _device() -> str:
    return "h200" if "H200" in torch.cuda.get_device_name() else "h100"


def _ort(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


def _ort_fused(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx_ir as ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    fused, _ = optimize_for_ort(ir.from_proto(model))
    return _ort(ir.to_proto(fused))


def contenders(name: str, model: onnx.ModelProto, feeds: Feeds, brief: bool) -> Iterator[Contender]:
    """Every converter's model in every setting that opens."""
    expected: np.ndarray[Any, Any] | None = None
    shapes = {key: value.shape for key, value in feeds.items()}
    for title, made, tf32, note in converted(model, feeds, brief):
        convolves = any(node.op_type == "Conv" for node in model.graph.node)
        # CUDA graphs are every other setting
        for setting in SETTINGS[brief :: 1 + brief] if convolves else SETTINGS[brief:2]:
            try:
                session = ampgraph.Session(made, provider="cuda", tf32=tf32, shapes=shapes, **setting)
                bound = session.bind(feeds)
                bound.run()
                bound.wait()
                answer = next(iter(bound.outputs().values()))
            except Exception as error:
                print(f"{name} {title} {setting}: {str(error)[:200]}", flush=True)
                continue
            expected = answer if expected is None else expected
            if setting["cuda_graph"] and not bound.cuda_graph:
                print(f"{name} {title} {setting}: {session.notes}"[:300], flush=True)
                continue
            words = f"{'graph' if bound.cuda_graph else 'plain'}{' nhwc' if setting['nhwc'] else ''}"
            more = "; ".join((note, *session.notes, *(f"CPU: {each}" for each in session.on_cpu)))
            yield Contender(title, words, bound.run, bound.wait, relative(expected, answer), more)


def torch_contenders(name: str, batch: int) -> Iterator[Contender]:
    """PyTorch's float16, eager and compiled into CUDA graphs."""
    network = gpu_models.build(name).cuda()
    inputs = tuple(each.cuda() for each in gpu_models.inputs(name, batch))
    low = tuple(each.half() if each.is_floating_point() else each for each in inputs)
    with torch.inference_mode():
        expected = network(*inputs).float().cpu().numpy()
        half = network.half()
        convolves = any(isinstance(each, torch.nn.Conv2d) for each in network.modules())
        for title, model in (("torch eager", half), ("torch compile", torch.compile(half, mode="reduce-overhead"))):
            for last in (False, True) if convolves else (False,):
                if last:
                    half.to(memory_format=torch.channels_last)

                def run(model: Any = model) -> Any:  # noqa: ANN401
                    with torch.inference_mode():
                        return model(*low)

                for _ in range(3):
                    answer = run().float().cpu().numpy()
                setting = f"{title}{' nhwc' if last else ''}"
                yield Contender(title, setting, run, torch.cuda.synchronize, relative(expected, answer))


def measured(name: str, batch: int, found: list[Contender]) -> list[Row]:
    """Medians of interleaved rounds; of each contender its faster layout, plain and as a CUDA graph."""
    samples = interleaved([each.sample for each in found], ROUNDS)
    rows = [
        Row(name, batch, each.name, spread(times).median, each.error, each.setting, each.note)
        for each, times in zip(found, samples, strict=True)
    ]
    best: dict[tuple[str, bool], Row] = {}
    for row in rows:
        key = row.contender, row.setting.startswith("graph")
        if key not in best or row.ms < best[key].ms:
            best[key] = row
    return list(best.values())


def source(name: str, models: Path | None, scratch: Path) -> onnx.ModelProto:
    """The network as ONNX: without weights from a folder, random ones put in, or exported here."""
    if models is not None:
        return filled(onnx.load(models / f"{name}.onnx"))
    return onnx.load(gpu_models.export(name, scratch / f"{name}.onnx"))


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, int, onnx.ModelProto | None, Feeds]]:
    """Name, batch, model and inputs of everything to be measured."""
    if arguments.corpus is not None:
        for path in sorted(arguments.corpus.glob("*.onnx")):
            model, feeds = onnx.load(path), stream_for(path.stem, arguments.corpus).feeds[0]
            axes = batch_axes(model, feeds)
            for batch in (1, 16) if axes else (1,):
                yield path.stem, batch, model, batched(feeds, batch, axes)
        return
    for name in (name for name in gpu_models.ROWS if any(each in name for each in arguments.only.split(","))):
        model = None if arguments.no_onnx else source(name, arguments.models, Path(tempfile.mkdtemp()))
        for size in arguments.batches.split(","):
            batch = gpu_models.ROWS[name][2] if size == "large" else int(size)
            arrays = [each.numpy() for each in gpu_models.inputs(name, batch)]
            names = [value.name for value in model.graph.input] if model is not None else []
            yield name, batch, model, dict(zip(names, arrays, strict=False))


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder of stripped models (benchmarks/weightless.py)")
    parser.add_argument("--corpus", type=Path, help="real models instead (benchmarks/fetch_corpus.py)")
    parser.add_argument("--only", default="", help="comma-separated substrings of the networks")
    parser.add_argument("--batches", default="large,1")
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--no-onnx", action="store_true")
    parser.add_argument("--brief", action="store_true", help="few peers, and CUDA graphs alone")
    parser.add_argument("--result", default="gpu_rows")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[Row] = []
    for name, batch, model, feeds in cases(arguments):
        found = (
            measured(name, batch, list(contenders(name, model, feeds, arguments.brief))) if model is not None else []
        )
        if arguments.torch:
            with contextlib.suppress(torch.cuda.OutOfMemoryError):
                found += measured(name, batch, list(torch_contenders(name, batch)))
        rows += found
        print(table(["contender", "ms", "error", "setting"], [[r.contender, r.ms, r.error, r.setting] for r in found]))
        print(f"^ {name} b{batch}", *dict.fromkeys(r.note for r in found if r.note), sep="\n  ", flush=True)
        keep(arguments.result, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
