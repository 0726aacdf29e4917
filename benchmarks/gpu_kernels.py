"""Which CUDA kernels a network spends its time in: `python -m benchmarks.gpu_kernels [--only A,B] [--batches 1]`.

Each network as ampgraph converts it, in either layout and with kernels of our own, and compiled by torch in half
precision: milliseconds of a CUDA graph, then every kernel with its launches and microseconds a run, as CUPTI records
them through torch's profiler (which sees onnxruntime's kernels too: they run in the same process).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity

import ampgraph
from benchmarks import gpu_models
from benchmarks.gpu_onnx import device_short_name, source
from benchmarks.gpu_timing import relative
from benchmarks.record import table

_RUNS, _SHOWN, _NAME = 5, 14, 100


@dataclass(frozen=True)
class Kernel:
    """A kernel in one run of a network."""

    name: str
    launches: float
    microseconds: float


@dataclass(frozen=True)
class Profile:
    """What one run consists of. `ms`: of a run as a CUDA graph."""

    network: str
    batch: int
    contender: str
    ms: float
    error: float
    kernels: tuple[Kernel, ...]

    @property
    def launches(self) -> float:
        return sum(each.launches for each in self.kernels)


def kernels_of(run: Callable[[], Any], wait: Callable[[], Any]) -> tuple[Kernel, ...]:
    """Every kernel of a run, the costliest first."""
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(_RUNS):
            run()
        wait()
        torch.cuda.synchronize()
    rows = [event for event in found.key_averages() if event.device_time_total > 0]
    kernels = [Kernel(row.key, row.count / _RUNS, row.device_time_total / _RUNS) for row in rows]
    return tuple(sorted(kernels, key=lambda each: -each.microseconds))


def milliseconds(run: Callable[[], Any], wait: Callable[[], Any]) -> float:
    """The least of a few samples of a run."""
    for _ in range(3):
        run()
    wait()
    samples = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(10):
            run()
        wait()
        samples.append((time.perf_counter() - start) * 100)
    return min(samples)


def of_ampgraph(name: str, batch: int, folder: Path | None) -> list[Profile]:
    """The converted network in each setting; the graph is timed, a plain run is profiled."""
    model = source(name, folder, Path(tempfile.mkdtemp()))
    arrays = [each.numpy() for each in gpu_models.inputs(name, batch)]
    feeds = dict(zip([value.name for value in model.graph.input], arrays, strict=False))
    shapes = {key: value.shape for key, value in feeds.items()}
    expected = next(iter(_answers(model, feeds, tf32=False).values()))
    result = ampgraph.convert(model, device=device_short_name(), shapes=shapes, cuda_graph=True)
    print(name, batch, result.plan.fused, result.planned.fusing, f"{len(result.plan.casts)} casts", flush=True)
    found = []
    convolves = any(node.op_type == "Conv" for node in model.graph.node)
    settings: list[dict[str, Any]] = [
        {"nhwc": last, "native": False} for last in ((False, True) if convolves else (False,))
    ]
    for setting in (*settings, {"native": True}):
        session = ampgraph.Session(result.model, provider="cuda", shapes=shapes, **setting)
        bound = session.bind(feeds)
        ms = milliseconds(bound.run, bound.wait)
        error = relative(expected, next(iter(bound.outputs().values())))
        plain = ampgraph.Session(result.model, provider="cuda", shapes=shapes, cuda_graph=False, **setting).bind(feeds)
        words = [key for key, chosen in setting.items() if chosen]
        title = " ".join(["ampgraph", *words, *([] if bound.cuda_graph else ["(no graph)"])])
        print(title, *session.notes, sep="; ", flush=True)
        found.append(Profile(name, batch, title, ms, error, kernels_of(plain.run, plain.wait)))
    return found


def _answers(model: Any, feeds: dict[str, Any], tf32: bool) -> dict[str, Any]:  # noqa: ANN401
    return ampgraph.Session(model, provider="cuda", tf32=tf32, cuda_graph=False).run(feeds)


def of_torch(name: str, batch: int) -> list[Profile]:
    """The network in half precision, compiled into CUDA graphs, convolutions channels last."""
    network = gpu_models.build(name).cuda()
    inputs = tuple(each.cuda() for each in gpu_models.inputs(name, batch))
    low = tuple(each.half() if each.is_floating_point() else each for each in inputs)
    with torch.inference_mode():
        expected = network(*inputs).float().cpu().numpy()
        half = network.half()
        if any(isinstance(each, torch.nn.Conv2d) for each in network.modules()):
            half.to(memory_format=torch.channels_last)
        compiled = torch.compile(half, mode="reduce-overhead")

        def run() -> Any:  # noqa: ANN401
            with torch.inference_mode():
                return compiled(*low)

        answer = run().float().cpu().numpy()
        ms = milliseconds(run, torch.cuda.synchronize)
        return [
            Profile(
                name,
                batch,
                "torch compile",
                ms,
                relative(expected, np.asarray(answer)),
                kernels_of(run, torch.cuda.synchronize),
            )
        ]


def main() -> None:
    """Print a table for each, and keep all kernels where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, help="folder of stripped models (benchmarks/weightless.py)")
    parser.add_argument("--only", default="", help="comma-separated substrings of the networks")
    parser.add_argument("--batches", default="large,1")
    parser.add_argument("--contenders", default="ampgraph,torch")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = []
    for name in gpu_models.named(arguments.only):
        for size in arguments.batches.split(","):
            batch = gpu_models.row(name)[2] if size == "large" else int(size)
            found: list[Profile] = []
            for contender in arguments.contenders.split(","):
                try:
                    made = of_torch(name, batch) if contender == "torch" else of_ampgraph(name, batch, arguments.models)
                except Exception as error:  # one contender's fault is no other's
                    print(name, batch, contender, str(error)[:300], flush=True)
                    continue
                found += made
            for each in found:
                busy = f"{sum(kernel.microseconds for kernel in each.kernels):.0f} us in {each.launches:.0f} kernels"
                print(f"== {name} b{batch} {each.contender}: {each.ms:.3f} ms, error {each.error:.1e}, {busy}")
                rows = [[k.name[:_NAME], k.launches, k.microseconds] for k in each.kernels[:_SHOWN]]
                print(table(["kernel", "launches", "us"], rows), flush=True)
                kept.append(asdict(each))
            if arguments.json:
                arguments.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
