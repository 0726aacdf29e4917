"""Rests: what rounding took away from small constants, kept in the file beside them.

A plain runtime has no use for it. Our kernels hold numbers by channel, depthwise weights and those of squeeze and
excite in float32 anyway, and can as well hold the right ones: an error there is one of a whole image. A rest is one
byte an element, in 127ths of the distance between neighbours, in the metadata of the tensor.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

_KEY = "ampgraph.rest"
_PARTS = 127


def keep_rest(tensor: TensorProto, exact: npt.NDArray[np.float32], low: npt.NDArray[Any]) -> None:
    """Note on a float16 tensor what its numbers, as given in `low`, lack to be exact; nothing where they lack nothing.

    What is further away than a neighbour, as a clamped number is, stays so.
    """
    near = low.reshape(-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        parts = np.round((exact.reshape(-1).astype(np.float64) - near) / _distances(low) * _PARTS)
    parts = np.clip(np.nan_to_num(parts, nan=0, posinf=0, neginf=0), -_PARTS, _PARTS).astype(np.int8)
    if parts.any():
        tensor.metadata_props.add(key=_KEY, value=b64encode(parts.tobytes()).decode())


def with_rest(tensor: TensorProto, low: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The numbers of a tensor as float32, with what was noted on it."""
    wide = low.astype(np.float32)
    parts = _parts_of(tensor)
    if low.dtype != np.float16 or parts.size != low.size:
        return wide
    return np.asarray(wide + _distances(low).reshape(low.shape) * parts.reshape(low.shape) / _PARTS, np.float32)


def _parts_of(tensor: TensorProto) -> npt.NDArray[np.int8]:
    """What was noted; nothing where that cannot be read."""
    text = next((entry.value for entry in tensor.metadata_props if entry.key == _KEY), "")
    try:
        return np.frombuffer(b64decode(text, validate=True), np.int8)
    except ValueError:
        return np.zeros(0, np.int8)


def _distances(low: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """From each float16 number to the next one away from zero, flat."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = np.spacing(np.abs(low.reshape(-1))).astype(np.float64)
    return np.where(np.isfinite(found), found, 0.0)
