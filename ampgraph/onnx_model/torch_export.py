"""A torch module or exported program as an ONNX model, by torch's exporter."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ampgraph.errors import ModelError
from ampgraph.onnx_model.io import first_line
from ampgraph.quiet import quietly
from ampgraph.tracing import Arguments, example_of, explained, in_turn

_TORCH_ONNX = "torch.onnx"


def from_module(module: nn.Module, example_args: object, example_kwargs: object = None) -> ModelProto:
    """Export a module in evaluation mode: names of arguments kept, first dimensions free, not optimised.

    torch's own optimiser would delete `x + 1e-8` and the like, which decides precision. The module is left as it was.
    Raises ModelError naming a line of the module's code, OptionError for arguments that cannot be an example.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(type(module).__name__, "is a TorchScript module", "give the Python module it was made from")
    arguments = example_of(module, example_args, example_kwargs)
    with in_turn(module):
        module.eval()
        try:
            return _written(module, type(module).__name__, arguments, **_interface(module, arguments))
        except Exception as error:
            cause = _cause(error)
            if type(cause).__module__.startswith(_TORCH_ONNX):  # traced, and then something has no counterpart
                raise _unwritten(type(module).__name__, cause) from error
            raise explained(module, arguments, cause, "exported") from error


def from_program(program: ExportedProgram, name: str) -> ModelProto:
    """Export a program. Raises ModelError where torch cannot; `name`: what to call the model."""
    with in_turn():
        try:
            return _written(program, name, ((), {}))
        except Exception as error:
            raise _unwritten(name, _cause(error)) from error


def _interface(module: nn.Module, arguments: Arguments) -> dict[str, Any]:
    """What torch is told of names and sizes. It takes no sizes of arguments that forward gathers with `**`."""
    signature = inspect.signature(module.forward)
    named = dict(signature.bind(*arguments[0], **arguments[1]).arguments)
    gathers = [name for name in named if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD]
    shapes = None if gathers else pytree.tree_map(_free_sizes, named)
    for name in gathers:
        named |= named.pop(name)
    leaves = pytree.tree_flatten_with_path(named)[0]
    names = ["_".join(str(_key(each)) for each in path) for path, leaf in leaves if isinstance(leaf, Tensor)]
    return {"input_names": names, "dynamic_shapes": shapes}


def _free_sizes(leaf: object) -> dict[int, Any] | None:
    return {0: torch.export.Dim.AUTO} if isinstance(leaf, Tensor) and leaf.dim() else None


def _key(each: Any) -> str | int:  # noqa: ANN401  (torch's kinds of keys share no base class)
    """A step on the way to a leaf, as torch names the inputs: `states_0`."""
    found: str | int = each.idx if isinstance(each, pytree.SequenceKey) else getattr(each, "key", None) or each.name
    return found


def _cause(error: Exception) -> Exception:
    """What torch's exporter wraps in words about itself."""
    while type(error).__module__.startswith(_TORCH_ONNX) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _unwritten(name: str, cause: Exception) -> ModelError:
    fact = f"was traced, but torch cannot write it as ONNX ({type(cause).__name__}: {first_line(cause)[:300]})"
    return ModelError(name, fact, "rewrite that in the module's code, or export it another way and convert the file")


def _written(
    subject: nn.Module | ExportedProgram,
    name: str,
    arguments: Arguments,
    **more: Any,  # noqa: ANN401
) -> ModelProto:
    given = {"args": arguments[0], "kwargs": arguments[1], **more}
    with quietly():
        found = torch.onnx.export(subject, dynamo=True, optimize=False, verbose=False, **given)
        assert found is not None  # nothing is returned where a file is written
        model: ModelProto = found.model_proto
    model.graph.name = name
    return model
