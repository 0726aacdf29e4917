"""Timing of models in onnxruntime: everything bound on the device, replayed as a CUDA graph where one can be captured.

A run is timed to its end, the wait for the device included; what that costs beside the operators is the same for every
model with a handful of inputs, and is subtracted by the caller.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto
from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype

from ampgraph.onnx_model.run import CUDA, Array, Feed, Provider, fitted, open_session, run

_FATAL = 4
_ALIGNMENT = 256  # bytes, of what a kernel reads
_WARM = 3  # runs before the first that counts: allocation, choice of algorithms, capture
_MOST_RUNS = 200
_PLAIN = "-1"  # the CUDA graph id of a run that neither captures nor replays
# Copies of one op on the same inputs are the point here; the pass would make them one.
_DISABLED = ["CommonSubexpressionElimination"]
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's element type and shape."""

    elem_type: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return math.prod(self.shape) * tensor_dtype_to_np_dtype(self.elem_type).itemsize


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to look: rounds over all that is compared, and seconds that one sample takes."""

    rounds: int = 5
    sample: float = 2e-3


@dataclass
class Memory:
    """Device memory that all timings share, by element type: uploading inputs anew would take longer than they run."""

    device: str
    held: dict[int, Any] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)

    def address(self, elem_type: int, size: int) -> int:
        """Where at least `size` bytes of plausible contents lie."""
        if self.sizes.get(elem_type, -1) < size:
            self.held.pop(elem_type, None)  # free before allocating
            self.held[elem_type] = ort.OrtValue.ortvalue_from_numpy(_contents(elem_type, size), self.device, 0)
            self.sizes[elem_type] = size
        return int(self.held[elem_type].data_ptr())


class Run(Protocol):
    """What can be timed."""

    @property
    def captured(self) -> bool:
        """Whether a run replays a CUDA graph."""
        ...

    def run(self, times: int) -> float:
        """Seconds per run."""
        ...


@dataclass(frozen=True)
class Unbound:
    """A session on inputs that onnxruntime cannot bind, text and sequences among them: a run copies them."""

    session: ort.InferenceSession
    feeds: Mapping[str, Feed]
    captured: bool = False

    def run(self, times: int) -> float:
        """Seconds per run."""
        start = time.perf_counter()
        for _ in range(times):
            run(self.session, self.feeds)
        return (time.perf_counter() - start) / times


@dataclass(frozen=True)
class Timed:
    """A session with everything bound. `captured`: a run replays a CUDA graph."""

    session: Any
    binding: Any
    options: Any
    captured: bool
    alive: Sequence[Any] = ()  # memory that the binding points to

    def run(self, times: int) -> float:
        """Seconds per run."""
        start = time.perf_counter()
        for _ in range(times):
            self.session.run_with_iobinding(self.binding, self.options)
        self.binding.synchronize_outputs()
        return (time.perf_counter() - start) / times


def open_timed(
    model: bytes | Path,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    memory: Memory,
    provider: Provider,
    *,
    tf32: bool = True,
    capture: bool = True,
    merge: bool = False,
    feeds: Mapping[str, Array] | None = None,
    more: Mapping[str, str] | None = None,
) -> Timed:
    """Open, bind and warm up; without a CUDA graph where none can be captured.

    `more`: options of the CUDA provider. `feeds`: real data for inputs. `merge`: let onnxruntime make one of equal
    operators on equal inputs, as it does.
    Raises what onnxruntime raises where the model does not open or run at all.
    """
    given = feeds or {}
    if capture and provider == CUDA:
        with contextlib.suppress(Exception):  # of no common class: nodes on the CPU, copies, loops cannot be captured
            session = _open(model, provider, tf32, merge, more or {}, capture=True)
            return _warm(session, inputs, outputs, memory, given, True)
    return _warm(_open(model, provider, tf32, merge, more or {}, capture=False), inputs, outputs, memory, given, False)


def open_unbound(model: ModelProto | Path, feeds: Mapping[str, Feed], provider: Provider, tf32: bool) -> Unbound:
    """Open and warm up, for inputs or outputs that are no tensors of numbers. Raises as `open_timed` does."""
    session = open_session(model, provider=provider, tf32=tf32)
    found = Unbound(session, fitted(session, feeds))
    found.run(_WARM)
    return found


def measure(timed: Mapping[Any, Run], pace: Pace) -> dict[Any, float]:
    """Median seconds per run of each, rounds interleaved so that drift hits all alike."""
    runs = {key: max(1, min(_MOST_RUNS, int(pace.sample / each.run(1)))) for key, each in timed.items()}
    samples: dict[Any, list[float]] = {key: [] for key in timed}
    for _ in range(pace.rounds):
        for key, each in timed.items():
            samples[key].append(each.run(runs[key]))
    return {key: median(found) for key, found in samples.items()}


def device_name(provider: Provider) -> str:
    """The name of the GPU, or of the processor."""
    return _gpu_name() if provider == CUDA else _cpu_name()


def _open(
    model: bytes | Path, provider: Provider, tf32: bool, merge: bool, more: Mapping[str, str], *, capture: bool
) -> Any:  # noqa: ANN401
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    providers: list[Any] = [provider]
    if provider == CUDA:
        settings = {"use_tf32": str(int(tf32)), "enable_cuda_graph": str(int(capture)), **more}
        providers = [(provider, settings), "CPUExecutionProvider"]
    source = str(model) if isinstance(model, Path) else model
    left_out = None if merge else _DISABLED
    session = ort.InferenceSession(source, options, providers=providers, disabled_optimizers=left_out)
    session.disable_fallback()  # else what fails on the GPU would be timed on the CPU
    return session


def _warm(
    session: Any,  # noqa: ANN401
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    memory: Memory,
    feeds: Mapping[str, Array],
    captured: bool,
) -> Timed:
    options = ort.RunOptions()
    options.log_severity_level = _FATAL
    if not captured:
        options.add_run_config_entry("gpu_graph_id", _PLAIN)
    binding, alive = session.io_binding(), []
    addresses = _addresses({name: known for name, known in inputs.items() if name not in feeds}, memory)
    for name, known in inputs.items():
        if name in feeds:
            alive.append(_uploaded(feeds[name], memory.device))
            address = alive[-1].data_ptr()
        else:
            address = addresses[name]
        binding.bind_input(name, memory.device, 0, known.elem_type, list(known.shape), address)
    for output in session.get_outputs():
        known_output = outputs.get(output.name)
        if known_output is None:
            binding.bind_output(output.name, memory.device)
            continue
        room = np.zeros(max(known_output.bytes, 1), np.uint8)
        alive.append(ort.OrtValue.ortvalue_from_numpy(room, memory.device, 0))
        shape = list(known_output.shape)
        binding.bind_output(output.name, memory.device, 0, known_output.elem_type, shape, alive[-1].data_ptr())
    found = Timed(session, binding, options, captured, (*alive, *memory.held.values()))
    found.run(_WARM)
    return found


def _addresses(inputs: Mapping[str, Tensor], memory: Memory) -> dict[str, int]:
    """An address for each input; those of one type lie one after the other, so that none is read for another."""
    offsets: dict[str, int] = {}
    ends: dict[int, int] = {}
    for name, known in inputs.items():
        offsets[name] = ends.get(known.elem_type, 0)
        ends[known.elem_type] = offsets[name] + -(-max(known.bytes, 1) // _ALIGNMENT) * _ALIGNMENT
    starts = {elem_type: memory.address(elem_type, size) for elem_type, size in ends.items()}
    return {name: starts[known.elem_type] + offsets[name] for name, known in inputs.items()}


def _uploaded(array: Array, device: str) -> Any:  # noqa: ANN401
    raw = np.ascontiguousarray(array).reshape(-1)
    bits = raw.view(np.uint16) if np_dtype_to_tensor_dtype(raw.dtype) == TensorProto.BFLOAT16 else raw
    return ort.OrtValue.ortvalue_from_numpy(bits if bits.size else np.zeros(1, bits.dtype), device, 0)


def _contents(elem_type: int, size: int) -> Array:
    """Bytes of numbers about N(0, 1), of booleans either way, of integers that are a valid index anywhere."""
    dtype = tensor_dtype_to_np_dtype(elem_type)
    count = -(-size // dtype.itemsize)
    generator = np.random.default_rng(0)
    if elem_type in _FLOATS:
        drawn = generator.standard_normal(min(count, 1 << 18), np.float32).astype(dtype)
    elif elem_type == TensorProto.BOOL:
        drawn = generator.integers(0, 2, min(count, 1 << 18)).astype(dtype)
    else:
        drawn = np.zeros(1, dtype)
    return np.resize(drawn.view(np.uint8), count * dtype.itemsize)


def _gpu_name() -> str:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        name, device = ctypes.create_string_buffer(256), ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
            return "an unknown GPU"
        driver.cuDeviceGetName(name, 256, device)
    except OSError:
        return "an unknown GPU"
    return name.value.decode(errors="replace")


def _cpu_name() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
