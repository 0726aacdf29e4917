"""Operators whose slots, attributes or kernels are special."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.models import W, weight
from tests.traps.building import IMAGE, KERNEL, Trap, X, Y, trap


def operators_traps() -> Iterator[Trap]:
    """All of this family, newly built."""
    for family in (_resizes, _normalizations, _quantized, _odd_ops, _contrib, _new_ops):
        yield from family()


def _resizes() -> Iterator[Trap]:
    """Scales and regions change slots and types with the opset."""
    signature = f"{IMAGE} => float[1,2,8,8] y"
    scales, region = "float[4] s = {1, 1, 2, 2}", "float[8] r = {0, 0, 0, 0, 1, 1, 1, 1}"
    body = "h = Conv(x, k) r = Upsample<scales = [1.0, 1.0, 2.0, 2.0]>(h) y = Conv(r, k)"
    yield trap("Upsample-7", signature, body, "Conv Upsample", weights=KERNEL, opset=7)
    body = "h = Conv(x, k) u = {}(h, s) y = Conv(u, k)"
    for op, opset in (("Upsample", 9), ("Resize", 10)):
        yield trap(f"{op}-{opset}", signature, body.format(op), "Conv", weights=f"{KERNEL}, {scales}", opset=opset)
    for opset in (11, 13, 18, 19, 24):
        body = 'h = Conv(x, k) u = Resize<mode = "linear">(h, r, s) y = Conv(u, k)'
        weights = f"{KERNEL}, {region}, {scales}"
        yield trap(f"Resize-{opset} with scales", signature, body, "Conv Resize", weights=weights, opset=opset)
        empty, weights = ("e, e", f"{KERNEL}, float[0] e = {{}}") if opset < 13 else (", ", KERNEL)
        body = f'h = Conv(x, k) u = Resize<mode = "nearest">(h, {empty}, z) y = Conv(u, k)'
        sizes = f"{weights}, int64[4] z = {{1, 2, 8, 8}}"
        yield trap(f"Resize-{opset} with sizes", signature, body, "Conv", weights=sizes, opset=opset)


def _normalizations() -> Iterator[Trap]:
    scale = "float[4] g = {1, 2, 0.5, 1}, float[4] b = {0.1, 0, 0.2, 0}"
    body = "h = MatMul(x, w) n, m, i = LayerNormalization(h, g, b) y = MatMul(n, w)"
    yield trap(
        "LayerNormalization with mean and deviation",
        f"{X} => {Y}, float[N,1] m, float[N,1] i",
        body,
        "MatMul LayerNormalization",
        weights=f"{W}, {scale}",
    )
    weights = f"{W}, {scale}, float two = {{2}}, float eps = {{1e-5}}, int64[1] a = {{-1}}"
    body = """h = MatMul(x, w) m = ReduceMean(h, a) d = Sub(h, m) p = Pow(d, two) v = ReduceMean(p, a) e = Add(v, eps)
    r = Sqrt(e) q = Div(d, r) s = Mul(q, g) n = Add(s, b) y = MatMul(n, w)"""
    yield trap("layer normalization in pieces", f"{X} => {Y}", body, weights=weights)
    yield trap(
        "layer normalization of the input in pieces",
        f"{X} => {Y}",
        body.replace("MatMul(x, w) m", "Relu(x) m"),
        weights=weights,
    )
    body = """h = MatMul(x, w) p = Pow(h, two) v = ReduceMean(p, a) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r)
    q = Mul(h, i) n = Mul(q, g) y = MatMul(n, w)"""
    yield trap("RMS normalization in pieces", f"{X} => {Y}", body, weights=weights)
    body = body.replace("h = MatMul(x, w) p", "h0 = MatMul(x, w) l = Cast<to = 10>(h0) h = Cast<to = 1>(l) p")
    yield trap("RMS normalization with casts of the model's own", f"{X} => {Y}", body, weights=weights)
    body = "h = MatMul(x, w) n = RMSNormalization(h, g) y = MatMul(n, w)"
    yield trap("RMSNormalization", f"{X} => {Y}", body, "MatMul RMSNormalization", weights=f"{W}, {scale}", opset=23)
    body = "h = Conv(x, k) n = BatchNormalization(h, s, s, s, s) y = Conv(n, k)"
    yield trap(
        "BatchNormalization",
        f"{IMAGE} => float[1,2,4,4] y",
        body,
        "Conv BatchNormalization",
        weights=f"{KERNEL}, float[2] s = {{1, 2}}",
    )
    body = """h = Conv(x, k) n = GroupNormalization<num_groups = 2>(h, s, s) i = InstanceNormalization(n, s, s)
    y = Conv(i, k)"""
    yield trap(
        "GroupNormalization",
        f"{IMAGE} => float[1,2,4,4] y",
        body,
        "Conv",
        weights=f"{KERNEL}, float[2] s = {{1, 2}}",
        opset=21,
    )
    yield trap(
        "MeanVarianceNormalization",
        f"{IMAGE} => float[1,2,4,4] y",
        "h = Conv(x, k) n = MeanVarianceNormalization(h) y = Conv(n, k)",
        "Conv",
        weights=KERNEL,
    )


def _quantized() -> Iterator[Trap]:
    weights = f"{W}, float s = {{0.05}}, uint8 z = {{128}}"
    body = "h = MatMul(x, w) q = QuantizeLinear(h, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w)"
    for opset in (10, 13, 19, 21, 23):
        yield trap(f"quantize and dequantize, opset {opset}", f"{X} => {Y}", body, weights=weights, opset=opset)
    body = """h = Conv(x, k) q = QuantizeLinear(h, s, z) c = QLinearConv(q, s, z, v, s, z, s, z)
    d = DequantizeLinear(c, s, z) y = Conv(d, k)"""
    quantized = f"{KERNEL}, uint8[2,2,1,1] v = {{130, 120, 128, 140}}, float s = {{0.05}}, uint8 z = {{128}}"
    yield trap("QLinearConv", f"{IMAGE} => float[1,2,4,4] y", body, "Conv", weights=quantized)
    body = "h = MatMul(x, w) q, s2, z2 = DynamicQuantizeLinear(h) d = DequantizeLinear(q, s2, z2) y = MatMul(d, w)"
    yield trap("DynamicQuantizeLinear", f"{X} => {Y}", body)
    body = "v = DequantizeLinear<axis = 1>(u, s, z) h = MatMul(x, v) r = Relu(h) y = MatMul(r, v)"
    stored = (
        "int8[4,4] u = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] s = {0.1,0.2,0.1,0.05}, int8[4] z = {0,0,0,0}"
    )
    yield trap("weights stored as integers", f"{X} => {Y}", body, weights=stored)


def _odd_ops() -> Iterator[Trap]:
    boxes = "float[1,3,4] b, float[1,1,3] s => int64[M,3] y, float[3,3] z"
    body = "t = Squeeze(b, a) h = MatMul(t, u) y = NonMaxSuppression(b, s, n, iou) z = Relu(h)"
    weights = f"{weight('u', 4, 3)}, int64[1] a = {{0}}, int64 n = {{2}}, float iou = {{0.5}}"
    given = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 10, 1, 11]]], np.float32)
    feeds = {"b": given, "s": np.array([[[0.9, 0.75, 0.6]]], np.float32)}
    yield trap("NonMaxSuppression", boxes, body, weights=weights, feeds=feeds)
    body = "h = Conv(x, k) y = RoiAlign<output_height = 2, output_width = 2>(h, r, i)"
    weights = f"{KERNEL}, float[1,4] r = {{0.5, 0.5, 3.0, 3.0}}, int64[1] i = {{0}}"
    yield trap("RoiAlign", f"{IMAGE} => float[1,2,2,2] y", body, "Conv", weights=weights)
    grid = "g = GridSample(h, p) y = Conv(g, k)"
    yield trap(
        "GridSample", f"{IMAGE}, float[1,4,4,2] p => float[1,2,4,4] y", f"h = Conv(x, k) {grid}", "Conv", weights=KERNEL
    )
    body = 'h = MatMul(x, w) e = Einsum<equation = "ij,jk->ik">(h, w) y = MatMul(e, w)'
    yield trap("Einsum", f"{X} => {Y}", body, "MatMul Einsum")
    body = "h = Conv(x, k) p, i = MaxPool<kernel_shape = [2, 2]>(h) y = Conv(p, k)"
    yield trap("MaxPool with indices", f"{IMAGE} => float[1,2,3,3] y, int64[1,2,3,3] i", body, "Conv", weights=KERNEL)
    body = "h = MatMul(x, w) p = Pow(h, e) q = Mod<fmod = 1>(p, m) r = CumSum(q, a) y = MatMul(r, w)"
    yield trap(
        "Pow, Mod and CumSum", f"{X} => {Y}", body, weights=f"{W}, int64 e = {{2}}, float m = {{3}}, int64 a = {{1}}"
    )
    body = "h = MatMul(x, w) k = IsNaN(h) n = IsInf(h) o = Or(k, n) z = Where(o, x, h) u = NonZero(o) y = MatMul(z, w)"
    yield trap("IsNaN and IsInf", f"{X} => {Y}, int64[2,M] u", body)
    body = """h = MatMul(x, w) b = BitCast<to = 6>(h) c = BitCast<to = 1>(b) y = MatMul(c, w)"""
    yield trap("BitCast", f"{X} => {Y}", body, opset=26, ir=13, runs=False)
    trees = """h = MatMul(x, w) t = ai.onnx.ml.TreeEnsembleRegressor<n_targets = 1, nodes_treeids = [0, 0, 0],
    nodes_nodeids = [0, 1, 2], nodes_featureids = [1, 0, 0], nodes_values = [0.123456, 0.0, 0.0],
    nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF"], nodes_truenodeids = [1, 0, 0], nodes_falsenodeids = [2, 0, 0],
    target_treeids = [0, 0], target_nodeids = [1, 2], target_ids = [0, 0], target_weights = [1.5, -2.5]>(h)
    y = Add(t, h)"""
    yield trap("a tree ensemble", f"{X} => {Y}", trees, ai_onnx_ml=3)
    body = """h = MatMul(x, w) z = ai.onnx.ml.Scaler<offset = [0.5], scale = [2.0]>(h)
    n = ai.onnx.ml.Normalizer<norm = "L2">(z) l = ai.onnx.ml.ArrayFeatureExtractor(n, i) y = Add(l, h)"""
    yield trap("classical operators", f"{X} => {Y}", body, weights=f"{W}, int64[1] i = {{2}}", ai_onnx_ml=3)


def _contrib() -> Iterator[Trap]:
    body = (
        "h = MatMul(x, w) a = com.microsoft.Gelu(h) f = com.microsoft.FusedMatMul<alpha = 0.5>(a, w) y = MatMul(f, w)"
    )
    yield trap("contrib ops", f"{X} => {Y}", body, "MatMul com.microsoft.Gelu", com_microsoft=1)
    body = """h = MatMul(x, w) n, m, i, s = com.microsoft.SkipLayerNormalization(h, x, g, b) a = Relu(n)
    q = com.microsoft.QuickGelu(s) t = Add(a, q) y = MatMul(t, w)"""
    scale = f"{W}, float[4] g = {{1, 2, 0.5, 1}}, float[4] b = {{0.1, 0, 0.2, 0}}"
    made = trap("SkipLayerNormalization", "float[1,N,4] x => float[1,N,4] y", body, weights=scale, com_microsoft=1)
    node = next(node for node in made.model.graph.node if node.op_type == "SkipLayerNormalization")
    node.output[1] = node.output[2] = ""
    yield made
    body = "h = MatMul(x, w) n = SimplifiedLayerNormalization<axis = -1, epsilon = 0.00001>(h, g) y = MatMul(n, w)"
    yield trap("SimplifiedLayerNormalization", f"{X} => {Y}", body, weights=scale, opset=17, ir=8)
    body = """h = MatMul(x, w) g1 = com.microsoft.Gelu(h) s = SequenceConstruct(g1, g1) e = SequenceAt(s, i)
    o = Optional(e) q = OptionalGetElement(o) y = MatMul(q, w)"""
    yield trap("sequences after contrib ops", f"{X} => {Y}", body, weights=f"{W}, int64 i = {{1}}", com_microsoft=1)
    then = "t () => (float[N,4] a) { p = com.microsoft.Gelu(h) a = MatMul(p, w) }"
    other = "e () => (float[N,4] b) { b = com.microsoft.QuickGelu(h) }"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {then}, else_branch = {other}> y = MatMul(o, w)"
    yield trap("contrib ops in branches", f"{X}, bool c => {Y}", body, com_microsoft=1)


def _new_ops() -> Iterator[Trap]:
    body = """q = MatMul(x, w) a = Attention<q_num_heads = 2, kv_num_heads = 2>(q, q, q, m)
    r = RMSNormalization(a, g) y = MatMul(r, w)"""
    weights = f"{W}, float[3,3] m = {{0, -10000, -10000, 0, 0, -10000, 0, 0, 0}}, float[4] g = {{1, 1, 1, 1}}"
    yield trap("Attention", "float[1,3,4] x => float[1,3,4] y", body, weights=weights, opset=23)
    body = "h = MatMul(x, w) g = Gelu(h) s = Swish(g) y = MatMul(s, w)"
    yield trap("Swish", f"{X} => {Y}", body, opset=24, ir=11)
