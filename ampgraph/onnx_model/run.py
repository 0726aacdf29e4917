"""Running models in onnxruntime: sessions on the best provider that really opens, inputs, and the graph it makes."""

from __future__ import annotations

import contextlib
import ctypes
import math
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, parser
from onnx.helper import np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype

from ampgraph.errors import ModelError
from ampgraph.onnx_model.silence import FATAL, silence
from ampgraph.onnx_model.types import modelled_inputs

Provider = Literal["best", "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
Optimize = Literal["disabled", "basic", "extended", "all"]
CPU: Provider = "CPUExecutionProvider"
CUDA: Provider = "CUDAExecutionProvider"
TENSORRT: Provider = "TensorrtExecutionProvider"

Array = npt.NDArray[Any]
Feed = Array | list[Array] | None

_LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_PROBING = threading.RLock()
_LARGEST_PROTO = 2**31 - 1
_SEQUENCE_LENGTH = 2
UNKNOWN_TO_NUMPY = {
    f"tensor({name.replace('_', '')})": np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
}
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def best_provider() -> Provider:
    """CUDA where a session really opens on it, else CPU; tried once per process, by one thread while others wait.

    `onnxruntime.get_available_providers()` lists CUDA even where its libraries cannot be loaded.
    """
    with _PROBING:
        return _probed()


@cache
def _probed() -> Provider:
    if CUDA not in ort.get_available_providers():
        return CPU
    probe = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> probe (float[1] x) => (float[1] y) { y = Neg(x) }'
    )
    with silence():
        _load_cuda_libraries()
        try:
            session = ort.InferenceSession(probe.SerializeToString(), _options("all"), providers=[CUDA])
        except Exception:  # a driver or library at fault raises whatever it likes; any failure means no CUDA
            return CPU
    return CUDA if CUDA in session.get_providers() else CPU


def open_session(
    model: onnx.ModelProto | Path,
    *,
    provider: Provider = "best",
    optimize: Optimize = "all",
    tf32: bool = False,
    folder: Path | None = None,
    provider_options: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
    without: Sequence[str] = (),
    library: Path | None = None,
    shapes_first: bool = False,
    weights: Mapping[str, Array] | None = None,
    once: bool = False,
) -> ort.InferenceSession:
    """Open a session. `folder` holds the external data of a model given as a proto; CUDA keeps the CPU as fallback.

    `tf32` lets CUDA multiply float32 in TF32, onnxruntime's own default; off, float32 is a reference.
    `provider_options` are handed to the CUDA or TensorRT provider, `config` to the session, as they are. `sizes`: of
    free dimensions, by symbol, which the session then takes no other of. `without`: onnxruntime's names of the
    optimizations that it shall leave out. `library`: of custom operators. `shapes_first`: a shape is asked for as
    soon as its tensor is there, which may then go; otherwise last, where it is but an output. `weights`: of a model
    with references in their place (`skeleton.weights_apart`), which the caller keeps for as long as the session.
    `once`: the session is for a run or two, and prepares nothing that only more of them would pay for.
    """
    options = _options(optimize)
    if once:
        options.enable_mem_reuse = False  # planning it is most of what opening takes; the peak is the same
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if weights:
        options.add_external_initializers(list(weights), [ort_value(array) for array in weights.values()])
    if library is not None:
        options.register_custom_ops_library(str(library))
    if shapes_first:
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    for symbol, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(symbol, size)
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    return _open(model, options, provider, tf32, provider_options, without)


def run(
    session: ort.InferenceSession, feeds: Mapping[str, Feed], options: ort.RunOptions | None = None
) -> dict[str, Any]:
    """Outputs by name; bfloat16 and float8 inputs and outputs are ml_dtypes arrays."""
    interface = (*session.get_inputs(), *session.get_outputs())
    names = [output.name for output in session.get_outputs()]
    if not any(value.type in UNKNOWN_TO_NUMPY for value in interface):
        return dict(zip(names, session.run(names, dict(feeds), options), strict=True))
    given = {name: ort_value(feed) for name, feed in feeds.items()}
    return dict(zip(names, map(array_of, session.run_with_ort_values(names, given, options)), strict=True))


def fitted(session: ort.InferenceSession, feeds: Mapping[str, Feed]) -> dict[str, Feed]:
    """Feeds as a session takes them: float32 arrays in the low type where that is what it reads."""
    kinds = {value.name: value.type for value in session.get_inputs()}
    return {name: _fit(feed, kinds.get(name, "")) for name, feed in feeds.items()}


def ort_value(feed: Feed) -> Any:  # noqa: ANN401  (onnxruntime is untyped)
    """A feed as onnxruntime's own value on the CPU, which shares the array's memory."""
    if isinstance(feed, np.ndarray) and feed.dtype in UNKNOWN_TO_NUMPY.values():
        raw = np.ascontiguousarray(feed).view(f"u{feed.dtype.itemsize}")
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, np_dtype_to_tensor_dtype(feed.dtype))
    return ort.OrtValue.ortvalue_from_numpy(feed)


def array_of(value: Any) -> Any:  # noqa: ANN401
    """An output as an array of its own; where onnxruntime knows no numpy type for it, its bytes are read."""
    dtype = UNKNOWN_TO_NUMPY.get(value.data_type()) if value.is_tensor() else None
    if dtype is None:
        return value.numpy()
    shape = tuple(value.shape())
    if value.device_name() != "cpu":
        on_host = ort.OrtValue.ortvalue_from_shape_and_type(shape, np_dtype_to_tensor_dtype(dtype), "cpu")
        on_host.update_inplace(value)
        value = on_host
    raw = (ctypes.c_uint8 * (math.prod(shape) * dtype.itemsize)).from_address(value.data_ptr())
    return np.frombuffer(raw, dtype=np.uint8).copy().view(dtype).reshape(shape)


def random_inputs(
    model: onnx.ModelProto, seed: int = 0, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, Feed]:
    """Inputs for every graph input without an initializer: floats about N(0, 1), integers 0 or 1, scalars 1.

    Free dimensions have the sizes that the model is planned at.
    """
    generator = np.random.default_rng(seed)
    sizes = {**modelled_inputs(model, shapes or {}), **(shapes or {})}
    given = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: _random_value(value.type, sizes.get(value.name), generator)
        for value in model.graph.input
        if value.name not in given
    }


def optimized_graph(model: onnx.ModelProto | Path, provider: Provider = "best") -> onnx.ModelProto:
    """The graph that onnxruntime makes of a model at session time, without its larger weights."""
    with tempfile.TemporaryDirectory() as scratch, silence():
        target = Path(scratch, "optimized.onnx")
        options = _options("all")
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        _open(model, options, provider, tf32=True)
        return onnx.load(str(target), load_external_data=False)


def _options(optimize: Optimize) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = FATAL
    options.graph_optimization_level = _LEVELS[optimize]
    return options


def _load_cuda_libraries() -> None:
    """Let onnxruntime find the CUDA libraries that torch's wheels bring; it prints what it misses, where it may."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with contextlib.suppress(Exception):
            preload()


def _open(
    model: onnx.ModelProto | Path,
    options: ort.SessionOptions,
    provider: Provider,
    tf32: bool,
    provider_options: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
) -> ort.InferenceSession:
    left_out = {"disabled_optimizers": list(without)} if without else {}
    best = best_provider() if provider != CPU else CPU  # asked first: it loads the libraries that CUDA needs
    name = best if provider == "best" else provider
    if name == CPU:
        return ort.InferenceSession(_source(model), options, providers=[CPU], **left_out)
    cuda = (CUDA, {"use_tf32": str(int(tf32)), **(provider_options or {} if name == CUDA else {})})
    providers = [cuda, CPU] if name == CUDA else [(name, dict(provider_options or {})), cuda, CPU]
    with silence():  # a provider that cannot be loaded is told by its absence
        session = ort.InferenceSession(_source(model), options, providers=providers, **left_out)
    session.disable_fallback()  # a run that fails on the GPU would go on, on the CPU, with a word on stdout alone
    return session


def _source(model: onnx.ModelProto | Path) -> str | bytes:
    if isinstance(model, Path):
        return str(model)
    if model.ByteSize() > _LARGEST_PROTO:
        raise ModelError(model.graph.name or "model", "larger than 2 GB in memory", "save it and give its path")
    return bytes(model.SerializeToString())


def _fit(feed: Feed, kind: str) -> Feed:
    low = {"tensor(float16)": np.float16, "tensor(bfloat16)": ml_dtypes.bfloat16}.get(kind)
    if low is None or not isinstance(feed, np.ndarray) or feed.dtype != np.float32:
        return feed
    return feed.astype(low)


def _random_value(kind: onnx.TypeProto, shape: tuple[int, ...] | None, generator: np.random.Generator) -> Feed:
    if kind.HasField("optional_type"):
        return _random_value(kind.optional_type.elem_type, shape, generator)
    if kind.HasField("sequence_type"):
        element = kind.sequence_type.elem_type
        return [np.asarray(_random_value(element, shape, generator)) for _ in range(_SEQUENCE_LENGTH)]
    tensor = kind.tensor_type
    if shape is None:
        shape = tuple(dim.dim_value or 1 for dim in tensor.shape.dim)
    return _random_array(tensor.elem_type, shape, generator)


def _random_array(elem_type: int, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    if elem_type == TensorProto.STRING:
        return np.full(shape, "text", dtype=object)
    dtype = tensor_dtype_to_np_dtype(elem_type)
    if elem_type in _FLOATS:
        return np.asarray(generator.standard_normal(shape), dtype=np.float32).astype(dtype)
    drawn = generator.integers(0, 2, shape) if shape else np.ones(())
    return np.asarray(drawn).astype(dtype)
