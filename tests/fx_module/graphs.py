"""Modules to prepared and lifted graphs, for tests of single stages."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ampgraph.fx_module.capture import Capture, capture, held_tensors
from ampgraph.fx_module.export import export_module
from ampgraph.fx_module.fakes import settle
from ampgraph.fx_module.lift import Holdings, lift
from ampgraph.fx_module.policy import Policy
from ampgraph.fx_module.prepare import Prepared, prepare
from ampgraph.graph import PrecisionGraph
from ampgraph.precision import Precision


class Function(nn.Module):
    """A function as a module, with tensors that it may use as parameters and buffers."""

    def __init__(self, function: Any, **tensors: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


def prepared(module: nn.Module, *args: Any) -> Prepared:
    found = prepare(export_module(module, (args, {})).program, module)
    settle(found.graph)
    return found


def lifted(module: nn.Module, *args: Any, precision: Precision = Precision.FLOAT16) -> PrecisionGraph:
    found = prepared(module, *args)
    return lift(found.graph, Holdings.of(found.states, held_tensors(found, module)), precision)


def captured(module: nn.Module, *args: Any, **policy: Any) -> Capture:
    return capture(module, (args, {}), Policy(**policy), "batch")
