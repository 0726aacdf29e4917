"""A network as every ONNX converter makes it, in files, and as sessions in every setting that could win.

Files are made once and found again by name: `python -m benchmarks.compile_ahead` makes them side by side before the
GPU is measured. A converter that fails leaves its complaint in a file of its own.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import ampgraph
from ampgraph.conversion import Planned, convert_model, plan_model
from ampgraph.cost import modelled_milliseconds, price
from ampgraph.devices import device_named
from ampgraph.onnx_model.fastest import settings_of
from ampgraph.onnx_model.run import CUDA, best_provider
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.onnx_model.tune import Way
from ampgraph.options import make_options
from ampgraph.own_kernels import own_kernels
from ampgraph.placement import assignment_cost
from ampgraph.tuning import tune
from benchmarks import gpu_models
from benchmarks.converters import quiet
from benchmarks.gpu_limits import Work, work
from benchmarks.gpu_timing import Array, Contender, Turns
from benchmarks.weightless import KEY, filled, restored

FLOAT32, TF32, OURS = "float32", "tf32", "ampgraph"
FOR_GRAPHS = "ampgraph --cuda-graph"  # and --native: planned for what kernels, ours among them, cost in a CUDA graph
TUNED = "ampgraph, tuned"  # `convert --tune --cuda-graph`, opened by a plain Session as the file records
OF_OURS = (FLOAT32, TF32, OURS, FOR_GRAPHS, TUNED)  # no peers
_FOR_PROFILE = 0.2  # of the time to tune, for measuring operators
_NOTE = "benchmarks.note"  # metadata of a prepared model
# onnxruntime.transformers.optimizer: model type, heads and width by network. It knows nothing to fuse in the others.
_OPTIMIZER: Mapping[str, tuple[str, int, int]] = {
    "bert_base": ("bert", 12, 768),
    "vit_b_16": ("vit", 12, 768),
    "swin_t": ("swin", 0, 0),
    "convnext_tiny": ("bert", 0, 0),
    "llama_12": ("gpt2", 16, 1024),
    "sd_unet_block": ("unet", 0, 0),
    "whisper_small": ("bart", 12, 768),
    "all-MiniLM-L6-v2": ("bert", 12, 384),
}

Feeds = dict[str, Array]
Setting = dict[str, Any]
Result = tuple[onnx.ModelProto, Mapping[str, Any]]  # a model, and what is to be said about it


class NotHereError(Exception):
    """What a converter needs is not on this machine, or it has nothing for this network: no fault of its own."""


@dataclass(frozen=True)
class Case:
    """A network at a batch. `source`: the float32 model; what is made of it lies beside it in `folder`.

    `samples`: inputs of the same shapes that errors are measured on, all together, instead of on `feeds`.
    """

    network: str
    batch: int
    source: Path
    feeds: Feeds = field(repr=False)
    folder: Path
    modelopt: Path | None = None  # folder of modelopt_stripped
    runs_plain: bool = False  # too, so that ours has a plan for that
    samples: tuple[Feeds, ...] = field(default=(), repr=False)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the inputs."""
        return {name: value.shape for name, value in self.feeds.items()}

    def path(self, title: str) -> Path:
        """Where a converter's model lies; ours is another for every batch, since shapes decide what pays."""
        batch = f".b{self.batch}" if title in (OURS, FOR_GRAPHS, TUNED) else ""
        return self.folder / f"{self.network}.{title.replace(',', '').replace(' ', '_')}{batch}.onnx"


@dataclass(frozen=True)
class Made:
    """A converter's model with what is to be said about it; `failure` instead of a path where there is none."""

    title: str
    path: Path | None
    note: str = ""
    work: Work | None = None
    failure: str = ""
    modelled: Mapping[str, float] = field(default_factory=dict)


def device_short_name() -> str:
    """The device that plans are made for: the one here."""
    return "h200" if torch.cuda.is_available() and "H200" in torch.cuda.get_device_name() else "h100"


def source(name: str, models: Path | None, scratch: Path) -> onnx.ModelProto:
    """The network as ONNX, from a folder (random weights put in where they were stripped) or exported here."""
    return onnx.load(source_path(name, models, scratch))


def source_path(name: str, models: Path | None, scratch: Path) -> Path:
    """The file of `source`."""
    if models is None or not (models / f"{name}.onnx").exists():
        return gpu_models.export(name, _written(scratch, name))
    model = onnx.load(models / f"{name}.onnx")
    if all(entry.key != KEY for entry in model.metadata_props):
        return models / f"{name}.onnx"
    path = _written(scratch, name)
    onnx.save(filled(model), path)
    return path


def prepared(case: Case, own_only: bool = False) -> list[Made]:
    """What every converter makes of the network, from files where they are there. `own_only`: without the peers."""
    ways = [title for title in _WAYS if title != OURS or case.runs_plain]
    ways = [title for title in ways if title in OF_OURS or not own_only]
    return [Made(FLOAT32, case.source), Made(TF32, case.source), *(_prepare(case, title) for title in ways)]


def tuned(case: Case, seconds: float, provider: str, turns: Turns) -> Made:
    """What `convert --tune --cuda-graph` makes in about so many seconds of the GPU, from a file where it is there."""
    return _prepare(case, TUNED, lambda case: _tuned(case, seconds, provider, turns))


def contenders(case: Case, models: list[Made], turns: Turns, plain: bool, provider: str) -> Iterator[Contender]:
    """Every converter's model in every setting that opens and could win."""
    seen: dict[Any, str] = {}
    for made in models:
        if made.title == (FOR_GRAPHS if plain else OURS) and case.runs_plain:  # a plan is for one way of running
            continue
        if plain and made.title == TUNED:  # likewise
            continue
        if made.path is None:
            print(f"{case.network} {made.title}: {made.failure}", flush=True)
            continue
        model = onnx.load(made.path, load_external_data=False)
        nodes = _signature(model)
        if made.title not in OF_OURS and nodes in seen:
            print(f"{case.network} {made.title}: the nodes of {seen[nodes]}", flush=True)
            continue
        seen.setdefault(nodes, made.title)
        for setting in _settings(made.title, model, case.shapes, plain):
            yield from _opened(case, made, {**setting, "cuda_graph": False if plain else "auto"}, turns, provider)


def _opened(case: Case, made: Made, setting: Setting, turns: Turns, provider: str) -> Iterator[Contender]:
    try:
        with turns.alone():  # cuDNN's search and ours go by the clock, and find slow kernels beside a compiler's trials
            session = Session(str(made.path), provider=provider, shapes=case.shapes, **setting)
            bound = session.bind(case.feeds)
            bound.run()
            bound.wait()
            answers = [session.run(feeds) for feeds in case.samples] or [bound.outputs()]
            answer = np.concatenate([np.atleast_1d(next(iter(each.values()))) for each in answers])
    except Exception as error:  # onnxruntime's, or a model's that is none
        print(f"{case.network} {made.title} {setting}: {str(error)[:200]}", flush=True)
        return
    words = "graph" if bound.cuda_graph else "plain"
    more = "; ".join((*filter(None, (made.note,)), *session.notes))
    words += " recorded" if session.recorded else ""
    yield Contender(made.title, f"{words}{_words(setting, session.nhwc)}", bound.run, bound.wait, answer, more)


def _words(setting: Setting, nhwc: bool) -> str:
    said = " nhwc" if nhwc else ""
    native = setting.get("native", "auto")
    said += " default" if setting.get("nhwc") == "auto" and native == "auto" else ""
    said += " native" if native is True else ""
    said += " without native" if native is False and setting.get("nhwc") == "auto" else ""
    said += " no tf32" if setting.get("tf32", True) is False else ""
    return said + "".join(f" {key}={value}" for key, value in setting.get("provider_options", {}).items())


def _settings(
    title: str, model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]], plain: bool
) -> Iterator[Setting]:
    """Convolutions first or last where there are any; of ours the session's own choice and what else it could take."""
    if title == FLOAT32:
        yield {"nhwc": False, "tf32": False, "native": False}
        return
    if title == TUNED:
        yield {}
        return
    convolves = any(node.op_type == "Conv" for node in model.graph.node)
    if title not in (OURS, FOR_GRAPHS):
        layouts = (False, True) if convolves else (False,)
        yield from ({"nhwc": last, "tf32": True, "native": False} for last in layouts)
        return
    yield from (setting.options for setting in settings_of(model, shapes, not plain))


def _signature(model: onnx.ModelProto) -> Any:  # noqa: ANN401  (to be compared only)
    """What tells two conversions of a network apart: how many of which operators, and constants in which types."""
    operators = Counter((node.domain, node.op_type) for node in model.graph.node)
    types = Counter(tensor.data_type for tensor in model.graph.initializer)
    return frozenset(operators.items()), frozenset(types.items())


def _prepare(case: Case, title: str, way: Callable[[Case], Result] | None = None) -> Made:
    path = case.path(title)
    complaint = path.with_suffix(".failed")
    if not path.exists() and not complaint.exists():
        try:
            with quiet(), contextlib.redirect_stderr(io.StringIO()):  # a progress bar
                model, said = (way or _WAYS[title])(case)
            onnx.helper.set_model_props(model, {**_properties(model), _NOTE: json.dumps(said)})
            _save(model, path)
        except NotHereError as error:
            return Made(title, None, failure=str(error))
        except Exception as error:  # whatever the tool raises
            complaint.write_text(f"{type(error).__name__}: {str(error)[:300]}")
    if complaint.exists():
        return Made(title, None, failure=complaint.read_text())
    said = json.loads(_properties(onnx.load(path, load_external_data=False))[_NOTE])
    found = Work(**said["work"]) if "work" in said else None
    return Made(title, path, said.get("note", ""), found, modelled=said.get("modelled", {}))


def _save(model: onnx.ModelProto, path: Path) -> None:
    """Whole or not at all: another process, or a later one, takes what it finds."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    onnx.save(model, unfinished)
    unfinished.replace(path)


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _written(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.onnx"


def _modelled(planned: Planned) -> float:
    """Milliseconds of a plan as a CUDA graph by the cost model."""
    graph, device = planned.graph, device_named(planned.options.device, cuda_graph=True)
    own = own_kernels(graph, planned.judgement, planned.options)
    prices = price(graph, "speed", device, planned.options.precision, own=own)
    return modelled_milliseconds(assignment_cost(graph, planned.plan.low, prices))


def _for_graphs(case: Case) -> Result:
    return _ours(case, cuda_graph=True)


def _ours(case: Case, cuda_graph: bool = False) -> Result:
    start = time.perf_counter()
    shapes, device = case.shapes, device_short_name()
    result = ampgraph.convert(case.source, device=device, shapes=shapes, cuda_graph=cuda_graph, native=cuda_graph)
    model, seconds = result.model, time.perf_counter() - start
    made = "left alone" if result.planned.changes_nothing else result.plan.fused or "nothing fused"
    way = "; --native" if result.planned.options.native else ""
    note = f"{made}{result.planned.fusing}{way}; {len(result.plan.casts)} casts; {seconds:.1f} s to convert"
    alone = plan_model(as_loaded(case.source), result.planned.options, as_is=True)
    modelled = {"plan_ms": _modelled(result.planned), "source_ms": _modelled(alone)}
    said = {"note": note, "work": asdict(work(result.planned, shapes)), "modelled": modelled}
    return model, said


def _tuned(case: Case, seconds: float, provider: str, turns: Turns) -> Result:
    if provider != "cpu" and best_provider() != CUDA:
        raise NotHereError("there is no GPU here to tune on")
    options = make_options(device=device_short_name(), shapes=case.shapes, tune=True, cuda_graph=True)
    profiling = _FOR_PROFILE * seconds
    way = Way(seconds=seconds - profiling, cuda_graph=True)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "inputs.npz")
        np.savez(data, **case.feeds)  # type: ignore[arg-type]  (no input is called allow_pickle)
        loaded = as_loaded(case.source)
        planned = tune(loaded, options, data, provider=provider, way=way, profile_seconds=profiling, alone=turns.alone)
    assert planned.tuned is not None
    tried = sum(row.ms is not None for row in planned.tuned.rows)
    note = f"{planned.tuned.winner.name} with {planned.tuned.winner.setting.words}, of {tried} measured"
    return convert_model(planned).model, {"note": "; ".join((note, *planned.tuned.notes))}


def _float16(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    return converted


def _plain_float16(case: Case) -> Result:
    return _float16(onnx.load(case.source)), {}


def _optimized(case: Case) -> Result:
    from onnxruntime.transformers.optimizer import optimize_model

    if case.network not in _OPTIMIZER:
        raise NotHereError("its optimizer has no model type for this network")
    kind, heads, width = _OPTIMIZER[case.network]
    optimized = optimize_model(str(case.source), kind, heads, width, opt_level=0, use_gpu=True, only_onnxruntime=False)
    fused = {name: count for name, count in optimized.get_fused_operator_statistics().items() if count}
    optimized.convert_float_to_float16(keep_io_types=True)
    return optimized.model, {"note": ", ".join(f"{count} {name}" for name, count in fused.items()) or "nothing fused"}


def _fusions(case: Case) -> Result:
    import onnx_ir as ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    fused, _ = optimize_for_ort(ir.from_proto(onnx.load(case.source)))
    return _float16(ir.to_proto(fused)), {}


def _autocast(case: Case) -> Result:
    if case.modelopt is None or not (case.modelopt / f"{case.network}.onnx").exists():
        raise NotHereError("no conversion by ModelOpt is here")
    return restored(onnx.load(case.modelopt / f"{case.network}.onnx"), onnx.load(case.source)), {}


_WAYS: Mapping[str, Callable[[Case], Result]] = {
    OURS: _ours,
    FOR_GRAPHS: _for_graphs,
    "ort float16": _plain_float16,
    "ort optimizer": _optimized,
    "ort_fusions": _fusions,
    "modelopt": _autocast,
}
