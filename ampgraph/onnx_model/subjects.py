"""Subjects: models ready to be run as their file says, again and again with other outputs.

Nothing is optimized, since a fused operator computes no inner value and a folded cast rounds nothing. On CUDA the model
runs as it is; elsewhere its low precision is computed by `simulate`, which keeps the names of values and the order of
bodies. Weights lie in a file, so that opening a model once more copies none of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto
from onnxruntime import InferenceSession

from ampgraph.onnx_model import io
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import CPU, UNKNOWN_TO_NUMPY, Feed, Provider, open_session
from ampgraph.onnx_model.simulate import simulate
from ampgraph.onnx_model.surfacing import Probe, surface

DATA = "weights.bin"
_LARGE = 1 << 12  # bytes of a weight that goes to the file; operands of shapes are smaller
_FLOATS = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
_SPELLED = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Subject:
    """A model to run. `folder` holds its external data."""

    model: ModelProto
    folder: Path | None
    provider: Provider

    def opened(self, probes: Iterable[Probe], *, keep_outputs: bool = False) -> tuple[InferenceSession, list[str]]:
        """A session with the probes among its outputs, and their names there."""
        model, names = surface(self.model, probes, keep_outputs=keep_outputs)
        session = open_session(
            model, provider=self.provider, optimize="disabled", folder=self.folder, shapes_first=True
        )
        return session, names


def ready(loaded: Loaded, prepared: ModelProto, provider: Provider, scratch: Path) -> Subject:
    """A prepared model as it is to be run. `scratch`: an empty folder of its own."""
    if provider == CPU:
        prepared = simulate(io.with_data(prepared, loaded.folder) if io.external_tensors(prepared) else prepared)
    elif io.external_tensors(prepared):
        return Subject(prepared, loaded.folder, provider)
    return Subject(_with_weights_apart(prepared, scratch / DATA), scratch, provider)


def fed(session: InferenceSession, feeds: Mapping[str, Feed]) -> dict[str, Feed]:
    """Feeds in the types that a session takes; a float stays a float, an integer an integer."""
    kinds = {value.name: value.type for value in session.get_inputs()}
    return {name: _fit(feed, kinds.get(name, "")) for name, feed in feeds.items() if name in kinds}


def _fit(feed: Feed, kind: str) -> Any:  # noqa: ANN401  (arrays and lists of them)
    if not isinstance(feed, np.ndarray) or not kind.startswith("tensor("):
        return feed
    spelled = kind.removeprefix("tensor(").removesuffix(")")
    wanted = UNKNOWN_TO_NUMPY.get(kind) or (None if spelled == "string" else np.dtype(_SPELLED.get(spelled, spelled)))
    if wanted is None or wanted == feed.dtype:
        return feed
    both_float = feed.dtype in _FLOATS and wanted in _FLOATS
    return feed.astype(wanted) if both_float or (feed.dtype.kind in "iu" and wanted.kind in "iu") else feed


def _with_weights_apart(model: ModelProto, path: Path) -> ModelProto:
    """A copy of the model whose larger weights lie in a file, in the layout that onnxruntime maps."""
    light = ModelProto()
    light.CopyFrom(model)
    inputs = {value.name for value in light.graph.input}
    with path.open("wb") as stream:
        for tensor in light.graph.initializer:
            if tensor.name not in inputs and _is_large(tensor):
                stream.write(bytes(-stream.tell() % io.ALIGNMENT))
                offset = stream.tell()
                stream.write(tensor.raw_data)
                _refer(tensor, path.name, offset, stream.tell() - offset)
    return light


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type != TensorProto.STRING and len(tensor.raw_data) >= _LARGE


def _refer(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    kept.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        kept.external_data.add(key=key, value=str(value))
    tensor.CopyFrom(kept)
