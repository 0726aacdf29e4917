"""External data: where a tensor's bytes lie in other files, checked before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from ampgraph.errors import ModelError
from ampgraph.onnx_model.dtypes import NAMES
from ampgraph.precision import Precision

BLOCK = 1 << 22  # bytes read at a time
_PENDING = "ampgraph.stored_as"
_FILTERS = "ampgraph.filters"
_PACKED = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}  # bits of an element


def is_external(tensor: TensorProto) -> bool:
    """Whether a tensor's data lie in another file."""
    return tensor.data_location == TensorProto.EXTERNAL


def mark_pending(tensor: TensorProto, filters: str = "") -> None:
    """Note on a tensor of a low type that its external data are still float32, to be rounded when they are copied.

    `filters`: how, in the words of `filters.Filters.text`; "" for to the nearest.
    """
    tensor.external_data.add(key=_PENDING, value=Precision.FLOAT32)
    if filters:
        tensor.external_data.add(key=_FILTERS, value=filters)


def is_pending(tensor: TensorProto) -> bool:
    """Whether a tensor's external data are yet to be rounded to its type."""
    return any(entry.key == _PENDING for entry in tensor.external_data)


def pending_filters(tensor: TensorProto) -> str:
    """How a pending tensor is to be rounded, as it was noted."""
    return next((entry.value for entry in tensor.external_data if entry.key == _FILTERS), "")


def byte_size(tensor: TensorProto) -> int:
    """Bytes that a tensor of this type and shape takes."""
    elements = 1
    for size in tensor.dims:
        elements *= size
    name = NAMES.get(tensor.data_type, "")
    bits = _PACKED.get(name) or 8 * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return (elements * bits + 7) // 8


def external_source(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """File, offset and byte length of an external tensor.

    Raises ModelError when the file is missing, too short or outside `folder`, or its entry makes no sense.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, place = entries.get("location", ""), f"tensor {tensor.name!r}"
    path = _inside(folder, location, place)
    if not path.is_file():
        raise ModelError(place, f"external data file {location!r} is missing", "copy it beside the model")
    length = byte_size(tensor)
    offset, stated = (_number(entries, key, place) for key in ("offset", "length"))
    if entries.get("length") and stated != length:
        raise ModelError(place, "its external data has another size than its shape", "export again")
    if offset + length > path.stat().st_size:
        raise ModelError(place, f"external data file {location!r} ends before the tensor does", "copy the whole file")
    return path, offset, length


def _inside(folder: Path, location: str, place: str) -> Path:
    try:
        path = (folder / location).resolve()
        inside = bool(location) and path.is_relative_to(folder.resolve())
    except (OSError, ValueError):  # too long, or with a zero byte in it
        inside = False
    if not inside:
        fact = f"external data {location!r} points outside the model's folder"
        raise ModelError(place, fact, "move the data beside the model")
    return path


def _number(entries: dict[str, str], key: str, place: str) -> int:
    text = entries.get(key) or "0"
    if not (text.isascii() and text.isdigit()):
        raise ModelError(place, f"its external data has the {key} {text!r}", "export or copy the model again")
    return int(text)


@contextmanager
def opened(tensor: TensorProto, folder: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A stream at the start of an external tensor's data, and their length in bytes."""
    path, offset, length = external_source(tensor, folder)
    try:
        stream = path.open("rb")
    except OSError as error:
        fact = f"external data file {path.name!r} cannot be read ({error.strerror})"
        raise ModelError(f"tensor {tensor.name!r}", fact, "check its permissions") from None
    with stream:
        stream.seek(offset)
        yield stream, length


def blocks(tensor: TensorProto, folder: Path, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of an external tensor, `size` at a time."""
    with opened(tensor, folder) as (stream, left):
        while left > 0:
            block = stream.read(min(left, size))
            if not block:
                raise ModelError(f"tensor {tensor.name!r}", "external data file ends early", "copy the whole file")
            left -= len(block)
            yield block
