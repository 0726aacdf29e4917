"""What `convert` accepts as a source, each turned into a loaded ONNX model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model.io import Loaded, first_line, load

REMEDY = "give a path, an onnx.ModelProto, an onnx_ir.Model, an ONNXProgram or a torch.nn.Module with example_args"


def as_loaded(
    source: Any,  # noqa: ANN401  (five libraries' types)
    example_args: Any = None,  # noqa: ANN401  (a tensor, or a tuple of anything)
    example_kwargs: Mapping[str, Any] | None = None,
) -> Loaded:
    """Load `source`: a path, ModelProto, onnx_ir.Model, torch ONNXProgram, or nn.Module with example arguments.

    Raises ModelError for a file that is no model or a module that cannot be exported, OptionError for an object that
    cannot be a model, and for examples of anything but a module.
    """
    if is_module(source):
        return Loaded(_exported(source, example_args, example_kwargs), Path())
    for option, given in (("example_args", example_args), ("example_kwargs", example_kwargs)):
        if given is not None:
            fact = f"is for torch modules, and the source is of type {type(source).__name__}"
            raise OptionError(option, fact, "leave it out")
    if isinstance(source, str | os.PathLike):
        return load(Path(source))
    if isinstance(source, ModelProto):
        return Loaded(source, Path())
    family = _family(source)
    if "onnx_ir" in family or ("torch" in family and hasattr(source, "model_proto")):
        return Loaded(_from_ir(source), Path())
    raise OptionError(f"source of type {type(source).__name__}", "is no model", REMEDY)


def is_module(source: object) -> bool:
    """Whether it is a torch module, which is told without loading torch."""
    return "torch" in _family(source) and hasattr(source, "state_dict")


def _family(source: object) -> set[str]:
    return {cls.__module__.split(".")[0] for cls in type(source).__mro__}


def _from_ir(model: Any) -> ModelProto:  # noqa: ANN401  (an onnx_ir.Model, or torch's ONNXProgram that holds one)
    import onnx_ir

    try:
        proto = model.model_proto if hasattr(model, "model_proto") else onnx_ir.to_proto(model)
    except onnx_ir.serde.SerdeError as error:
        fact = f"cannot be written as ONNX ({first_line(error)[:300]})"
        raise ModelError(f"source of type {type(model).__name__}", fact, "mend the model, or give a file") from error
    if not isinstance(proto, ModelProto):
        raise OptionError(f"source of type {type(model).__name__}", "is no model", REMEDY)
    return proto


def _exported(module: Any, args: Any, kwargs: Mapping[str, Any] | None) -> ModelProto:  # noqa: ANN401
    if args is None and kwargs is None:
        remedy = "give example_args=(tensor, ...) to trace it with"
        raise OptionError(type(module).__name__, "is a torch module", remedy)
    from ampgraph.onnx_model.torch_export import from_module

    return from_module(module, () if args is None else args, kwargs)
