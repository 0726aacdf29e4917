"""What a recorded step depends on besides the values of its tensors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils import _pytree as pytree

from ampgraph.errors import TrainError
from ampgraph.fx_module.recipe import Call

_ENGINES = ("DistributedDataParallel", "DataParallel", "FSDPModule", "FullyShardedDataParallel")


@dataclass(frozen=True)
class Layout:
    """A call's structure, with its tensors apart. `key`: compares equal where one recording serves both calls."""

    key: Hashable
    tensors: list[Tensor]
    leaves: list[Any]
    spec: pytree.TreeSpec | None  # None: nothing but tensors, each an argument

    def rebuilt(self, tensors: Sequence[Any]) -> Call:
        """The call with other tensors, or what stands for them, in place of its own."""
        if self.spec is None:
            return Call(tuple(tensors))
        others = iter(tensors)
        leaves = [next(others) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return Call(*pytree.tree_unflatten(leaves, self.spec))


def layout(call: Call) -> Layout:
    """Raises TrainError for arguments that are neither tensors nor can be compared."""
    if not call.kwargs and all(isinstance(each, Tensor) for each in call.args):
        tensors = list(call.args)
        return Layout(tuple([_described(each) for each in tensors]), tensors, tensors, None)
    leaves, spec = pytree.tree_flatten((call.args, dict(call.kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return Layout((repr(spec), *[_described(leaf) for leaf in leaves]), tensors, leaves, spec)


def modes(modules: Sequence[nn.Module], parameters: Sequence[Tensor]) -> Hashable:
    """What decides the way a module takes: training or evaluating, frozen parameters, autocast."""
    return (
        tuple([module.training for module in modules]),
        tuple([parameter.requires_grad for parameter in parameters]),
        torch.is_autocast_enabled("cuda"),
    )


def verify_inputs(tensors: Sequence[Tensor], device: torch.device) -> None:
    """Raise TrainError for inputs that a recorded step on `device` cannot take."""
    for index, tensor in enumerate(tensors):
        place = f"tensor {index} of step()"
        if tensor.device != device:
            fact = f"lies on {tensor.device}, the module on {device}"
            raise TrainError(place, fact, f'move it there with .to("{device}", non_blocking=True)')
        if tensor.requires_grad:
            fact = "wants a gradient, which stays inside the recorded step"
            raise TrainError(place, fact, "detach it, or build the step with capture=False")


def verify_alone(module: nn.Module) -> None:
    """Raise TrainError for a module that waits for other processes or devices in forward or backward: a recording of
    one process knows nothing of the others, and waits where the order differs."""
    for each in module.modules():
        names = [kind.__name__ for kind in type(each).__mro__]
        wrapper = next((name for name in _ENGINES if name in names), "")
        if wrapper:
            fact = "exchanges with other processes or devices, which a recorded step cannot"
            raise TrainError(wrapper, fact, "build the step with capture=False")
    for name, parameter in module.named_parameters():
        if isinstance(parameter, DTensor):
            fact = "is spread over processes, which a recorded step cannot follow"
            raise TrainError(f"parameter {name}", fact, "build the step with capture=False")


def verify_module(module: nn.Module) -> torch.device:
    """The device that the whole module lies on. Raises TrainError where that is no single one."""
    devices = {name: each.device for name, each in module.named_parameters()}
    if not devices:
        raise TrainError(type(module).__name__, "has no parameters to train", "give the module that the loss is of")
    first, device = next(iter(devices.items()))
    for name, other in devices.items():
        if other != device:
            fact = f"lies on {other}, {first} on {device}"
            raise TrainError(f"parameter {name}", fact, "move the module to one device, or use a hand-written loop")
    return device


def _described(leaf: Any) -> Hashable:  # noqa: ANN401
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.stride(), leaf.dtype, leaf.device, leaf.requires_grad
    try:
        hash(leaf)
    except TypeError:
        fact = f"got a {type(leaf).__name__}, which cannot be compared with the next call's"
        raise TrainError("step()", fact, "pass tensors, numbers, text, or tuples, lists and dicts of them") from None
    return type(leaf).__name__, leaf  # 1, 1.0 and True compare equal
