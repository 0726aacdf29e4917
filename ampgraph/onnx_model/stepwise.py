"""Kernels that round between their steps: what onnxruntime's CUDA provider computes in the low type itself.

Most of its low-precision kernels load, compute in float32 and round once. The ones here are written over the element
type (`T`), so every operation of theirs rounds: sigmoid(-9) is 1 - 1 = 0 in float16. Each is given as ONNX text over
its step operators; sources are files of onnxruntime's repository, read at 1.2x and recorded against a GPU by
benchmarks/gpu_agreement.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
from onnx import parser

DOMAIN = "ampgraph.stepwise"
OLDEST_OPSET = 9  # the steps use Where

_ACTIVATIONS = "core/providers/cuda/activation/activations_impl.cu"
_COMMON = "core/providers/cuda/cu_inc/common.cuh"
_FAST = "contrib_ops/cuda/bert/fast_gelu_impl.cu"
_REDUCTION = "core/providers/cuda/reduction/reduction_ops.cc"


@dataclass(frozen=True, slots=True)
class Steps:
    """A kernel's steps from `x` to `y`; {name} is a constant of the low type, with a default for absent attributes."""

    body: str
    source: str
    constants: Mapping[str, float] = field(default_factory=dict)
    inputs: str = "x"


_GELU = """
    part = Mul(x, {half})
    scaled = Mul(x, {root})
    error = Erf(scaled)
    shifted = Add(error, {one})
    y = Mul(part, shifted)
"""
_GELU_CONSTANTS = {"half": 0.5, "root": 0.7071067811865476, "one": 1.0}
_FAST_GELU = """
    cube = Mul(x, {cubic})
    square = Mul(cube, x)
    slope = Add(square, {linear})
    angle = Mul(x, slope)
    tangent = Tanh(angle)
    part = Mul(tangent, {half})
    weight = Add(part, {half})
    y = Mul(x, weight)
"""
_FAST_GELU_CONSTANTS = {"half": 0.5, "linear": 0.7978845608028654, "cubic": 0.035677408136300125}

STEPS: Mapping[tuple[str, ...], Steps] = {
    ("", "Sigmoid"): Steps(
        """
        magnitude = Abs(x)
        negative = Neg(magnitude)
        power = Exp(negative)
        below = Add(power, {one})
        upper = Div({one}, below)
        lower = Sub({one}, upper)
        positive = Greater(x, {zero})
        y = Where(positive, upper, lower)
        """,
        _ACTIVATIONS,
        {"one": 1.0, "zero": 0.0},
    ),
    ("", "Softplus"): Steps(
        """
        magnitude = Abs(x)
        negative = Neg(magnitude)
        power = Exp(negative)
        above = Add(power, {one})
        tail = Log(above)
        rest = Relu(x)
        y = Add(rest, tail)
        """,
        _ACTIVATIONS,
        {"one": 1.0},
    ),
    ("", "Softsign"): Steps(
        "magnitude = Abs(x)  below = Add(magnitude, {one})  y = Div(x, below)", _ACTIVATIONS, {"one": 1.0}
    ),
    ("", "Elu"): Steps(
        """
        power = Exp(x)
        less = Sub(power, {one})
        scaled = Mul(less, {alpha})
        positive = Greater(x, {zero})
        y = Where(positive, x, scaled)
        """,
        _ACTIVATIONS,
        {"alpha": 1.0, "one": 1.0, "zero": 0.0},
    ),
    ("", "Selu"): Steps(
        """
        power = Exp(x)
        less = Sub(power, {one})
        scaled = Mul(less, {alpha})
        positive = Greater(x, {zero})
        chosen = Where(positive, x, scaled)
        y = Mul(chosen, {gamma})
        """,
        _ACTIVATIONS,
        {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875, "one": 1.0, "zero": 0.0},
    ),
    ("", "Gelu"): Steps(_GELU, _COMMON, _GELU_CONSTANTS),
    ("com.microsoft", "Gelu"): Steps(_GELU, _COMMON, _GELU_CONSTANTS),
    ("com.microsoft", "BiasGelu"): Steps("x = Add(a, b)" + _GELU, _COMMON, _GELU_CONSTANTS, "a, b"),
    ("", "Gelu", "tanh"): Steps(_FAST_GELU, _FAST, _FAST_GELU_CONSTANTS),
    ("com.microsoft", "FastGelu"): Steps(_FAST_GELU, _FAST, _FAST_GELU_CONSTANTS),
    ("", "ReduceSumSquare"): Steps(
        """
        square = Mul(x, x)
        exact = Cast<to = 1>(square)
        root = Sqrt(exact)
        total = ReduceSumSquare(root)
        y = Cast<to = {low}>(total)
        """,
        _REDUCTION,
    ),
}

STEPPED = frozenset(key[1] for key in STEPS)

# Ops without a CUDA kernel that onnxruntime expands into their schema's function body, an op (and a rounding) a step.
SCHEMA_FUNCTIONS = (("", "Celu"), ("", "Mish"), ("", "Swish"))


def steps_of(node: onnx.NodeProto) -> Steps | None:
    """The steps of a node's kernel, None where it rounds once."""
    key = ("" if node.domain == "ai.onnx" else node.domain, node.op_type)
    if node.op_type == "FastGelu" and len(node.input) > 1:
        return None
    approximations = (attribute.s.decode() for attribute in node.attribute if attribute.name == "approximate")
    variant = next(approximations, "none")
    return STEPS.get(key if variant == "none" else (*key, variant))


def function_for(node: onnx.NodeProto, steps: Steps, name: str, low: int, opset: int) -> onnx.FunctionProto:
    """`steps` as a model-local function, its constants filled in from the node.

    An op of the node's own type inside the steps (a reduction) takes the node's attributes and further inputs.
    """
    given = {attribute.name: attribute.f for attribute in node.attribute}
    prologue = " ".join(_constant(key, given.get(key, default), low) for key, default in steps.constants.items())
    body = steps.body.format(**{key: key for key in steps.constants}, low=low)
    extra = [f"extra{index}" for index in range(len(node.input) - 1)] if steps.inputs == "x" else []
    formals = ", ".join([steps.inputs, *extra])
    function = parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {opset}]> {name} ({formals}) => (y) {{ {prologue} {body} }}'
    )
    for inner in function.node:
        if inner.op_type == node.op_type:
            inner.attribute.extend(node.attribute)
            inner.input.extend(extra)
    return function


def _constant(name: str, value: float, low: int) -> str:
    return f"{name}32 = Constant<value: tensor = float {{{value!r}}}>() {name} = Cast<to = {low}>({name}32)"
