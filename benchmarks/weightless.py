"""Models without their weights, small enough to carry.

`stripped` and `filled`: random weights of the same statistics put back in, where speed is all that is asked for.
`derived` and `restored`: a model that some tool made of another without its weights, and the real ones put back from
the model it was made of, wherever that is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, numpy_helper

KEY = "benchmarks.weights"  # model metadata: name -> [mean, deviation]
RECIPE = "benchmarks.recipe"  # model metadata: name -> [name in the source, transposed, digest of it as laid so]
_LARGE = 1024  # elements
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_HAIR = 2.0**-23  # what tools may change a value by that float16 hardly holds: they flush or lift subnormal ones

Array = np.ndarray[Any, Any]


def stripped(model: ModelProto) -> ModelProto:
    """A copy in which large float32 initializers have no data, only their statistics in the model's metadata."""
    copy, statistics = ModelProto(), {}
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > _LARGE:
            values = numpy_helper.to_array(tensor)
            statistics[tensor.name] = [float(values.mean()), float(values.std())]
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")
    onnx.helper.set_model_props(copy, {KEY: json.dumps(statistics)})
    return copy


def filled(model: ModelProto) -> ModelProto:
    """A copy with random weights for those that were stripped, a function of their names alone."""
    copy = ModelProto()
    copy.CopyFrom(model)
    statistics = json.loads(next(entry.value for entry in copy.metadata_props if entry.key == KEY))
    for tensor in copy.graph.initializer:
        if tensor.name in statistics:
            mean, deviation = statistics[tensor.name]
            seed = int.from_bytes(hashlib.sha256(tensor.name.encode()).digest()[:8], "little")
            values = np.random.default_rng(seed).standard_normal(tuple(tensor.dims), np.float32)
            tensor.raw_data = (values * np.float32(deviation) + np.float32(mean)).tobytes()
    del copy.metadata_props[:]
    return copy


def derived(model: ModelProto, source: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
    """A copy without the floats that are the source's, cast or transposed, and how to get them in its metadata.

    Also the names of large float initializers that are none of the source's and keep their data.
    """
    copy, recipe, kept = ModelProto(), dict[str, tuple[str, bool, str]](), []
    copy.CopyFrom(model)
    known = _Known(source)
    for tensor in copy.graph.initializer:
        if tensor.data_type not in _FLOATS or np.prod(tensor.dims) < 2:
            continue
        origin = known.origin(tensor.name, numpy_helper.to_array(tensor))
        if origin is not None:
            recipe[tensor.name] = (*origin, known.digest(*origin))
            for field in ("raw_data", "float_data", "int32_data"):
                tensor.ClearField(field)
        elif np.prod(tensor.dims) > _LARGE:
            kept.append(tensor.name)
    onnx.helper.set_model_props(copy, {RECIPE: json.dumps(recipe)})
    return copy, tuple(kept)


def restored(model: ModelProto, source: ModelProto) -> ModelProto:
    """A copy of what `derived` made, with the weights of this source. ValueError: it is another network's.

    Found by what they hold, whatever another version of an exporter calls them; by name where nothing holds it, as that
    version's random weights may differ.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    recipe = json.loads(next(entry.value for entry in copy.metadata_props if entry.key == RECIPE))
    known = _Known(source)
    for tensor in copy.graph.initializer:
        if tensor.name not in recipe:
            continue
        origin, transposed, digest = recipe[tensor.name]
        origin, transposed = known.held(digest) or (origin, transposed)
        if origin not in known.arrays:
            raise ValueError(f"{tensor.name} comes of {origin}, which the source does not have")
        values = _laid(known.arrays[origin], transposed)
        if values.shape != tuple(tensor.dims):
            raise ValueError(f"{tensor.name} has the shape {tuple(tensor.dims)}, {origin} in the source {values.shape}")
        tensor.raw_data = values.astype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).tobytes()
    del copy.metadata_props[:]
    return copy


class _Known:
    """The float32 initializers of a model, to be found by name or by what they hold."""

    def __init__(self, source: ModelProto) -> None:
        self.arrays: Mapping[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in source.graph.initializer
            if tensor.data_type == TensorProto.FLOAT
        }
        self._found: dict[str, dict[str, tuple[str, bool]]] = {}  # by type

    def origin(self, name: str, values: Array) -> tuple[str, bool] | None:
        """Which initializer these values are, cast to their type, and whether transposed."""
        same = self.arrays.get(name)
        if same is not None and same.shape == values.shape and _is_close(same.astype(values.dtype), values):
            return name, False
        return self._by_content(values.dtype).get(_digest(values))

    def digest(self, name: str, transposed: bool) -> str:
        """Of an initializer laid so."""
        return _digest(_laid(self.arrays[name], transposed))

    def held(self, digest: str) -> tuple[str, bool] | None:
        """Which initializer, and whether transposed, has this `digest`."""
        return self._by_content(np.dtype(np.float32)).get(digest)

    def _by_content(self, dtype: np.dtype[Any]) -> Mapping[str, tuple[str, bool]]:
        if dtype.name not in self._found:
            self._found[dtype.name] = dict(self._digests(dtype))
        return self._found[dtype.name]

    def _digests(self, dtype: np.dtype[Any]) -> Iterator[tuple[str, tuple[str, bool]]]:
        for name, array in self.arrays.items():
            with np.errstate(over="ignore"):
                cast = array.astype(dtype)
            for transposed in (False, True) if array.ndim == 2 else (False,):
                yield _digest(_laid(cast, transposed)), (name, transposed)


def _laid(values: Array, transposed: bool) -> Array:
    return np.ascontiguousarray(values.T) if transposed else values


def _is_close(left: Array, right: Array) -> bool:
    return bool(np.all(np.abs(left.astype(np.float32) - right.astype(np.float32)) <= _HAIR))


def _digest(values: Array) -> str:
    return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()[:32]
