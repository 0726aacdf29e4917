"""ampgraph and its peers behind one call: a float32 model in, a mixed float16 model with the same interface out."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx

Feeds = Mapping[str, Any]
OBJECTIVES = ("speed", "memory", "coverage")


@dataclass(frozen=True, slots=True)
class Converter:
    """A named conversion; it may raise whatever the tool raises, and may change the proto it is given.

    It is given inputs too: ModelOpt runs the model, and invents inputs that many models refuse where it has none.
    """

    name: str
    version: str
    convert: Callable[[onnx.ModelProto, Feeds], onnx.ModelProto]


def ampgraph_with(
    objective: str, precision: str = "float16", shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Converter:
    """ampgraph under one objective, planning at its default shapes or at those given."""

    def convert(model: onnx.ModelProto, _: Feeds) -> onnx.ModelProto:
        import ampgraph

        result = ampgraph.convert(model, precision=precision, objective=objective, shapes=shapes or {})
        converted: onnx.ModelProto = result.model
        return converted

    return Converter(f"ampgraph {objective}", metadata.version("ampgraph"), convert)


def peers() -> list[Converter]:
    """The other converters that are installed."""
    known = {
        "onnxconverter_common": ("onnxconverter-common", "onnxconverter-common", _common),
        "onnxruntime.transformers": ("onnxruntime transformers", "onnxruntime-gpu", _runtime),
        "modelopt": ("modelopt autocast", "nvidia-modelopt", _modelopt),
    }
    return [
        Converter(name, _version(package), convert)
        for module, (name, package, convert) in known.items()
        if find_spec(module.partition(".")[0]) and find_spec(module)
    ]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Peers log, print and warn about each node they meet."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _version(package: str) -> str:
    for candidate in (package, "onnxruntime"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(candidate)
    return "?"


def _called(module: str, model: onnx.ModelProto) -> onnx.ModelProto:
    converted: onnx.ModelProto = import_module(module).convert_float_to_float16(model, keep_io_types=True)
    return converted


def _common(model: onnx.ModelProto, _: Feeds) -> onnx.ModelProto:
    return _called("onnxconverter_common.float16", model)


def _runtime(model: onnx.ModelProto, _: Feeds) -> onnx.ModelProto:
    return _called("onnxruntime.transformers.float16", model)


def _modelopt(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    autocast = import_module("modelopt.onnx.autocast")
    arrays = {name: value for name, value in feeds.items() if isinstance(value, np.ndarray)}
    with tempfile.TemporaryDirectory() as scratch:
        path, data = str(Path(scratch, "model.onnx")), str(Path(scratch, "data.npz"))
        onnx.save(model, path)
        np.savez(data, allow_pickle=True, **arrays)
        given = data if arrays and len(arrays) == len(feeds) else None
        converted: onnx.ModelProto = autocast.convert_to_mixed_precision(
            path, keep_io_types=True, calibration_data=given
        )
        return converted
