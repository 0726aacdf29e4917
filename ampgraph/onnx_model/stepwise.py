"""Kernels that round between their steps: what onnxruntime's CUDA provider computes in the low type itself.

Most of its low-precision kernels load, compute in float32 and round once. The ones here are written over the element
type, so that their operations round one by one, or hold a sum or a variance in it. Each is given as ONNX text over its
step operators. `source` is a file of onnxruntime's repository; what was read there was held against an H100 with
onnxruntime 1.31.1 (benchmarks/gpu_agreement.py), and every float16 number through the elementwise ops agrees to the
last bit for all of them but HardSwish, Selu and tanh's Gelu (one in a thousand to one in twenty-five off by a
rounding). Sigmoid and Gelu, written over the element type in those files, are computed in float32 there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx
from onnx import parser

DOMAIN = "ampgraph.stepwise"
OLDEST_OPSET = 9  # the steps use Where

_ACTIVATIONS = "core/providers/cuda/activation/activations_impl.cu"
_BIAS_ADD = "contrib_ops/cuda/diffusion/bias_add_impl.cu"
_COMMON = "core/providers/cuda/cu_inc/common.cuh"
_CONTRIB = "contrib_ops/cuda/activation/activations_impl.cu"
_FAST = "contrib_ops/cuda/bert/fast_gelu_impl.cu"
_GROUP_NORM = "contrib_ops/cuda/diffusion/group_norm_impl_kernel.cuh"
_NORMALIZATION = "core/providers/cuda/nn/instance_norm.cc"
_REDUCTION = "core/providers/cuda/reduction/reduction_ops.cc"
_SPLIT_GELU = "contrib_ops/cuda/diffusion/bias_split_gelu_impl.cu"
_VARIADIC = "core/providers/cuda/math/variadic_elementwise_ops.cc"


@dataclass(frozen=True, slots=True)
class Steps:
    """A kernel's steps from `x` to `y`.

    {name} is a constant of the low type: the node's attribute, or the default given in `constants`; {low} is the type.
    """

    body: str
    source: str
    constants: Mapping[str, float] = field(default_factory=dict)
    inputs: str = "x"


_FAST_GELU = Steps(
    """
    cube = Mul(x, {cubic})
    square = Mul(cube, x)
    slope = Add(square, {linear})
    angle = Mul(x, slope)
    tangent = Tanh(angle)
    part = Mul(tangent, {half})
    weight = Add(part, {half})
    y = Mul(x, weight)
    """,
    _FAST,
    {"half": 0.5, "linear": 0.7978845608028654, "cubic": 0.035677408136300125},
)

STEPS: Mapping[tuple[str, ...], Steps] = {
    ("", "LeakyRelu"): Steps(
        "scaled = Mul(x, {alpha})  positive = Greater(x, {zero})  y = Where(positive, x, scaled)",
        _ACTIVATIONS,
        {"alpha": 0.01, "zero": 0.0},
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
    ("", "HardSigmoid"): Steps(
        """
        wide = Cast<to = 1>(x)
        slope = Cast<to = 1>({alpha})
        height = Cast<to = 1>({beta})
        scaled = Mul(wide, slope)
        raised = Add(scaled, height)
        rounded = Cast<to = {low}>(raised)
        bounded = Min(rounded, {one})
        y = Max(bounded, {zero})
        """,
        _ACTIVATIONS,
        {"alpha": 0.2, "beta": 0.5, "one": 1.0, "zero": 0.0},
    ),
    ("", "HardSwish"): Steps(
        """
        scaled = Mul(x, {sixth})
        raised = Add(scaled, {half})
        bounded = Min(raised, {one})
        weight = Max(bounded, {zero})
        y = Mul(x, weight)
        """,
        _ACTIVATIONS,
        {"sixth": 1 / 6, "half": 0.5, "one": 1.0, "zero": 0.0},
    ),
    ("com.microsoft", "QuickGelu"): Steps(
        """
        scaled = Mul(x, {alpha})
        magnitude = Abs(scaled)
        negative = Neg(magnitude)
        power = Exp(negative)
        below = Add(power, {one})
        upper = Div({one}, below)
        lower = Sub({one}, upper)
        positive = Greater(scaled, {zero})
        weight = Where(positive, upper, lower)
        y = Mul(x, weight)
        """,
        _CONTRIB,
        {"alpha": 1.702, "one": 1.0, "zero": 0.0},
    ),
    ("com.microsoft", "BiasGelu"): Steps(
        """
        x = Add(a, b)
        part = Mul(x, {half})
        scaled = Mul(x, {root})
        error = Erf(scaled)
        shifted = Add(error, {one})
        y = Mul(part, shifted)
        """,
        _COMMON,
        {"half": 0.5, "root": 0.7071067811865476, "one": 1.0},
        "a, b",
    ),
    ("com.microsoft", "BiasSplitGelu"): Steps(  # the sum in the element type, all else in float32
        """
        sum = Add(a, b)
        wide = Cast<to = 1>(sum)
        parts = Constant<value = int64[4] {{0, 0, 2, -1}}>()
        halves = Reshape(wide, parts)
        first = Constant<value = int64 {{0}}>()
        second = Constant<value = int64 {{1}}>()
        left = Gather<axis = 2>(halves, first)
        right = Gather<axis = 2>(halves, second)
        scaled = Mul(right, root32)
        error = Erf(scaled)
        shifted = Add(error, one32)
        part = Mul(right, half32)
        gelu = Mul(part, shifted)
        product = Mul(left, gelu)
        y = Cast<to = {low}>(product)
        """,
        _SPLIT_GELU,
        {"half": 0.5, "root": 0.7071067811865476, "one": 1.0},
        "a, b",
    ),
    ("com.microsoft", "BiasAdd"): Steps("sum = Add(a, b)  y = Add(sum, c)", _BIAS_ADD, {}, "a, b, c"),
    ("", "Gelu", "tanh"): _FAST_GELU,
    ("com.microsoft", "FastGelu"): _FAST_GELU,
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
    ("", "ReduceMean"): Steps(  # the sum is held in the low type before it is divided
        """
        wide = Cast<to = 1>(x)
        mean = ReduceMean(wide)
        all = Size(x)
        kept = Size(mean)
        elements = Cast<to = 1>(all)
        results = Cast<to = 1>(kept)
        count = Div(elements, results)
        sum = Mul(mean, count)
        held = Cast<to = {low}>(sum)
        total = Cast<to = 1>(held)
        quotient = Div(total, count)
        y = Cast<to = {low}>(quotient)
        """,
        _REDUCTION,
    ),
    ("", "ReduceLogSum"): Steps(
        """
        wide = Cast<to = 1>(x)
        logarithm = ReduceLogSum(wide)
        sum = Exp(logarithm)
        held = Cast<to = {low}>(sum)
        y = Log(held)
        """,
        _REDUCTION,
    ),
    ("", "InstanceNormalization"): Steps(  # the variance is held in the low type: infinite beyond |x| of 256 in float16
        """
        wide = Cast<to = 1>(x)
        slope = Cast<to = 1>(s)
        height = Cast<to = 1>(b)
        added = Cast<to = 1>({epsilon})
        exact = InstanceNormalization(wide, slope, height)
        nothing = Sub(wide, wide)
        base = InstanceNormalization(nothing, slope, height)
        mean = GlobalAveragePool(wide)
        distance = Sub(wide, mean)
        square = Mul(distance, distance)
        variance = GlobalAveragePool(square)
        held = Cast<to = {low}>(variance)
        rounded = Cast<to = 1>(held)
        true = Add(variance, added)
        found = Add(rounded, added)
        ratio = Div(true, found)
        factor = Sqrt(ratio)
        part = Sub(exact, base)
        scaled = Mul(part, factor)
        moved = Add(scaled, base)
        y = Cast<to = {low}>(moved)
        """,
        _NORMALIZATION,
        {"epsilon": 1e-5},
        "x, s, b",
    ),
}
STEPPED = frozenset(("Sum", "GroupNorm", *(key[1] for key in STEPS)))

# Contrib ops that only the CUDA provider has a kernel for: their steps, in float32 too, are how others compute them.
CUDA_ONLY = frozenset(("BiasAdd", "BiasSplitGelu", "GroupNorm"))

# Ops without a CUDA kernel that onnxruntime expands into their schema's function body, an op (and a rounding) a step.
SCHEMA_FUNCTIONS = (("", "Celu"), ("", "Mish"), ("", "Swish"))


def steps_of(node: onnx.NodeProto) -> Steps | None:
    """The steps of a node's kernel, None where it rounds once."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    if (domain, node.op_type) == ("", "Sum"):
        return _sum_of(len(node.input))
    if (domain, node.op_type) == ("com.microsoft", "GroupNorm"):
        return _group_norm_of(node)
    if node.op_type == "FastGelu" and len(node.input) > 1:
        return None
    approximations = (attribute.s.decode() for attribute in node.attribute if attribute.name == "approximate")
    variant = next(approximations, "none")
    return STEPS.get((domain, node.op_type) if variant == "none" else (domain, node.op_type, variant))


def _sum_of(count: int) -> Steps | None:
    """One addition after the other, each rounded."""
    if count < 3:
        return None
    lines = [f"t{index} = Add({f't{index - 1}' if index > 1 else 'i0'}, i{index})" for index in range(1, count)]
    body = f"{' '.join(lines)} y = Identity(t{count - 1})"
    return Steps(body, _VARIADIC, {}, ", ".join(f"i{index}" for index in range(count)))


def _group_norm_of(node: onnx.NodeProto) -> Steps | None:
    """All in float32, rounded once; the variance is a difference of means of squares. It takes channels last only."""
    said = {attribute.name: attribute.i for attribute in node.attribute}
    if not said.get("channels_last", 1) or said.get("groups", 0) < 1:
        return None
    body = f"""
        wide = Cast<to = 1>(x)
        slope = Cast<to = 1>(s)
        height = Cast<to = 1>(b)
        image = Transpose<perm = [0, 3, 1, 2]>(wide)
        grouped = Constant<value = int64[3] {{{{0, {said["groups"]}, -1}}}}>()
        rows = Reshape(image, grouped)
        mean = GlobalAveragePool(rows)
        squares = Mul(rows, rows)
        moment = GlobalAveragePool(squares)
        square = Mul(mean, mean)
        variance = Sub(moment, square)
        added = Add(variance, epsilon32)
        root = Sqrt(added)
        inverse = Div(one32, root)
        spread = Greater(variance, zero32)
        factor = Where(spread, inverse, one32)
        distance = Sub(rows, mean)
        normal = Mul(distance, factor)
        size = Shape(image)
        whole = Reshape(normal, size)
        last = Transpose<perm = [0, 2, 3, 1]>(whole)
        scaled = Mul(last, slope)
        moved = Add(scaled, height)
        gate = Sigmoid(moved)
        gated = Mul(moved, gate)
        y = Cast<to = {{low}}>({"gated" if said.get("activation") else "moved"})
        """
    return Steps(body, _GROUP_NORM, {"epsilon": 1e-5, "one": 1.0, "zero": 0.0}, "x, s, b")


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


def cuda_only(model: onnx.ModelProto) -> tuple[str, ...]:
    """The types of its operators that only CUDA has a kernel for, those in bodies left aside."""
    found = (node.op_type for node in model.graph.node if node.domain == "com.microsoft" and node.op_type in CUDA_ONLY)
    return tuple(sorted(set(found)))
