"""Trace: the public door. Looks at what it is given, captures training and evaluation, returns a TracedModule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ampgraph.errors import ModelError, OptionError
from ampgraph.fx_module.example import Example
from ampgraph.fx_module.export import BATCH, DynamicShapes
from ampgraph.fx_module.facts import dtype_name
from ampgraph.fx_module.module import TracedModule
from ampgraph.fx_module.own_backward import verify_hooks
from ampgraph.fx_module.policy import make_policy
from ampgraph.options import FilePath, as_path, patterns_of
from ampgraph.tracing import Arguments, example_of, in_turn


def trace(
    module: nn.Module,
    example_args: Tensor | Sequence[Any] = (),
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    precision: str | None = None,
    objective: str | None = None,
    named_policy: str | None = None,
    rules: FilePath = None,
    keep: str | Sequence[str] = "",
    low: str | Sequence[str] = "",
    io: str = "keep",
    device: str = "h100",
    dynamic_shapes: DynamicShapes = BATCH,
) -> TracedModule:
    """Turn a float32 module into one that computes in mixed precision, with every cast a node of a graph.

    The result has the same parameters (the same objects, float32), buffers and state-dict keys; gradients arrive in
    float32. Training and evaluation are captured now, other combinations of modes when they are first called. Inputs
    and outputs keep their types unless `io` says otherwise. The module is left as it was.

    - `example_args`, `example_kwargs`: what forward is called with; a single tensor will do. Sizes and types count.
    - `precision`: "float16" (the default; use a loss scaler) or "bfloat16".
    - `objective`: "training", the default: what the rules allow in low precision (products, convolutions, attention,
      recurrent cells) is low, as everybody who asks for mixed precision expects and as pays once batches are real;
      all else is low where the modelled time of a step, forward and backward and casts, is shorter for it. "speed":
      time alone decides, so a tiny model may stay float32. "memory": bytes of values. "coverage": all that is legal.
    - `named_policy`: "mixed_float16", "mixed_bfloat16" (Keras), "O1", "O2" (Apex) instead of the two above.
    - `rules`: a TOML file of rules that go before the built-in ones.
    - `keep`, `low`: a regular expression, or several, over node names ("layer4.0.conv1.conv2d_12": the submodule, then
      the op) that stay float32, or become low against the rules.
    - `io`: "keep" the interface, "low", or a regular expression over the names of inputs and outputs (output_0, ...).
    - `device`: the GPU whose figures the model of time takes.
    - `dynamic_shapes`: "batch" leaves the first axis free where the module lets it, None fixes all sizes to the
      example's, anything else is torch.export's argument of that name.

    Convolutions on a GPU's tensor cores are about 1.6 times as fast where channels come last (ResNet-50 on an H100):
    `module.to(memory_format=torch.channels_last)`, before or after tracing, and batches likewise. Copies of weights
    and all that is computed follow their layout.

    Raises ModelError for a module or arguments that cannot be traced, with the line of the module's code; OptionError
    for an option that means nothing. See `TracedModule` for what can be done with the result.
    """
    wishes = {"keep": patterns_of("keep", keep), "low": patterns_of("low", low), "io": io, "device": device}
    policy = make_policy(precision, objective, named_policy, as_path("rules", rules or None), **wishes)
    refuse(module)
    arguments = example_of(module, example_args, example_kwargs)
    refuse_arguments(module, arguments)
    with in_turn(module):
        traced = TracedModule(module, Example.of(arguments), policy, dynamic_shapes)
        traced.capture()
        traced.train(not module.training).capture()
    traced.training = module.training
    return traced


def refuse(module: nn.Module) -> None:
    """Raise for what cannot be traced whatever the arguments."""
    if not isinstance(module, nn.Module):
        raise OptionError(f"module of type {type(module).__name__}", "is no torch.nn.Module", "pass the module itself")
    name = type(module).__name__
    if isinstance(module, TracedModule):
        raise ModelError(name, "is traced already", "trace the original module")
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(name, "is a TorchScript module", "trace the Python module it was made from")
    if name in ("DistributedDataParallel", "DataParallel", "OptimizedModule") or name.startswith("FSDP"):
        raise ModelError(name, "is a wrapper", "trace the module inside, then wrap the traced module")
    _refuse_state(module)
    verify_hooks(module)


def _refuse_state(module: nn.Module) -> None:
    named = [*module.named_parameters(), *module.named_buffers()]
    for path, tensor in named:
        if nn.parameter.is_lazy(tensor):
            raise ModelError(path, "has no size yet", "run the module once on example arguments first")
        if tensor.is_meta:
            raise ModelError(path, "is on the meta device", "give it data first: module.to_empty(...) or load weights")
    for path, parameter in module.named_parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            fact = f"is {dtype_name(parameter.dtype)}, and mixed precision trains float32 parameters"
            raise ModelError(f"parameter {path}", fact, "call module.float() before tracing")
    devices = {str(tensor.device): path for path, tensor in named}
    if len(devices) > 1:
        (first, one), (second, two) = list(devices.items())[:2]
        fact = f"has {one} on {first} and {two} on {second}"
        raise ModelError(type(module).__name__, fact, "move it to one device: module.to(...)")


def refuse_arguments(module: nn.Module, arguments: Arguments) -> None:
    """Raise for example arguments on another device than the module."""
    held = next(iter([*module.parameters(), *module.buffers()]), None)
    for tensor in (each for each in pytree.tree_leaves(arguments) if isinstance(each, Tensor)):
        if held is not None and tensor.device != held.device:
            fact = f"is on {tensor.device}, and the module on {held.device}"
            raise ModelError("example argument", fact, "move one to the other")
