"""Single low-precision operators with inputs that cover what they may meet, to hold the CPU evaluator against a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import parser

Array = np.ndarray[Any, Any]

_UNARY = (
    "Abs", "Neg", "Floor", "Ceil", "Round", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Sin", "Cos", "Sigmoid", "Tanh",
    "Softplus", "Softsign", "Relu", "LeakyRelu", "Elu", "Selu", "ThresholdedRelu", "HardSigmoid", "HardSwish",
    "Mish", "Identity", "Sign",
)  # fmt: skip
_FORMS = {
    "Gelu": "y = Gelu(x)",
    "Gelu tanh": 'y = Gelu<approximate = "tanh">(x)',
    "com.microsoft.Gelu": "y = com.microsoft.Gelu(x)",
    "com.microsoft.FastGelu": "y = com.microsoft.FastGelu(x)",
    "com.microsoft.QuickGelu": "y = com.microsoft.QuickGelu(x)",
    "Clip": "l = Constant<value = float {-3}>() h = Constant<value = float {6}>() a = Cast<to = 10>(l) "
    "b = Cast<to = 10>(h) y = Clip(x, a, b)",
}
_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu")
_REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
    "ReduceMax", "ReduceMin", "ReduceProd",
)  # fmt: skip
_HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>'


@dataclass(frozen=True)
class Probe:
    """A model of one operator between float16 inputs and float16 outputs."""

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, Array]


def probes() -> tuple[Probe, ...]:
    """Every probe."""
    return (*_elementwise(), *_reductions(), *_normalizations(), *_products(), *_images(), *_recurrent(), *_attention())


def _probe(name: str, body: str, opset: int = 20, **feeds: Array) -> Probe:
    inputs = ", ".join(f"{_spelled(value)}[{', '.join(map(str, value.shape))}] {key}" for key, value in feeds.items())
    model = parser.parse_model(f"{_HEADER.format(opset=opset)} g ({inputs}) => (float16[N] y) {{ {body} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")  # the runtime infers it
    return Probe(name, model, feeds)


def _spelled(value: Array) -> str:
    return {"float16": "float16", "float32": "float", "int64": "int64", "int32": "int32"}[value.dtype.name]


def _every_finite() -> Array:
    """All 63,488 finite float16 numbers."""
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return values[np.isfinite(values)]


def _normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float16)


def _elementwise() -> Iterator[Probe]:
    x = _every_finite()
    for name, body in {**{op: f"y = {op}(x)" for op in _UNARY}, **_FORMS}.items():
        yield _probe(name, body, x=x)
    shuffled = np.random.default_rng(0).permutation(x)
    for op in _BINARY:
        yield _probe(op, f"y = {op}(x, z)", opset=15 if op == "PRelu" else 20, x=x, z=shuffled)
    near = _normal(65_536)
    yield _probe("Sum of five", "y = Sum(x, a, b, c, d)", x=near, **{k: _normal(65_536, seed=ord(k)) for k in "abcd"})
    yield _probe("Mean of three", "y = Mean(x, a, b)", x=near, a=_normal(65_536, seed=1), b=_normal(65_536, seed=2))
    yield _probe(
        "com.microsoft.BiasGelu", "y = com.microsoft.BiasGelu(x, b)", x=_normal(64, 512, scale=3), b=_normal(512)
    )


def _reductions() -> Iterator[Probe]:
    for op in _REDUCTIONS:
        body = f"axes = Constant<value_ints = [-1]>() y = {op}<keepdims = 0>(x, axes)"
        positive = np.abs(_normal(64, 1024))
        yield _probe(f"{op} of 1,024", body, x=positive if "Log" in op else _normal(64, 1024))
        if op != "ReduceProd":
            yield _probe(f"{op} of large numbers", body, x=np.abs(_normal(64, 256, scale=300)))
        yield _probe(f"{op} over rows", body.replace("-1", "0"), x=positive)
    body = "axes = Constant<value_ints = [-1]>() y = ReduceSum(x, axes)"
    yield _probe("ReduceSum of 60,000 ones", body, x=np.ones((2, 60_000), np.float16))
    yield _probe("ReduceMean of 100,000 ones", body.replace("Sum", "Mean"), x=np.ones((2, 100_000), np.float16))
    body = "axis = Constant<value_int = -1>() y = CumSum(x, axis)"
    yield _probe("CumSum of 3,000 ones", body, x=np.ones((2, 3_000), np.float16))
    yield _probe("CumSum of 512", body, x=_normal(8, 512))
    for op in ("Softmax", "LogSoftmax"):
        for width, scale in ((64, 1.0), (1000, 10.0), (4096, 1000.0)):
            yield _probe(f"{op} of {width} at {scale:g}", f"y = {op}(x)", x=_normal(32, width, scale=scale))
    yield _probe("LpNormalization", "y = LpNormalization<p = 2>(x)", x=_normal(32, 512, scale=300))


def _normalizations() -> Iterator[Probe]:
    g, b = _normal(512, seed=1), _normal(512, seed=2)
    for scale in (1.0, 600.0, 1e-3):
        x = _normal(64, 512, scale=scale)
        yield _probe(f"LayerNormalization at {scale:g}", "y = LayerNormalization(x, g, b)", x=x, g=g, b=b)
        yield _probe(f"RMSNormalization at {scale:g}", "y = RMSNormalization(x, g)", opset=23, x=x, g=g)
        body = "y = com.microsoft.SkipLayerNormalization(x, r, g, b)"
        skipped = {"x": x[None], "r": _normal(1, 64, 512, scale=scale, seed=3), "g": g, "b": b}
        yield _probe(f"com.microsoft.SkipLayerNormalization at {scale:g}", body, **skipped)
    image, c = _normal(2, 32, 16, 16, scale=300), {"s": _normal(32, seed=4), "b": _normal(32, seed=5)}
    yield _probe("InstanceNormalization", "y = InstanceNormalization(x, s, b)", x=image, **c)
    stats = {"m": _normal(32, seed=6), "v": np.abs(_normal(32, seed=7)) + np.float16(0.1)}
    yield _probe("BatchNormalization", "y = BatchNormalization(x, s, b, m, v)", x=image, **c, **stats)
    yield _probe("LRN", "y = LRN<size = 5>(x)", x=_normal(2, 32, 16, 16, scale=10))


def _products() -> Iterator[Probe]:
    for inner in (64, 1024, 8192):
        left, right = _normal(64, inner), _normal(inner, 64, seed=1)
        yield _probe(f"MatMul of {inner}", "y = MatMul(x, w)", x=left, w=right)
    yield _probe("Gemm", "y = Gemm(x, w, c)", x=_normal(64, 1024), w=_normal(1024, 64, seed=1), c=_normal(64, seed=2))
    yield _probe("MatMul of one row", "y = MatMul(x, w)", x=_normal(1, 2048), w=_normal(2048, 64, seed=1))
    yield _probe("MatMul, batched", "y = MatMul(x, w)", x=_normal(8, 64, 256), w=_normal(8, 256, 64, seed=1))
    yield _probe(
        "MatMul that overflows", "y = MatMul(x, w)", x=_normal(64, 512, scale=60), w=_normal(512, 64, scale=60)
    )
    equation = 'y = Einsum<equation = "bhid,bhjd->bhij">(x, w)'
    yield _probe("Einsum", equation, x=_normal(2, 4, 32, 64), w=_normal(2, 4, 32, 64, seed=1))


def _images() -> Iterator[Probe]:
    x = _normal(2, 32, 28, 28)
    yield _probe("Conv 3x3", "y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w, b)", x=x,
                 w=_normal(64, 32, 3, 3, seed=1), b=_normal(64, seed=2))  # fmt: skip
    yield _probe("Conv 1x1", "y = Conv<kernel_shape = [1, 1]>(x, w)", x=x, w=_normal(64, 32, 1, 1, seed=1))
    yield _probe("Conv depthwise", "y = Conv<kernel_shape = [3, 3], group = 32, pads = [1, 1, 1, 1]>(x, w)", x=x,
                 w=_normal(32, 1, 3, 3, seed=1))  # fmt: skip
    yield _probe("ConvTranspose", "y = ConvTranspose<kernel_shape = [2, 2], strides = [2, 2]>(x, w)", x=x,
                 w=_normal(32, 16, 2, 2, seed=1))  # fmt: skip
    pool = "<kernel_shape = [3, 3], strides = [2, 2]>"
    yield _probe("AveragePool", f"y = AveragePool{pool}(x)", x=x)
    yield _probe("MaxPool", f"y = MaxPool{pool}(x)", x=x)
    yield _probe(
        "GlobalAveragePool", "y = GlobalAveragePool(x)", x=_normal(2, 32, 56, 56, scale=100) + np.float16(1000)
    )
    for mode in ("nearest", "linear", "cubic"):
        body = f's = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>() y = Resize<mode = "{mode}">(x, , s)'
        yield _probe(f"Resize {mode}", body, opset=18, x=x)


def _recurrent() -> Iterator[Probe]:
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        feeds = {
            "x": _normal(64, 4, 32), "w": _normal(1, gates * 64, 32, scale=0.2, seed=1),
            "r": _normal(1, gates * 64, 64, scale=0.12, seed=2),
        }  # fmt: skip
        yield _probe(f"{op} of 64 steps", f"y = {op}<hidden_size = 64>(x, w, r)", **feeds)


def _attention() -> Iterator[Probe]:
    q, k, v = (_normal(2, 64, 256, seed=seed) for seed in range(3))
    yield _probe(
        "com.microsoft.MultiHeadAttention",
        "y = com.microsoft.MultiHeadAttention<num_heads = 4>(q, k, v)",
        q=q,
        k=k,
        v=v,
    )
    yield _probe("Attention", "y = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v)", opset=23, q=q, k=k, v=v)
