"""Inputs that the user gives: arrays by name, in memory or in an .npz file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx

from ampgraph.errors import OptionError
from ampgraph.onnx_model.arrays import as_array
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.run import Array, Feed
from ampgraph.onnx_model.types import by_x, fixed_size, is_like
from ampgraph.options import FilePath

GENERATED, IN_MEMORY = "generated", "given"
Data = Mapping[str, Any] | Path

_KINDS = {"V": "Vf", "f": "fV", "O": "OUS"}  # of arrays, by that of the type: bfloat16 for float32, too, text as text


def as_data(given: Mapping[str, Any] | FilePath) -> Data | None:
    """What a caller writes, a path as text included. OptionError for what is neither that nor arrays by name."""
    if given is None or isinstance(given, Mapping):
        return given
    if not isinstance(given, str | os.PathLike):
        fact = "is neither arrays by name nor a file of them"
        remedy = 'give {"name": array}, or the path of an .npz file'
        raise OptionError(f"data of type {type(given).__name__}", fact, remedy)
    return Path(given)


def name_of_data(data: Data | None) -> str:
    """How reports call the inputs: the file's path, "given" for arrays in memory, "generated" where there are none."""
    return GENERATED if data is None else IN_MEMORY if isinstance(data, Mapping) else str(data)


def read_inputs(data: Data, model: onnx.ModelProto) -> dict[str, Feed]:
    """Inputs by name, as the model takes them. OptionError where one is missing, unknown, or not as it is declared."""
    option = place_of(name_of_data(data))
    arrays = data if isinstance(data, Mapping) else _arrays_in(data, option)
    initialized = {tensor.name for tensor in model.graph.initializer}
    wanted = {value.name: value for value in model.graph.input if value.name not in initialized}
    for name in wanted.keys() ^ arrays.keys():
        fact = f"has no array for the input {name!r}" if name in wanted else f"has an array {name!r} that is no input"
        raise OptionError(option, fact, f"name the arrays {', '.join(wanted)}")
    return {name: _feed(arrays[name], value, option) for name, value in wanted.items()}


def place_of(inputs: str) -> str:
    """Where an error about inputs of this name points to."""
    return {GENERATED: "the generated inputs", IN_MEMORY: "data"}.get(inputs, f"--data {inputs}")


def _arrays_in(path: Path, option: str) -> dict[str, Array]:
    try:
        with path.open("rb") as stream:  # numpy would leave it open where it is no archive
            archive = _archive(stream, option)
            return {name: _array_in(archive, name, option) for name in archive.files}
    except OSError as error:
        raise OptionError(option, f"cannot be read ({error.strerror or error})", "check the path") from None


def _archive(stream: IO[bytes], option: str) -> Any:  # noqa: ANN401  (numpy's own)
    remedy = "save arrays by name with numpy.savez"
    try:
        found = np.load(stream, allow_pickle=False)
    except (OSError, MemoryError):
        raise
    except Exception:  # numpy's words are of pickles, which are of no use here
        raise OptionError(option, "is no .npz file", remedy) from None
    if isinstance(found, np.ndarray):
        raise OptionError(option, "is no .npz file, but an array without a name", remedy)
    return found


def _array_in(archive: Any, name: str, option: str) -> Array:  # noqa: ANN401
    try:
        found: Array = archive[name]
        return found
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if "Object arrays" in str(error):
            fact = f"holds Python objects for {name!r}, which are not read"
            raise OptionError(option, fact, "save arrays of numbers or text") from None
        raise OptionError(option, f"has an array {name!r} that is damaged", "save it again with numpy.savez") from None


def _feed(given: Any, value: onnx.ValueInfoProto, option: str) -> Feed:  # noqa: ANN401  (whatever numpy can read)
    """A tensor as an array, a sequence of them as a list; what else there is, is onnxruntime's to understand."""
    is_sequence = value.type.sequence_type.elem_type.HasField("tensor_type") and isinstance(given, list | tuple)
    if not value.type.HasField("tensor_type") and not is_sequence:
        found: Feed = given
        return found
    try:
        if is_sequence:
            return [as_array(each) for each in given]
        array = as_array(given)
    except Exception as error:  # of the library that the object is from
        fact = f"{value.name!r} is no array ({first_line(error)})"
        raise OptionError(option, fact, "give numpy arrays, or what numpy.asarray takes") from None
    return _typed(array, value, option)


def _typed(array: Array, value: onnx.ValueInfoProto, option: str) -> Array:
    """The array in the type that is declared, where one of that kind and of a possible shape is given."""
    declared = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(declared.elem_type)
    if array.dtype.kind not in _KINDS.get(dtype.kind, dtype.kind):
        name = "text" if dtype.kind == "O" else dtype.name
        raise OptionError(option, f"has {array.dtype} for {value.name!r}, which is {name}", "give it in that type")
    sizes = [fixed_size(dim) for dim in declared.shape.dim]
    if declared.HasField("shape") and not is_like(array.shape, sizes):
        fact = f"has {by_x(array.shape)} for {value.name!r}, which is {by_x(sizes)}"
        raise OptionError(option, fact, "give an array like it")
    return array.astype(dtype, copy=False) if array.dtype.kind == dtype.kind else array
