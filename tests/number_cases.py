"""Numbers that go wrong in float16 without any data to show it: small graphs as they occur in real models.

Each graph has matrix products or convolutions beside the trap (a product with `w` is written once and made five times),
so that low precision is really near, under `speed` too. Every case must give float32's answers in true float16, under
every objective, by what the rules say in general.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, parser

LOWEST = float(np.finfo(np.float32).min)
_WIDTH, _BATCH = 64, 2**20
_PRODUCT = re.compile(r"(\w+) = MatMul\((\w+), w\)")
_PRODUCTS = r"\1a = MatMul(\2, w) \1b = MatMul(\1a, w) \1c = MatMul(\1b, w) \1d = MatMul(\1c, w) \1 = MatMul(\1d, w)"


@dataclass(frozen=True)
class NumberCase:
    """A float32 model with inputs; `bar` is the relative L2 error that its true float16 conversion may have.

    `shapes` are for planning: a batch so large that low precision pays, which makes `speed` choose it.
    """

    name: str
    model: onnx.ModelProto
    feeds: Mapping[str, np.ndarray[Any, Any]]
    shapes: Mapping[str, tuple[int, ...]]
    bar: float = 1e-2


def number_cases() -> tuple[NumberCase, ...]:
    """All of them, newly built."""
    families = (
        _layer_norms, _channels, _rms_norms, _epsilons, _masks, _large_constants, _positions, _counts, _sums, _logits,
        _tiny, _trees,
    )  # fmt: skip
    return tuple(case for family in families for case in family())


def _random(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def _case(
    name: str,
    signature: str,
    body: str,
    feeds: Mapping[str, Any],
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    bar: float = 1e-2,
) -> NumberCase:
    body = _PRODUCT.sub(_PRODUCTS, body)
    domains = f'"" : {opset}, "com.microsoft" : 1, "ai.onnx.ml" : 3'
    model = parser.parse_model(f"<ir_version: 8, opset_import: [{domains}]> g {signature} {{ {body} }}")
    for key, value in {"w": _random(_WIDTH, _WIDTH, scale=0.125, seed=9), **(weights or {})}.items():
        if key in {name for node in _nodes(model.graph) for name in node.input}:
            array = np.asarray(value)
            stored = array.astype(np.float32) if array.dtype == np.float64 else array
            model.graph.initializer.append(numpy_helper.from_array(stored, key))
    onnx.checker.check_model(model, full_check=True)
    return NumberCase(name, model, {key: np.asarray(value) for key, value in feeds.items()}, _planned(model), bar)


def _planned(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    shapes = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    return {name: tuple(dim.dim_value or _BATCH for dim in dims) for name, dims in shapes.items()}


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


_X = "(float[N, 64] x) => (float[N, 64] y)"


def _layer_norms() -> Iterator[NumberCase]:
    """|x| near 600: its squares are beyond float16, its normalized value is not."""
    feeds = {"x": _random(8, _WIDTH, scale=600)}
    weights = {"two": 2.0, "eps": 1e-5, "g": _random(_WIDTH, seed=1), "b": _random(_WIDTH, seed=2)}
    squares = {"pow": "Pow(d, two)", "mul": "Mul(d, d)"}
    ends = {"div": "s = Sqrt(ve) n = Div(d, s)", "reciprocal": "s = Sqrt(ve) r = Reciprocal(s) n = Mul(d, r)"}
    for (square, squared), (end, ended) in ((s, e) for s in squares.items() for e in ends.items()):
        core = f"""m = ReduceMean<axes = [-1]>(h) d = Sub(h, m) q = {squared} v = ReduceMean<axes = [-1]>(q)
            ve = Add(v, eps) {ended} ng = Mul(n, g) z = Add(ng, b)"""
        yield _case(
            f"layer norm of an input, {square} {end}", _X, f"h = Identity(x) {core} y = MatMul(z, w)", feeds, weights
        )
        yield _case(
            f"layer norm of a product, {square} {end}", _X, f"h = MatMul(x, w) {core} y = MatMul(z, w)", feeds, weights
        )
    body = """h = MatMul(x, w) r = Add(h, x) m = ReduceMean<axes = [-1]>(r) d = Sub(r, m) q = Mul(d, d)
        v = ReduceMean<axes = [-1]>(q) ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s) y = MatMul(n, w)"""
    yield _case("layer norm of a residual sum", _X, body, feeds, weights)
    body = "h = MatMul(x, w) n = LayerNormalization(h, g, b) y = MatMul(n, w)"
    yield _case("LayerNormalization", _X, body, feeds, weights)
    body = """h = MatMul(x, w) m = ReduceMean(h, last) d = Sub(h, m) q = Mul(d, d) v = ReduceMean(q, last)
        ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s) y = MatMul(n, w)"""
    yield _case("layer norm at opset 18", _X, body, feeds, {**weights, "last": np.array([-1])}, opset=18)
    image = "(float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y)"
    body = """h = Conv<kernel_shape = [1, 1]>(x, k) m = ReduceMean<axes = [2, 3]>(h) d = Sub(h, m) q = Mul(d, d)
        v = ReduceMean<axes = [2, 3]>(q) ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s)
        y = Conv<kernel_shape = [1, 1]>(n, k)"""
    kernel = _random(16, 16, 1, 1, scale=0.25, seed=3)
    yield _case(
        "instance norm of a convolution", image, body, {"x": _random(2, 16, 8, 8, scale=600)}, {**weights, "k": kernel}
    )


def _channels() -> Iterator[NumberCase]:
    """Statistics over the pixels of an image, whose sums and variances leave float16 where the pixels do not."""
    image = "(float[N, 16, 32, 32] x) => (float[N, 16, 32, 32] y)"
    weights = {
        "k": _random(16, 16, 1, 1, scale=0.25, seed=3), "s": _random(16, seed=4), "b": _random(16, seed=5),
        "over": 0.01,
    }  # fmt: skip
    conv, gate = "h = Conv<kernel_shape = [1, 1]>(x, k)", "t = Mul(m, over) g = Sigmoid(t) n = Mul(h, g)"
    bodies = {
        "InstanceNormalization": "n = InstanceNormalization(h, s, b)",
        "a mean over pixels": f"p = Abs(h) m = ReduceMean<axes = [2, 3]>(p) {gate}",
        "global pooling": f"p = Abs(h) m = GlobalAveragePool(p) {gate}",
    }
    feeds = {"x": _random(2, 16, 32, 32, scale=600)}
    for name, core in bodies.items():
        body = f"{conv} {core} y = Conv<kernel_shape = [1, 1]>(n, k)"
        yield _case(f"{name} of a convolution of 600", image, body, feeds, weights)


def _rms_norms() -> Iterator[NumberCase]:
    """x near 300: its square is 90,000."""
    feeds = {"x": _random(8, _WIDTH, scale=300)}
    weights = {"two": 2.0, "half": -0.5, "one": 1.0, "eps": 1e-6, "g": 1 + _random(_WIDTH, scale=0.1)}
    ends = {
        "div": "s = Sqrt(ve) n = Div(h, s)",
        "one over": "s = Sqrt(ve) r = Div(one, s) n = Mul(h, r)",
        "reciprocal": "s = Sqrt(ve) r = Reciprocal(s) n = Mul(h, r)",
        "pow": "r = Pow(ve, half) n = Mul(h, r)",
    }
    for end, ended in ends.items():
        body = f"""h = MatMul(x, w) q = Pow(h, two) v = ReduceMean<axes = [-1]>(q) ve = Add(v, eps) {ended}
            ng = Mul(n, g) y = MatMul(ng, w)"""
        yield _case(f"rms norm, {end}", _X, body, feeds, weights)
    body = "h = MatMul(x, w) n = RMSNormalization(h, g) y = MatMul(n, w)"
    yield _case("RMSNormalization", _X, body, feeds, weights, opset=23)
    body = "h = MatMul(x, w) n = com.microsoft.SkipSimplifiedLayerNormalization(h, x, g) y = MatMul(n, w)"
    yield _case("SkipSimplifiedLayerNormalization", _X, body, feeds, weights)
    body = "h = MatMul(x, w) q = Mul(h, h) t = ReduceSum(q, last) s = Sqrt(t) n = Div(h, s) y = MatMul(n, w)"
    yield _case("unit vectors by a sum of squares", _X, body, feeds, {"last": np.array([-1])})
    body = "h = MatMul(x, w) s = ReduceL2<axes = [-1]>(h) n = Div(h, s) y = MatMul(n, w)"
    yield _case("unit vectors by ReduceL2", _X, body, {"x": _random(8, _WIDTH, scale=12_000)})


def _epsilons() -> Iterator[NumberCase]:
    """1e-12 is zero in float16; rows of zeros (padding) and rows of tiny numbers show it."""
    x = _random(8, _WIDTH)
    x[:3] = 0
    x[3] *= 1e-4
    feeds = {"x": x}
    weights = {"eps": 1e-12, "eps9": 1e-9, "zero": 0.0, "last": np.array([-1])}
    roots = {
        "under a root": "q = Mul(h, h) v = ReduceMean<axes = [-1]>(q) e = Add(v, eps) s = Sqrt(e) n = Div(h, s)",
        "under a root of a maximum": "q = Mul(h, h) v = ReduceSum(q, last) e = Max(v, eps) r = Sqrt(e) n = Div(h, r)",
        "in a divisor": "s = ReduceL2<axes = [-1]>(h) e = Add(s, eps) n = Div(h, e)",
        "in a divisor after a maximum": "s = ReduceL2<axes = [-1]>(h) e = Max(s, eps) n = Div(h, e)",
        "in a divisor after a clip": "s = ReduceL2<axes = [-1]>(h) e = Clip(s, eps) n = Div(h, e)",
        "in a divisor of absolute values": "a = Abs(h) s = ReduceSum(a, last) e = Add(s, eps9) n = Div(h, e)",
        "in a reciprocal": "s = ReduceL2<axes = [-1]>(h) e = Add(s, eps) r = Reciprocal(e) n = Mul(h, r)",
    }
    for name, core in roots.items():
        yield _case(f"epsilon {name}", _X, f"h = MatMul(x, w) {core} y = MatMul(n, w)", feeds, weights)
    body = "h = MatMul(x, w) q = Mul(h, h) e = Add(q, eps) l = Log(e) y = MatMul(l, w)"
    yield _case("epsilon in a logarithm", _X, body, feeds, weights)
    mean = """(float[N, 64] x, float[N, 1] m) => (float[N, 64] y)"""
    body = """h = MatMul(x, w) k = Mul(h, m) c = ReduceSum(m, first) e = Clip(c, eps9) t = ReduceSum(k, first)
        n = Div(t, e) o = Add(n, h) y = MatMul(o, w)"""
    masked = {"x": _random(8, _WIDTH), "m": np.zeros((8, 1), np.float32)}
    yield _case("masked mean of nothing", mean, body, masked, {**weights, "first": np.array([0])})


def _masks() -> Iterator[NumberCase]:
    """Attention with additive masks: float32's lowest becomes -infinity in float16, and a row of it NaN."""
    signature = "(float[N, 16, 64] x, float[N, 1, 16] m) => (float[N, 16, 64] y)"
    keep = np.ones((2, 1, 16), np.float32)
    keep[0, :, 10:] = 0
    keep[1] = 0  # nothing is left to attend to
    partly = keep.copy()
    partly[1, :, :5] = 1
    x = _random(2, 16, _WIDTH)
    start = "q = MatMul(x, w) k = MatMul(x, w2) kt = Transpose<perm = [0, 2, 1]>(k) r = MatMul(q, kt) s = Div(r, root)"
    end = "v = MatMul(x, w) y = MatMul(p, v)"
    shared = {"w2": _random(_WIDTH, _WIDTH, scale=0.125, seed=4), "root": 8.0, "one": 1.0, "zero": 0.0}
    lows = {"float32's lowest": LOWEST, "-1e9": -1e9, "-infinity": -np.inf}
    for (name, low), mask in ((item, mask) for item in lows.items() for mask in ("all", "part")):
        if low == -np.inf and mask == "all":
            continue
        given = {"x": x, "m": keep if mask == "all" else partly}
        covered = "a row fully masked" if mask == "all" else "rows partly masked"
        weights = {**shared, "low": low}
        if low != -np.inf:
            body = f"{start} i = Sub(one, m) a = Mul(i, low) t = Add(s, a) p = Softmax(t) {end}"
            yield _case(f"mask by {name} times one minus it, {covered}", signature, body, given, weights)
        body = f"{start} b = Cast<to = 9>(m) t = Where(b, s, low) p = Softmax(t) {end}"
        yield _case(f"mask by Where and {name}, {covered}", signature, body, given, weights)
        body = f"{start} b = Cast<to = 9>(m) a = Where(b, zero, low) t = Add(s, a) p = Softmax(t) {end}"
        yield _case(f"mask by Where, then Add of {name}, {covered}", signature, body, given, weights)
    body = f"""{start} b = Cast<to = 9>(m) t = Where(b, s, low) p0 = Softmax(t) n = IsNaN(p0)
        p = Where(n, zero, p0) {end}"""
    given = {"x": x, "m": keep}
    yield _case("mask by -infinity, NaN set to zero", signature, body, given, {**shared, "low": -np.inf})
    causal = np.where(np.tri(16, dtype=bool), 0, LOWEST)
    body = f"{start} t = Add(s, c) p = Softmax(t) {end} u = Identity(m)"
    outputs = "(float[N, 16, 64] x, float[N, 1, 16] m) => (float[N, 16, 64] y, float[N, 1, 16] u)"
    yield _case("causal mask as a constant", outputs, body, given, {**shared, "c": causal})
    body = f"{start} i = Sub(one, m) a = Mul(i, low) ac = Add(a, c) t = Add(s, ac) p = Softmax(t) {end}"
    given = {"x": x, "m": partly}
    yield _case("causal and padding masks added up", signature, body, given, {**shared, "c": causal, "low": LOWEST})


def _large_constants() -> Iterator[NumberCase]:
    """20,000 fits float16; what it is multiplied with or added to may not."""
    feeds = {"x": _random(8, _WIDTH, scale=5)}
    weights = {"big": 20_000.0, "half": 0.5}
    bodies = {
        "multiplied, then divided by": "a = Mul(h, big) b = Tanh(h) c = Div(a, big) z = Add(b, c)",
        "added, then subtracted": "a = Add(h, big) z = Sub(a, big)",
        "multiplied, then through a root": "a = Abs(h) b = Mul(a, big) z = Sqrt(b)",
        "multiplied, then squashed": "a = Mul(h, big) b = Div(a, big) z = Sigmoid(b)",
        "as a divisor of a product": "a = Mul(h, big) b = Mul(h, a) z = Div(b, big)",
        "as an upper bound": "a = Mul(h, big) b = Clip(a, half, big) z = Div(b, big)",
    }
    for name, core in bodies.items():
        body = f"h = MatMul(x, w) {core} y = MatMul(z, w)"
        yield _case(f"20,000 {name}", _X, body, feeds, weights, bar=2e-2)
    frequencies = 20_000.0 ** -(np.arange(32) / 32)
    body = "a = MatMul(p, f) s = Sin(a) c = Cos(a) e = Concat<axis = 1>(s, c) h = Add(x, e) y = MatMul(h, w)"
    positions = {"x": _random(8, _WIDTH), "p": np.arange(3000, 3008, dtype=np.float32)[:, None]}
    signature = "(float[N, 64] x, float[N, 1] p) => (float[N, 64] y)"
    yield _case("20,000 as the base of frequencies", signature, body, positions, {"f": frequencies[None]})


def _positions() -> Iterator[NumberCase]:
    """Float arithmetic on positions above 2,048, where float16 no longer counts."""
    length = 3001
    signature = "(float[3001, 64] x) => (float[3001, 64] y)"
    feeds = {"x": _random(length, _WIDTH)}
    scalars = {"start": np.array(0), "one": np.array(1), "axis": np.array([1]), "third": 1 / 3, "zero": 0.0}
    weights = {**scalars, "f": (10_000.0 ** -(np.arange(32) / 32))[None], "table": _random(length, _WIDTH, seed=5)}
    ranged = "n = Shape<start = 0, end = 1>(x) sq = Squeeze(n) r = Range(start, sq, one)"
    body = f"""h = MatMul(x, w) {ranged} p = Cast<to = 1>(r) u = Unsqueeze(p, axis) a = Mul(u, f) s = Sin(a) c = Cos(a)
        e = Concat<axis = 1>(s, c) z = Mul(h, e) y = MatMul(z, w)"""
    yield _case("sines of positions", signature, body, feeds, weights)
    body = f"""h = MatMul(x, w) {ranged} p = Cast<to = 1>(r) u = Unsqueeze(p, axis) a = MatMul(u, f) s = Sin(a)
        c = Cos(a) e = Concat<axis = 1>(s, c) z = Mul(h, e) y = MatMul(z, w)"""
    yield _case("sines of positions by a matrix product", signature, body, feeds, weights)
    body = f"""h = MatMul(x, w) {ranged} p = Cast<to = 1>(r) t = Mul(p, third) d = Floor(t) i = Cast<to = 7>(d)
        e = Gather<axis = 0>(table, i) z = Add(h, e) y = MatMul(z, w)"""
    yield _case("positions scaled, floored and looked up", signature, body, feeds, weights)
    body = f"""h = MatMul(x, w) {ranged} p = Cast<to = 1>(r) u = Unsqueeze(p, axis) v = Unsqueeze(p, start0)
        near = Slice(v, start0, end8, axis) d = Sub(u, near) a = Abs(d) b = Neg(a) l = Mul(b, slope) q = MatMul(h, w8)
        t = Add(q, l) s = Softmax(t) o = MatMul(s, v8) y = MatMul(o, w)"""
    extra = {
        "start0": np.array([0]), "end8": np.array([8]), "slope": 0.01, "w8": _random(_WIDTH, 8, seed=6),
        "v8": _random(8, _WIDTH, seed=7),
    }  # fmt: skip
    yield _case("distances between positions as a bias", signature, body, feeds, {**weights, **extra})
    signature = "(float[N, 64] x, float[N] when) => (float[N, 64] y)"
    body = """h = MatMul(x, w) p = Add(when, half) i = Cast<to = 7>(p) e = Gather<axis = 0>(table, i) z = Add(h, e)
        y = MatMul(z, w)"""
    given = {"x": _random(8, _WIDTH), "when": np.array([2049, 2051, 2100, 2101, 2500, 2501, 2999, 3000], np.float32)}
    yield _case("positions as a float input", signature, body, given, {**weights, "half": 0.5})


def _counts() -> Iterator[NumberCase]:
    """Token counts above 2,048."""
    length = 4099
    x = _random(1, length, _WIDTH)
    mask = np.ones((1, length), np.int64)
    mask[:, 4001:] = 0
    signature = "(float[1, 4099, 64] x, int64[1, 4099] m) => (float[1, 64] y)"
    feeds = {"x": x, "m": mask}
    weights = {
        "one": np.array([1]), "last": np.array([-1]), "unit": 1.0, "offset": _random(_WIDTH, seed=8),
        "table": _random(length, _WIDTH, seed=5), "flat": np.array([1, 64]),
    }  # fmt: skip
    body = """h = MatMul(x, w) f = Cast<to = 1>(m) u = Unsqueeze(f, last) k = Mul(h, u) o = Add(k, offset)
        t = ReduceSum<keepdims = 0>(o, one) n = ReduceSum(f, one) a = Div(t, n) y = MatMul(a, w)"""
    yield _case("mean over 4,001 tokens", signature, body, feeds, weights)
    body = """h = MatMul(x, w) f = Cast<to = 1>(m) n = ReduceSum<keepdims = 0>(f, one) l = Sub(n, unit)
        i = Cast<to = 7>(l) e = Gather<axis = 1>(h, i) r = Reshape(e, flat) y = MatMul(r, w)"""
    yield _case("the last of 4,001 tokens", signature, body, feeds, weights)
    body = """f = Cast<to = 1>(m) n = ReduceSum<keepdims = 0>(f, one) q = Div(n, eight) c = Floor(q) r = Mul(c, eight)
        rest = Sub(n, r) h = MatMul(x, w) e = ReduceMean<axes = [1], keepdims = 0>(h) z = Add(e, rest)
        y = MatMul(z, w)"""
    yield _case("the remainder of a token count", signature, body, feeds, {**weights, "eight": 8.0})
    signature = "(float[1, 4099, 64] x, int64[1, 4099] m) => (float[1, 4099, 64] y)"
    body = """h = MatMul(x, w) f = Cast<to = 1>(m) n = CumSum(f, at) l = Sub(n, unit) i = Cast<to = 7>(l)
        e = Gather<axis = 0>(table, i) z = Add(h, e) y = MatMul(z, w)"""
    yield _case("position ids counted from a mask", signature, body, feeds, {**weights, "at": np.array(1)})


def _sums() -> Iterator[NumberCase]:
    """100,000 ones: beyond float16, and beyond what it can count."""
    signature = "(float[N, 64] x, float[100000] ones) => (float[N, 64] y, float s)"
    feeds = {"x": _random(8, _WIDTH), "ones": np.ones(100_000, np.float32)}
    weights = {"n": 100_000.0, "shape": np.array([100_000]), "zero": np.array([0])}
    bodies = {
        "ReduceSum": "s = ReduceSum<keepdims = 0>(ones)",
        "ReduceSum, then a mean": "t = ReduceSum<keepdims = 0>(ones) s = Div(t, n)",
        "ReduceMean": "s = ReduceMean<keepdims = 0>(ones)",
        "ReduceL1": "s = ReduceL1<keepdims = 0>(ones)",
        "ReduceSumSquare": "s = ReduceSumSquare<keepdims = 0>(ones)",
        "activations": "a = Sigmoid(ones) b = Relu(a) s = ReduceSum<keepdims = 0>(b)",
        "a filled constant": "f = ConstantOfShape<value = float[1] {1}>(shape) s = ReduceSum<keepdims = 0>(f)",
        "an expanded scalar": "e = Expand(n, shape) d = Div(e, n) s = ReduceSum<keepdims = 0>(d)",
        "a running sum": "c = CumSum(ones, first) s = ReduceMax<keepdims = 0>(c)",
    }
    for name, core in bodies.items():
        body = (
            f"h = MatMul(x, w) {core} z = Mul(h, s) y = MatMul(z, w)"
            if "mean" in name.lower()
            else f"{core} y = MatMul(x, w)"
        )
        yield _case(f"100,000 ones by {name}", signature, body, feeds, {**weights, "first": np.array(0)})


def _logits() -> Iterator[NumberCase]:
    """Softmax of logits near 60,000, where float16 steps by 32."""
    logits = (60_000 + np.arange(64) / 8)[None] + _random(8, _WIDTH)
    feeds = {"x": logits.astype(np.float32)}
    body = "p = {op}(x) y = MatMul(p, w)"
    yield _case("softmax of logits of 60,000", _X, body.format(op="Softmax"), feeds)
    yield _case("log-softmax of logits of 60,000", _X, body.format(op="LogSoftmax"), feeds)
    body = """t = ReduceMax<axes = [-1]>(x) d = Sub(x, t) e = Exp(d) s = ReduceSum(e, last) p = Div(e, s)
        y = MatMul(p, w)"""
    yield _case("decomposed softmax of logits of 60,000", _X, body, feeds, {"last": np.array([-1])})
    body = "l = Mul(x, scale) p = Softmax(l) y = MatMul(p, w)"
    yield _case("softmax of logits scaled to 60,000", _X, body, {"x": feeds["x"] / 600}, {"scale": 600.0})
    body = "h = MatMul(x, w) l = Add(h, big) p = Softmax(l) y = MatMul(p, w)"
    yield _case("softmax of logits moved to 60,000", _X, body, {"x": _random(8, _WIDTH)}, {"big": 60_000.0}, bar=2e-2)
    body = "e = Identity(x) s = ReduceLogSumExp<axes = [-1]>(e) d = Sub(x, s) p = Exp(d) y = MatMul(p, w)"
    yield _case("softmax by log-sum-exp", _X, body, feeds)


def _tiny() -> Iterator[NumberCase]:
    """Weights below 6e-8 vanish in float16, and their signs with them."""
    feeds = {"x": _random(8, _WIDTH)}
    small = _random(_WIDTH, _WIDTH, scale=1e-8, seed=10)
    vector = _random(_WIDTH, scale=1e-8, seed=11)
    vector[np.abs(vector) < 2e-9] = 5e-9
    weights = {"v": small, "t": vector, "back": 1e8, "one": 1.0, "zero": 0.0}
    bodies = {
        "in a matrix product": "h = MatMul(x, v) z = Mul(h, back)",
        "in a multiplication": "g = MatMul(x, w) h = Mul(g, t) z = Mul(h, back)",
        "as a divisor": "g = MatMul(x, w) h = Div(g, t) z = Div(h, back)",
        "by their sign": "g = MatMul(x, w) s = Sign(t) z = Mul(g, s)",
        "by a comparison": "g = MatMul(x, w) b = Less(t, zero) n = Neg(g) z = Where(b, n, g)",
        "as a bias": "g = Gemm(x, v, t) z = Mul(g, back)",
        "under a reciprocal": "g = MatMul(x, w) r = Reciprocal(t) h = Mul(g, r) z = Div(h, back)",
    }
    for name, core in bodies.items():
        yield _case(f"weights of 1e-8 {name}", _X, f"{core} y = MatMul(z, w)", feeds, weights)
    image = "(float[N, 16, 8, 8] x) => (float[N, 16, 8, 8] y)"
    body = "h = Conv<kernel_shape = [1, 1]>(x, k) z = Mul(h, back) y = Conv<kernel_shape = [1, 1]>(z, k1)"
    kernels = {"k": _random(16, 16, 1, 1, scale=1e-8, seed=3), "k1": _random(16, 16, 1, 1, scale=0.25, seed=4)}
    yield _case("weights of 1e-8 in a convolution", image, body, {"x": _random(2, 16, 8, 8)}, {**weights, **kernels})


def _trees() -> Iterator[NumberCase]:
    """Thresholds that the features pass by less than float16 can tell."""
    signature = "(float[N, 64] x) => (float[N, 64] y, float[N, 1] score)"
    tree = """TreeEnsembleRegressor<
        nodes_treeids = [0, 0, 0], nodes_nodeids = [0, 1, 2], nodes_featureids = [0, 0, 0],
        nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values = [0.1, 0.0, 0.0], nodes_truenodeids = [1, 0, 0],
        nodes_falsenodeids = [2, 0, 0], target_treeids = [0, 0], target_nodeids = [1, 2], target_ids = [0, 0],
        target_weights = [-7.0, 3.0], n_targets = 1, post_transform = "NONE">"""
    x = _random(8, _WIDTH)
    x[:, 0] = 0.1 + np.array([-1, 1, -2, 2, -3, 3, -4, 4]) * 1e-6
    bodies = {
        "of an input": "score = ai.onnx.ml.{tree}(x)",
        "of a scaled input": "f = Mul(x, k) score = ai.onnx.ml.{tree}(f)",
    }
    for name, core in bodies.items():
        body = f"h = MatMul(x, w) {core.format(tree=tree)} z = Mul(h, score) y = MatMul(z, w)"
        given = x / 3 if "scaled" in name else x
        yield _case(f"tree ensemble {name}", signature, body, {"x": given.astype(np.float32)}, {"k": 3.0})
    body = """h = MatMul(x, w) b = Less(x, limit) n = Neg(h) z = Where(b, n, h) y = MatMul(z, w)
        f = Slice(x, s0, s1, axis) score = Identity(f)"""
    weights = {"limit": 0.1, "s0": np.array([0]), "s1": np.array([1]), "axis": np.array([1])}
    flat = np.broadcast_to(x[:, :1], (8, _WIDTH)).copy()
    yield _case("comparison with a threshold", signature, body, {"x": flat}, weights)
