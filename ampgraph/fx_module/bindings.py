"""The quick way to torch's ops: for a body, which runs and is not shown.

`torch.ops.aten.linear.default` finds its op by name and checks its arguments against a schema; `torch._C._nn.linear`,
which torch's own modules call, is made for these arguments and is there in half the time. Both end in the same op.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from ampgraph.fx_module.apply import TO_COPY
from ampgraph.fx_module.body import Body

# Ops by the place of a function that takes the same arguments in the same order, and is written in C++.
FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "torch": (
        "abs", "adaptive_avg_pool1d", "add.Tensor", "addmm", "amax", "avg_pool1d", "baddbmm", "batch_norm", "bmm",
        "cat", "celu", "chunk", "clamp", "clone", "conv1d", "conv2d", "conv3d", "conv_transpose1d",
        "conv_transpose2d.input", "conv_transpose3d.input", "cos", "cumsum", "detach", "div.Tensor", "dropout",
        "embedding", "eq.Scalar", "eq.Tensor", "exp", "feature_dropout", "flatten.using_ints", "ge.Scalar",
        "group_norm", "gt.Scalar", "instance_norm", "layer_norm", "le.Scalar", "log", "log_softmax.int", "lt.Scalar",
        "masked_fill.Scalar", "matmul", "max_pool1d", "max_pool2d", "max_pool3d", "mean", "mean.dim", "mm",
        "movedim.int", "mul.Tensor", "ne.Scalar", "neg", "permute", "pixel_shuffle", "pow.Tensor_Scalar", "prelu",
        "relu", "reshape", "rms_norm", "roll", "rsqrt", "rsub.Scalar", "select.int", "selu", "sigmoid", "sin",
        "softmax.int", "split_with_sizes", "sqrt", "square", "squeeze", "squeeze.dim", "stack", "sub.Tensor", "sum",
        "sum.dim_IntList", "tanh", "transpose.int", "tril", "triu", "unbind.int", "unflatten.int", "unsqueeze",
        "var.correction", "where.self",
    ),
    "torch._C._nn": (
        "adaptive_avg_pool2d", "avg_pool2d", "binary_cross_entropy", "cross_entropy_loss", "elu", "gelu", "glu",
        "hardsigmoid", "hardswish", "hardtanh", "huber_loss", "l1_loss", "leaky_relu", "linear", "log_sigmoid", "mish",
        "mse_loss", "nll_loss_nd", "pad", "relu6", "scaled_dot_product_attention", "silu", "smooth_l1_loss", "softplus",
        "upsample_bilinear2d.vec", "upsample_nearest2d.vec",
    ),
}  # fmt: skip
METHODS = ("contiguous", "expand", "type_as", "view")


def bound(body: Body) -> Body:
    """The body with its ops called the quick way. What is shown of it keeps their names."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(body.graph, {}))
    for node in graph.nodes:
        if node.op == "call_function" and isinstance(node.target, OpOverload):
            _bind(node)
    return replace(body, run=fx.GraphModule({}, graph).forward)


def _bind(node: fx.Node) -> None:
    if node.target is TO_COPY and list(node.kwargs) == ["dtype"]:  # of a cast, which is never to its own type
        node.op, node.target, node.args, node.kwargs = "call_method", "to", (node.args[0], node.kwargs["dtype"]), {}
    elif node.target in functions():
        _tell_reduction(node)
        node.target = functions()[node.target]
    elif node.target in methods():
        node.op, node.target = "call_method", methods()[node.target]


def _tell_reduction(node: fx.Node) -> None:
    """The functions of losses take 0 for granted where the ops take 1: torch's own modules always tell them."""
    assert isinstance(node.target, OpOverload)  # it is in the table
    formals = node.target._schema.arguments
    place = next((place for place, formal in enumerate(formals) if formal.name == "reduction"), 0)
    if len(node.args) <= place and "reduction" not in node.kwargs:
        node.kwargs = {**node.kwargs, "reduction": formals[place].default_value}


@cache
def functions() -> Mapping[Any, Callable[..., Any]]:
    """The C++ function of each op that has one in the torch that runs."""
    places = {"torch": torch._C._VariableFunctions, "torch._C._nn": torch._C._nn}
    named = [
        (name, getattr(places[place], name.split(".")[0], None)) for place in FUNCTIONS for name in FUNCTIONS[place]
    ]
    return {op(name): function for name, function in named if op(name) is not None and function is not None}


@cache
def methods() -> Mapping[Any, str]:
    """The tensor's method of each op that has no function."""
    return {op(name): name for name in METHODS}


def op(name: str) -> OpOverload | None:
    """An aten op by its name, without "default"; None where torch has none such."""
    packet, _, overload = name.partition(".")
    found = getattr(torch.ops.aten, packet, None)
    return getattr(found, overload or "default", None)
