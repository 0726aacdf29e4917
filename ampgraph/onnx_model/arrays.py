"""Arrays: what callers give for a model's inputs, read as onnxruntime takes it: on the host, in native byte order.

onnxruntime reads the bytes of an array whatever their order, and knows no tensors of torch.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from ampgraph.errors import OptionError
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.run import UNKNOWN_TO_NUMPY, Array, Feed, array_of

_SPELLED = {"float": np.dtype(np.float32), "double": np.dtype(np.float64), "string": np.dtype(object)}
_NUMBERS = ("bool", "float16", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_DTYPES = {
    **UNKNOWN_TO_NUMPY,
    **{f"tensor({name})": np.dtype(name) for name in _NUMBERS},
    **{f"tensor({name})": dtype for name, dtype in _SPELLED.items()},
}
_RANKS = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2}  # by kind: a number becomes one of its own rank or above
_UNTYPED = (bool, int, float, complex, str, list, tuple, np.generic)  # of no type that anybody chose for the input
_LOW = {dtype.name: dtype for dtype in UNKNOWN_TO_NUMPY.values()}


def as_array(given: Any) -> Array:  # noqa: ANN401  (whatever numpy can read)
    """An array in native byte order; tensors of torch from wherever they are. Raises what reading it raises."""
    array = given if type(given) is np.ndarray else np.asarray(_on_host(given))
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def taken(feeds: Mapping[str, Any], inputs: Mapping[str, str], place: str) -> dict[str, Feed]:
    """What is given for `inputs`, onnxruntime's types by name, as it takes it: contiguous arrays, lists of them, None.

    Raises OptionError where an input is missing or unknown, or what is given for it is nothing of the kind.
    """
    if not isinstance(feeds, Mapping):
        example = f"{next(iter(inputs))!r}: array" if inputs else ""
        raise OptionError(place, f"are of type {type(feeds).__name__}", f"give arrays by name: {{{example}}}")
    for name in feeds.keys() ^ inputs.keys():
        fact = f"lack the input {name!r}" if name in inputs else f"hold {name!r}, which is no input"
        raise OptionError(place, fact, f"give {', '.join(inputs) or 'none: {}'}")
    return {name: _named(name, feeds[name], kind, place) for name, kind in inputs.items()}


def _named(name: str, given: Any, kind: str, place: str) -> Feed:  # noqa: ANN401
    try:
        return _taken(given, kind)
    except Exception as error:  # of the library that the object is from
        fact = f"{name!r} is of type {type(given).__name__}, which does not do for {kind} ({first_line(error)})"
        array = "a numpy array, or what numpy.asarray makes one of"
        raise OptionError(place, fact, f"give {'a list of arrays' if 'seq(' in kind else array}") from None


def _taken(given: Any, kind: str) -> Feed:  # noqa: ANN401
    if kind.startswith("optional("):
        return None if given is None else _taken(given, kind.removeprefix("optional(")[:-1])
    if kind.startswith("seq(tensor("):
        if not isinstance(given, list | tuple):
            raise TypeError("a sequence is wanted")
        return [_tensor(each, kind.removeprefix("seq(")[:-1]) for each in given]
    found: Feed = _tensor(given, kind) if kind.startswith("tensor(") else given
    return found


def _tensor(given: Any, kind: str) -> Array:  # noqa: ANN401
    dtype = _DTYPES.get(kind)
    array = _typed(given, dtype) if dtype is not None and isinstance(given, _UNTYPED) else as_array(given)
    if array.dtype.kind == "O" and dtype != np.dtype(object):
        raise TypeError("as an array it holds Python objects")
    if array.dtype.kind == "V" and array.dtype != dtype:  # low types, which onnxruntime has no word for in numpy
        raise TypeError(f"as an array it is {array.dtype}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _typed(given: Any, dtype: np.dtype[Any]) -> Array:  # noqa: ANN401
    """Numbers and text without a type of their own in the type that is wanted."""
    found = np.asarray(given)
    if dtype.kind == "O" and found.dtype.kind in "OUS":
        return np.asarray(given, dtype)
    if found.size and _RANKS.get(found.dtype.kind, len(_RANKS)) > _RANKS.get(dtype.kind, -1):
        raise TypeError(f"as an array it is {found.dtype}")
    return np.asarray(given.item() if isinstance(given, np.generic) else given, dtype)


def _on_host(given: Any) -> Any:  # noqa: ANN401
    """Without what keeps numpy from reading a tensor of torch: device, gradient, low type. Torch is not loaded."""
    if isinstance(given, ort.OrtValue):
        return array_of(given)
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "Tensor") or not isinstance(given, torch.Tensor):  # None, or half loaded in another thread
        return given
    low = _LOW.get(str(given.dtype).removeprefix("torch."))
    if low is None:
        return given.numpy(force=True)
    bits = getattr(torch, "int16" if low.itemsize == 2 else "uint8")
    return given.detach().cpu().view(bits).numpy().view(low)
