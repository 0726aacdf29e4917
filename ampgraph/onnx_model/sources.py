"""What `convert` accepts as a source, each turned into a loaded ONNX model."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model.io import Loaded, load

REMEDY = "give a path, an onnx.ModelProto, an onnx_ir.Model, an ONNXProgram or a torch.nn.Module with example_args"


def as_loaded(source: Any, example_args: tuple[Any, ...] | None = None) -> Loaded:  # noqa: ANN401  (five libraries' types)
    """Load `source`: a path, ModelProto, onnx_ir.Model, torch ONNXProgram, or nn.Module with `example_args`.

    Raises ModelError for a file that is no model, OptionError for an object that cannot be one.
    """
    if isinstance(source, str | os.PathLike):
        return load(Path(source))
    if isinstance(source, ModelProto):
        return Loaded(source, Path())
    family = {cls.__module__.split(".")[0] for cls in type(source).__mro__}
    if "onnx_ir" in family:
        return Loaded(_from_ir(source), Path())
    if "torch" in family and hasattr(source, "model_proto"):
        return Loaded(source.model_proto, Path())
    if "torch" in family and hasattr(source, "state_dict"):
        return Loaded(_exported(source, example_args), Path())
    raise OptionError(f"source of type {type(source).__name__}", "is no model", REMEDY)


def _from_ir(model: Any) -> ModelProto:  # noqa: ANN401
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    if not isinstance(proto, ModelProto):
        raise OptionError(f"source of type {type(model).__name__}", "is no model", REMEDY)
    return proto


def _exported(module: Any, example_args: tuple[Any, ...] | None) -> ModelProto:  # noqa: ANN401
    """Trace a torch module with torch.export and export it: argument names kept, first dimensions free, not optimised.

    torch's own optimiser would delete `x + 1e-8` and the like, which decides precision.
    """
    import inspect

    import torch

    if example_args is None:
        raise OptionError(
            type(module).__name__, "is a torch module", "give example_args=(tensor, ...) to trace it with"
        )
    names = list(inspect.signature(module.forward).parameters)[: len(example_args)]
    tensors = [torch.is_tensor(argument) and argument.dim() > 0 for argument in example_args]
    shapes = tuple({0: torch.export.Dim.AUTO} if is_tensor else None for is_tensor in tensors)
    inputs = [name for name, is_tensor in zip(names, tensors, strict=False) if is_tensor]
    was_training, chatter = module.training, logging.getLogger("torch.onnx")
    level = chatter.level
    module.eval()
    chatter.setLevel(logging.ERROR)  # it warns of libraries that are not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own deprecations
            program = torch.onnx.export(
                module,
                tuple(example_args),
                input_names=inputs,
                dynamic_shapes=shapes,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    except Exception as error:
        fact = f"cannot be exported ({' '.join(str(error).split())[:300]})"
        raise ModelError(
            type(module).__name__, fact, "export it with torch.onnx.export and convert the file"
        ) from error
    finally:
        module.train(was_training)
        chatter.setLevel(level)
    if program is None:
        raise ModelError(type(module).__name__, "torch exported nothing", "export it yourself and convert the file")
    proto = program.model_proto
    proto.graph.name = type(module).__name__
    return proto
