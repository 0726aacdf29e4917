"""Profile: the time of a model's operators on this machine, one shape class at a time, in every precision.

onnxruntime's own profiler is no source for this: on CUDA its node times are those of launches. An operator is timed as
many copies of it in one session, less what a session costs that does next to nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import np_dtype_to_tensor_dtype

from ampgraph.cost import count_measured
from ampgraph.devices import device_named
from ampgraph.errors import ModelError
from ampgraph.fusable import absorbed
from ampgraph.graph import Op, PrecisionGraph
from ampgraph.kernels import KernelTable, onnxruntime_cuda
from ampgraph.measured import CastCost, MeasuredCosts, Seconds, ShapeClass, Whole, class_of, fit_cast
from ampgraph.onnx_model import io
from ampgraph.onnx_model.io import Loaded, first_line
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.names import node_ids, walk
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, Feed, Provider, best_provider, random_inputs
from ampgraph.onnx_model.single_op import Single, cast_model, channels_last, known_tensors, low_variables, single_op
from ampgraph.onnx_model.timing import Memory, Pace, Run, Tensor, Timed, device_name, measure, open_timed, open_unbound
from ampgraph.onnx_model.types import infer, modelled_inputs
from ampgraph.precision import LOW_PRECISIONS, Precision
from ampgraph.work import Kind, work_of

Say = Callable[[str], None]

ENOUGH = 3e-4  # seconds that the copies of an op should take together, for what surrounds them not to matter
_MOST_COPIES = 64
_MOST_SEARCHED = 8  # copies of what cuDNN searches algorithms for, each anew
_SEARCHED = (Kind.CONVOLUTION, Kind.GROUPED, Kind.RECURRENT)
_CAST_SIZES = tuple(1 << bits for bits in (10, 14, 18, 20, 22, 24))
_LARGEST_ON_CPU = 1 << 20  # elements of a cast there: more take seconds, and say nothing new
_FEW, _MANY = 4, 64  # copies whose difference is what an op takes that does nothing
_DIRECTIONS = ((Precision.FLOAT32, Precision.FLOAT16), (Precision.FLOAT16, Precision.FLOAT32))


@dataclass(frozen=True)
class Settings:
    """How to profile. `seconds`: no further shape class is begun after them; the heaviest come first."""

    provider: Provider = "best"
    tf32: bool = True
    seconds: float = 120.0
    pace: Pace = field(default_factory=Pace)
    cast_sizes: tuple[int, ...] = _CAST_SIZES


@dataclass(frozen=True)
class _Bench:
    """What every timing needs: where it runs, and what a session costs that does next to nothing."""

    settings: Settings
    provider: Provider
    memory: Memory
    empty: Mapping[bool, float]  # seconds of a run without operators, captured or not
    launch: float

    def open(self, single: Single, capture: bool = True) -> Timed:
        """A single-op model, bound and warm."""
        return _opened(single, self.memory, self.provider, self.settings.tf32, capture)

    def seconds_of(self, timed: Mapping[Precision, Timed], copies: int) -> dict[Precision, float]:
        """Time of one copy in each precision."""
        found = measure(timed, self.settings.pace)
        return {key: max(found[key] - self.around(each), 0.0) / copies for key, each in timed.items()}

    def around(self, timed: Run) -> float:
        """What a run takes beside its operators."""
        return self.empty.get(timed.captured, min(self.empty.values()))


@dataclass(frozen=True)
class _Subject:
    """The model under the profiler."""

    model: ModelProto
    graph: PrecisionGraph
    nodes: Mapping[str, NodeProto]  # by op id
    known: Mapping[str, TensorProto]
    table: KernelTable


def profile(
    loaded: Loaded,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    feeds: Mapping[str, Feed] | None = None,
    settings: Settings | None = None,
    say: Say = lambda _: None,
) -> MeasuredCosts:
    """Times of the model's operators at these shapes, or those of `feeds`, and of the whole model."""
    settings = settings or Settings()
    start = time.monotonic()
    sizes = {name: feed.shape for name, feed in (feeds or {}).items() if isinstance(feed, np.ndarray)}
    subject = _subject(loaded, {**(shapes or {}), **sizes})
    bench = _bench(settings)
    say(f"{device_name(bench.provider)}, {bench.provider}: an operator takes {bench.launch * 1e6:.1f} us to start")
    given = feeds or random_inputs(subject.model, shapes=shapes)
    whole, captured = _run_whole(loaded, subject.graph, bench, given)
    cast = _cast_cost(bench)
    classes = _classes(subject.graph)
    entries: dict[ShapeClass, Seconds] = {}
    for kind, op in classes.items():
        if time.monotonic() - start > settings.seconds:
            say(f"{len(classes) - len(entries)} of {len(classes)} shape classes were left when time was up (--seconds)")
            break
        entries[kind] = _times(subject, op, bench)
    where = (device_name(bench.provider), bench.provider, _runtime())
    costs = MeasuredCosts(*where, settings.tf32, bench.launch, cast, entries)
    return replace(costs, whole=_compared(subject.graph, costs, whole, captured))


def _subject(loaded: Loaded, shapes: Mapping[str, tuple[int, ...]]) -> _Subject:
    model = prepare(loaded.model)
    graph = lift(model, shapes, Precision.FLOAT16, loaded.folder)
    nodes = dict(zip(node_ids(model.graph).values(), walk(model.graph), strict=True))
    known = known_tensors(model, infer(model, modelled_inputs(model, shapes)))
    return _Subject(model, graph, nodes, known, onnxruntime_cuda())


def _runtime() -> str:
    return f"onnxruntime {ort.__version__}"


def _bench(settings: Settings) -> _Bench:
    provider = best_provider() if settings.provider == "best" else settings.provider
    memory = Memory("cpu" if provider == CPU else "cuda")
    empty, launch = {}, 0.0
    for capture in (True, False):
        singles = {copies: cast_model(1, *_DIRECTIONS[0], copies) for copies in (_FEW, _MANY)}
        timed = {key: _opened(each, memory, provider, settings.tf32, capture) for key, each in singles.items()}
        found = measure(timed, settings.pace)
        launch = max(found[_MANY] - found[_FEW], 0.0) / (_MANY - _FEW)
        empty[timed[_FEW].captured] = max(found[_FEW] - _FEW * launch, 0.0)
    return _Bench(settings, provider, memory, empty, launch)


def _opened(single: Single, memory: Memory, provider: Provider, tf32: bool, capture: bool) -> Timed:
    data = single.model.SerializeToString()
    more = single.options
    return open_timed(data, single.inputs, single.outputs, memory, provider, tf32=tf32, capture=capture, more=more)


def _cast_cost(bench: _Bench) -> CastCost:
    points = []
    most = _LARGEST_ON_CPU if bench.provider == CPU else max(bench.settings.cast_sizes)
    for elements in (size for size in bench.settings.cast_sizes if size <= most):
        copies = _copies(elements * 6 / device_named("h100").byte_rate, _MOST_COPIES)
        timed = {target: bench.open(cast_model(elements, source, target, copies)) for source, target in _DIRECTIONS}
        points += [(elements * 6, max(seconds, 1e-9)) for seconds in bench.seconds_of(timed, copies).values()]
    return fit_cast(points)


def _copies(guess: float, most: int) -> int:
    return max(2, min(most, round(ENOUGH / max(guess, ENOUGH / _MOST_COPIES))))


def _classes(graph: PrecisionGraph) -> dict[ShapeClass, Op]:
    """An operator of each shape class, the classes that should take most time first."""
    first: dict[ShapeClass, Op] = {}
    weight: dict[ShapeClass, float] = {}
    free = absorbed(graph)
    for op in graph.ops.values():
        kind = class_of(op, graph)
        if kind is not None and op.id not in free and not _is_folded(op, graph):
            first.setdefault(kind, op)
            weight[kind] = weight.get(kind, 0.0) + graph.scopes[op.scope].frequency * _guess(op, graph)
    return {kind: first[kind] for kind in sorted(first, key=lambda kind: -weight[kind])}


def _is_folded(op: Op, graph: PrecisionGraph) -> bool:
    """Whether the runtime computes it when it opens the model: it reads constants alone."""
    read = [graph.values[slot.value] for slot in op.inputs if slot.value]
    return all(value.constant is not None for value in read)


def _guess(op: Op, graph: PrecisionGraph) -> float:
    """About what one run takes on a large GPU."""
    work, device = work_of(op, graph), device_named("h100")
    moved = (4 * work.floats + work.other_bytes) / device.byte_rate
    return max(work.operations / device.matrix_rate(Precision.FLOAT32), moved) + ENOUGH / _MOST_COPIES


def _times(subject: _Subject, op: Op, bench: _Bench) -> Seconds:
    """Seconds in each precision; None in those that it has no kernel for, or does not run in by itself."""
    most = _MOST_SEARCHED if work_of(op, subject.graph).kind in _SEARCHED else _MOST_COPIES
    copies = _copies(_guess(op, subject.graph), most)
    timed: dict[Precision, Timed] = {}
    for precision in Precision:
        found = _single(subject, op, precision, copies)
        if found is not None:
            try:
                timed[precision] = bench.open(found)
            except Exception:
                continue
    seconds = bench.seconds_of(timed, copies) if timed else {}
    return {precision: seconds.get(precision) for precision in Precision}


def _single(subject: _Subject, op: Op, precision: Precision, copies: int) -> Single | None:
    low: frozenset[str] | None = frozenset()
    if precision in LOW_PRECISIONS:
        low = low_variables(op, subject.graph, precision, subject.table)
    if low is None:
        return None
    found = single_op(op, subject.nodes[op.id], subject.graph, subject.known, precision, low, copies)
    return channels_last(found, op) if precision in LOW_PRECISIONS else found


def _run_whole(loaded: Loaded, graph: PrecisionGraph, bench: _Bench, feeds: Mapping[str, Feed]) -> tuple[float, bool]:
    """Seconds of a run of the model in float32, and whether as a CUDA graph."""
    place = str(loaded.path or loaded.model.graph.name or "the model")
    try:
        timed = _opened_whole(loaded, graph, bench, feeds)
    except Exception as error:  # as above
        remedy = "give the inputs' sizes with --shape, or real inputs with --data"
        raise ModelError(place, f"does not run in onnxruntime ({first_line(error)[:300]})", remedy) from None
    found = measure({"whole": timed}, bench.settings.pace)["whole"]
    return max(found - bench.around(timed), 1e-9), timed.captured


def _opened_whole(loaded: Loaded, graph: PrecisionGraph, bench: _Bench, feeds: Mapping[str, Feed]) -> Run:
    """Bound, where all that goes in and comes out are tensors of numbers; onnxruntime binds no others."""
    source, tf32 = loaded.path or io.with_data(loaded.model, loaded.folder), bench.settings.tf32
    values = (*loaded.model.graph.input, *loaded.model.graph.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    if {TensorProto.UNDEFINED, TensorProto.STRING} & {*kinds.values()}:
        return open_unbound(source, feeds, bench.provider, tf32)
    arrays = {name: feed for name, feed in feeds.items() if isinstance(feed, np.ndarray)}
    inputs = {name: Tensor(np_dtype_to_tensor_dtype(array.dtype), array.shape) for name, array in arrays.items()}
    known = {value.name: graph.values[value.name].shape for value in loaded.model.graph.output}
    outputs = {name: Tensor(kinds[name], shape) for name, shape in known.items() if shape is not None}
    model = source if isinstance(source, Path) else source.SerializeToString()
    return open_timed(model, inputs, outputs, bench.memory, bench.provider, tf32=tf32, merge=True, feeds=arrays)


def _compared(graph: PrecisionGraph, costs: MeasuredCosts, whole: float, captured: bool) -> Whole:
    """The whole beside its parts; without a CUDA graph an operator takes at least its launch."""
    least = 0.0 if captured else costs.launch
    parts, free = 0.0, absorbed(graph)
    for op in graph.ops.values():
        own = (costs.times_of(op, graph) or {}).get(Precision.FLOAT32)
        if own is not None and op.id not in free and not _is_folded(op, graph):
            parts += graph.scopes[op.scope].frequency * max(own, least)
    measured, ops = count_measured(graph, costs)
    return Whole(whole, parts, ops, measured)
