"""Reading and writing model files: errors a user can act on, external data streamed, nothing half-written."""

from __future__ import annotations

import math
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from ampgraph.errors import ModelError
from ampgraph.onnx_model import external
from ampgraph.onnx_model.dtypes import ELEM_TYPES
from ampgraph.onnx_model.rounding.filters import filters_in, rounded
from ampgraph.onnx_model.types import bodies

MOST_SAID = 600  # characters of what a runtime says of an error
ALIGNMENT = 4096  # of a tensor in a data file, so that it can be mapped


_MOST_INTEGERS, _MOST_SCALES = 1024, 8  # elements of an operand


@dataclass(frozen=True)
class Loaded:
    """A model as it was found; external data stay in their files, beside `path`.

    `path`: the file that holds it. `origin`: the file that it was made from, where it was changed since.
    """

    model: ModelProto
    folder: Path
    path: Path | None = None
    origin: Path | None = None

    @property
    def named(self) -> Path | None:
        """The file that a user knows the model by."""
        return self.path or self.origin


def load(path: Path) -> Loaded:
    """Read a model file without its external data. Raises ModelError for what is no ONNX model."""
    place = str(path)
    if path.is_dir():
        raise ModelError(place, "is a directory", "name the .onnx file in it")
    if not path.exists():
        raise ModelError(place, "no such file", "check the path")
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        raise ModelError(place, "is not an ONNX model, or is cut short", "export or copy it again") from None
    except OSError as error:
        raise ModelError(place, f"cannot be read ({error.strerror})", "check its permissions") from None
    if not model.ir_version or not model.opset_import or not model.HasField("graph"):
        raise ModelError(place, "is not an ONNX model (it has no graph or no opset)", "export or copy it again")
    return Loaded(model, path.resolve().parent, path)


def all_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Initializers of a graph and of its bodies, sparse ones too, and the tensors of attributes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
        for _, body in bodies(node):
            yield from all_tensors(body)


def external_tensors(model: ModelProto) -> list[TensorProto]:
    """Tensors whose data lie in other files."""
    return [t for t in all_tensors(model.graph) if external.is_external(t)]


def with_operands(model: ModelProto, folder: Path) -> ModelProto:
    """The model with small external tensors of shapes, axes, scales and the like in it, which inference looks at.

    A copy, or the model itself where it has none. Raises ModelError where they cannot be read.
    """
    if not any(map(_is_operand, external_tensors(model))):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in filter(_is_operand, external_tensors(copy)):
        tensor.raw_data = b"".join(external.blocks(tensor, folder))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return copy


def _is_operand(tensor: TensorProto) -> bool:
    most = _MOST_SCALES if tensor.data_type == TensorProto.FLOAT else _MOST_INTEGERS
    whole = tensor.data_type in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    return whole and math.prod(tensor.dims) <= most


@contextmanager
def staging(destination: Path) -> Iterator[Path]:
    """A folder beside the destination to write in; gone afterwards, whatever happens."""
    folder = destination.parent.resolve() / f".ampgraph-{secrets.token_hex(8)}"
    try:  # named before it is made: a signal may come in between
        _make(folder, destination)
        yield folder
    except OSError as error:
        if error.errno is None or (error.filename and not str(error.filename).startswith(str(folder))):
            raise
        raise ModelError(str(destination), f"cannot be written ({error.strerror})", "free some space") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _make(folder: Path, destination: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        remedy = "choose another place with -o"
        raise ModelError(str(destination), f"cannot be written ({error.strerror})", remedy) from None


def write(model: ModelProto, source: Path, folder: Path, name: str) -> Path:
    """Write a model into `folder` under its final name, its external data streamed from `source` to NAME.data."""
    if external_tensors(model):
        moved = ModelProto()
        moved.CopyFrom(model)
        _write_data(external_tensors(moved), source, folder / f"{name}.data")
        model = moved
    path = folder / name
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _write_data(outside: list[TensorProto], source: Path, path: Path) -> None:
    with path.open("wb") as stream:
        for tensor in outside:
            stream.write(bytes(-stream.tell() % ALIGNMENT))
            offset = stream.tell()
            _stream_data(tensor, source, stream)
            _point_to(tensor, path.name, offset, stream.tell() - offset)


def _stream_data(tensor: TensorProto, source: Path, stream: BinaryIO) -> None:
    if external.is_pending(tensor):
        _round_data(tensor, source, stream)
    else:
        stream.writelines(external.blocks(tensor, source))


def _round_data(tensor: TensorProto, source: Path, stream: BinaryIO) -> None:
    precision = next(precision for precision, number in ELEM_TYPES.items() if number == tensor.data_type)
    original = TensorProto(name=tensor.name, data_type=TensorProto.FLOAT, dims=tensor.dims)
    original.data_location = TensorProto.EXTERNAL
    original.external_data.extend(tensor.external_data)
    how = external.pending_filters(tensor)
    stream.writelines(rounded(original, source, filters_in(how) if how else None, precision))


def _point_to(tensor: TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)


def publish(folder: Path, destination: Path) -> None:
    """Move a finished model out of its staging folder: data first, so that the model never lacks them."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == destination.name):
        path.replace(destination.parent.resolve() / path.name)


def check_file(path: Path) -> str:
    """The full checker's complaint about a file, "" when it has none."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return first_line(error)
    return ""


def check_model(model: ModelProto) -> str:
    """The full checker's complaint about a model in memory, "" when it has none."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        return first_line(error)
    return ""


def check_loaded(loaded: Loaded) -> str:
    """The full checker's complaint about a model as it was found; external data are looked for where they lie."""
    if external_tensors(loaded.model):
        return check_file(loaded.path) if loaded.path else check_model(with_data(loaded.model, loaded.folder))
    return check_model(loaded.model)


def first_line(error: Exception) -> str:
    """An error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def reason(error: Exception) -> str:
    """What onnxruntime says of a run that failed, at the innermost node: of If and Loop it tells every level."""
    text = first_line(error)
    *_, found = (None, *re.finditer(r"running (\S+) node\. Name:'([^']*)' Status Message: ", text))
    if found is None:
        return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:MOST_SAID]
    return f"{found[1]} {found[2]}: {text[found.end() :]}"[:MOST_SAID]


def with_data(model: ModelProto, source: Path) -> ModelProto:
    """The model with its external data read into it, rounded where that is pending."""
    whole = ModelProto()
    whole.CopyFrom(model)
    for tensor in external_tensors(whole):
        buffer = BytesIO()
        _stream_data(tensor, source, buffer)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = buffer.getvalue()
    return whole
