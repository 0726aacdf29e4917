"""Operators of onnxruntime's CUDA provider, spelling by spelling: `python -m benchmarks.gpu_operators [--only WORDS]`.

Each case is a small float16 graph; its figure is the time of its kernels in one run, as CUPTI records them through
torch's profiler. What fusing prefers and what the cost model holds of an operator rests on these.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper, parser

from benchmarks.record import keep, table

_PLAIN = {"prefer_nhwc": "0", "fuse_conv_bias": "0"}
_LAST = {"prefer_nhwc": "1", "fuse_conv_bias": "0"}
_INSIDE = {"prefer_nhwc": "1", "fuse_conv_bias": "1"}
_MS = "com.microsoft"


@dataclass(frozen=True)
class Case:
    """A graph in ONNX's textual syntax, and how the CUDA provider is set up. Inputs named w... are constants."""

    title: str
    inputs: str
    body: str
    options: Mapping[str, str] = field(default_factory=lambda: _PLAIN)
    opset: int = 20

    def model(self) -> ModelProto:
        """The case as a model; its result is y."""
        text = f"g ({self.inputs}) => (y) {{ {self.body} }}"
        head = f'<ir_version: 10, opset_import: ["" : {self.opset}, "{_MS}" : 1]>'
        model = parser.parse_model(f"{head} {text}")
        generator = np.random.default_rng(0)
        for value in [each for each in model.graph.input if each.name.startswith("w")]:
            model.graph.initializer.append(numpy_helper.from_array(drawn(value, generator), value.name))
            model.graph.input.remove(value)
        model.graph.output[0].type.tensor_type.elem_type = model.graph.input[0].type.tensor_type.elem_type
        return model


def drawn(value: onnx.ValueInfoProto, generator: np.random.Generator) -> np.ndarray[Any, Any]:
    """Contents for an input: normal numbers, positions 0, 1, 2 ... for integers."""
    shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if np.issubdtype(dtype, np.integer):
        return np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape).copy()
    return (0.1 * generator.standard_normal(shape)).astype(dtype)


def _norms() -> list[Case]:
    """Layer normalization of rows, as itself and with a row of zeros to add."""
    cases = []
    for rows, width in ((100352, 96), (25088, 192), (6272, 384), (1568, 768), (6304, 768)):
        given = f"float16[{rows},1,{width}] x, float16[{width}] ws"
        zeros = f", float16[1,1,{width}] wz"
        skip = f"y = {_MS}.SkipLayerNormalization(x, wz, ws, ws)"
        cases.append(Case(f"LayerNormalization {rows} x {width}", given, "y = LayerNormalization(x, ws, ws)"))
        cases.append(Case(f"SkipLayerNormalization of a row {rows} x {width}", given + zeros, skip))
    return cases


def _rotaries() -> list[Case]:
    """Rotary embeddings of 16 heads of 64, over groups of heads."""
    cases = []
    for heads in (16, 4, 2, 1):
        half = 512 // heads
        given = f"float16[4,512,1024] x, int64[4,512] p, float16[512,{half}] wc, float16[512,{half}] ws"
        for name, interleaved in (("halves", 0), ("pairs", 1)):
            said = f"num_heads = {heads}, interleaved = {interleaved}"
            body = f"y = {_MS}.RotaryEmbedding<{said}>(x, p, wc, ws)"
            cases.append(Case(f"RotaryEmbedding of {name}, {heads} heads of {1024 // heads}", given, body))
    return cases


def _attentions() -> list[Case]:
    """Attention of a decoder, of windows, of images, with what makes its operands."""
    three = "float16[4,512,1024] q, float16[4,512,1024] k, float16[4,512,1024] v"
    heads = f"y = {_MS}.MultiHeadAttention<num_heads = 16"
    cases = [
        Case("attention of 512 tokens with a mask", f"{three}, float16[1,1,512,512] m", f"{heads}>(q, k, v, , , m)"),
        Case("attention of 512 tokens, causal", three, f"{heads}, unidirectional = 1>(q, k, v)"),
    ]
    for tokens in (49, 56, 64):
        given = ", ".join(f"float16[2048,{tokens},96] {name}" for name in "qkv")
        bias = f"float16[1,3,{tokens},{tokens}] wb"
        body = f"y = {_MS}.MultiHeadAttention<num_heads = 3>(q, k, v, , , wb)"
        cases.append(Case(f"attention of windows of {tokens} tokens with a bias", f"{given}, {bias}", body))
    apart = """s = MatMul(q, k)  b = Add(s, wb)  p = Softmax<axis = -1>(b)  y = MatMul(p, v)"""
    given = "float16[2048,3,49,32] q, float16[2048,3,32,49] k, float16[2048,3,49,32] v, float16[1,3,49,49] wb"
    cases.append(Case("attention of windows of 49 tokens in parts", given, apart))
    image = "float16[32,197,768] x"
    body = f"y = {_MS}.Attention<num_heads = 12>(x, wp, wb)"
    cases.append(Case("packed attention, 197 tokens", f"{image}, float16[768,2304] wp, float16[2304] wb", body))
    body = f"""q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
        y = {_MS}.MultiHeadAttention<num_heads = 12>(q, k, v)"""
    weights = ", ".join(f"float16[768,768] w{name}" for name in "qkv")
    return [*cases, Case("three projections and attention, 197 tokens", f"{image}, {weights}", body)]


def _windows() -> list[Case]:
    """A layer of attention in windows, 32 images of 56 x 56 tokens of 96: as exported, and between two gathers."""
    image, weights = "float16[32,56,56,96] x", "float16[96,288] wp, float16[288] wr, float16[96,96] wo, float16[96] wc"
    ints = {"r0": (-1, 8, 7, 8, 7, 96), "r1": (-1, 49, 96), "r2": (-1, 49, 3, 3, 32), "r3": (-1, 8, 8, 7, 7, 96)}
    ints |= {"r4": (-1, 56, 56, 96), "r5": (-1, 64, 3, 49, 49), "r6": (-1, 3, 49, 49)}
    ints |= {"z": (0,), "a": (1,), "b": (2,), "three": (3,), "last": (53,), "end": (56,)}
    shapes = "  ".join(f"{name} = Constant<value_ints = [{', '.join(map(str, of))}]>()" for name, of in ints.items())
    heads = "  ".join(f"i{place} = Constant<value_int = {place}>()" for place in range(3))
    parted = """p0 = Reshape(x1, r0)  p1 = Transpose<perm = [0, 1, 3, 2, 4, 5]>(p0)  p2 = Reshape(p1, r1)
        m0 = MatMul(p2, wp)  m1 = Add(m0, wr)  m2 = Reshape(m1, r2)  m3 = Transpose<perm = [2, 0, 3, 1, 4]>(m2)
        q = Gather<axis = 0>(m3, i0)  k = Gather<axis = 0>(m3, i1)  v = Gather<axis = 0>(m3, i2)
        kt = Transpose<perm = [0, 1, 3, 2]>(k)  s0 = MatMul(q, kt)  s1 = Add(s0, wb)"""
    rest = """s3 = Softmax<axis = -1>(s2)  o0 = MatMul(s3, v)  o1 = Transpose<perm = [0, 2, 1, 3]>(o0)
        o2 = Reshape(o1, r1)  o3 = MatMul(o2, wo)  o4 = Add(o3, wc)  o5 = Reshape(o4, r3)
        o6 = Transpose<perm = [0, 1, 3, 2, 4, 5]>(o5)  o7 = Reshape(o6, r4)"""
    mask = "t0 = Reshape(s1, r5)  t1 = Add(t0, wm)  s2 = Reshape(t1, r6)"
    plain = f"x1 = Identity(x)  {parted}  s2 = Identity(s1)  {rest}  y = Identity(o7)"
    shifted = f"{_rolled('x', 'x1', 'three')}  {parted}  {mask}  {rest}  {_rolled('o7', 'y', 'last')}"
    bias = "float16[1,3,49,49] wb"
    given = f"{image}, {weights}, {bias}"
    cases = [
        Case("layer of windows as exported", given, f"{shapes} {heads} {plain}"),
        Case(
            "layer of shifted windows as exported", f"{given}, float16[1,64,1,49,49] wm", f"{shapes} {heads} {shifted}"
        ),
    ]
    for tokens in (49, 56, 64):
        body = f"""s = Constant<value_ints = [-1, {tokens}, 96]>()
            back = Constant<value_ints = [-1, {64 * tokens}, 96]>()
            g = Gather<axis = 1>(x, wi)  q0 = MatMul(g, wo)  q1 = Add(q0, wc)  k0 = MatMul(g, wk)  v0 = MatMul(g, wv)
            q = Reshape(q1, s)  k = Reshape(k0, s)  v = Reshape(v0, s)
            h = {_MS}.MultiHeadAttention<num_heads = 3>(q, k, v, , , wb)  h1 = Reshape(h, back)
            h2 = Gather<axis = 1>(h1, wj)  h3 = MatMul(h2, wo)  y = Add(h3, wc)"""
        words = f"float16[96,96] wo, float16[96,96] wk, float16[96,96] wv, float16[96] wc, int64[{64 * tokens}] wi"
        for name, batch in (("one bias", 1), ("a bias for every window", 2048)):
            table = f"float16[{batch},3,{tokens},{tokens}] wb, int64[3136] wj"
            title = f"layer of windows of {tokens} between gathers, {name}"
            cases.append(Case(title, f"float16[32,{64 * tokens},96] x, {words}, {table}", body))
    return cases


def _rolled(source: str, result: str, by: str) -> str:
    """torch.roll along both axes of an image, as it is exported."""
    parts = []
    for axis, (before, after) in (("a", (source, f"{result}h")), ("b", (f"{result}h", result))):
        start, rest = f"{result}s{axis}", f"{result}e{axis}"
        parts.append(f"{start} = Slice({before}, z, {by}, {axis})  {rest} = Slice({before}, {by}, end, {axis})")
        parts.append(f"{after} = Concat<axis = {1 if axis == 'a' else 2}>({rest}, {start})")
    return "  ".join(parts)


def _convolutions() -> list[Case]:
    """Convolutions with their bias in every place, in either layout, at batch 32."""
    cases = []
    shapes = (
        (96, 96, 56, 7, 96),
        (384, 384, 14, 7, 384),
        (96, 96, 112, 3, 96),
        (3, 64, 224, 7, 1),
        (64, 256, 56, 1, 1),
    )
    for channels, made, side, kernel, group in (*shapes, (64, 64, 56, 3, 1), (1024, 256, 14, 1, 1)):
        given = f"float16[32,{channels},{side},{side}] x, float16[{made},{channels // group},{kernel},{kernel}] w"
        pads, size = f"pads = [{', '.join([str(kernel // 2)] * 4)}]", f"kernel_shape = [{kernel}, {kernel}]"
        convolution = f"Conv<group = {group}, {pads}, {size}>"
        name = f"convolution {channels} to {made}, {side} x {side}, {kernel} x {kernel}, {group} groups"
        bias = f"{given}, float16[{made}] wb"
        cases += [
            Case(f"{name}, no bias", given, f"y = {convolution}(x, w)", _LAST),
            Case(f"{name}, bias", bias, f"y = {convolution}(x, w, wb)", _LAST),
            Case(f"{name}, bias inside", bias, f"y = {convolution}(x, w, wb)", _INSIDE),
            Case(f"{name}, bias, channels first", bias, f"y = {convolution}(x, w, wb)"),
            Case(f"{name}, float32, channels first", bias.replace("float16", "float"), f"y = {convolution}(x, w, wb)"),
        ]
    return cases


def _others() -> list[Case]:
    """Means, sums, gates and group normalization."""
    image, large = "float16[32,96,56,56] x", "float16[32,96,112,112] x"
    gated = "float16[2,4096,2560] x"
    parts = f"a, b = Split<axis = -1, num_outputs = 2>(x)  c = {_MS}.Gelu(b)  y = Mul(a, c)"
    groups = "float16[2,64,64,320] x, float[320] ws"
    kernel = f"y = {_MS}.GroupNorm<groups = 32, activation = 1, epsilon = 0.00001, channels_last = 1>(x, ws, ws)"
    mean = "axes = Constant<value_ints = [2, 3]>()  y = ReduceMean<keepdims = 1>(x, axes)"
    return [
        Case("mean of an image", image, mean),
        Case("mean of an image as a pool", image, "y = GlobalAveragePool(x)"),
        Case("a bias of 96 channels as a sum", f"{large}, float16[96,1,1] wb", "y = Add(x, wb)"),
        Case("gated GELU in parts", gated, parts),
        Case("BiasSplitGelu", f"{gated}, float16[2560] wb", f"y = {_MS}.BiasSplitGelu(x, wb)"),
        Case("GroupNorm with SiLU", groups, kernel),
    ]


def cases() -> list[Case]:
    """All of them."""
    return [*_norms(), *_rotaries(), *_attentions(), *_windows(), *_convolutions(), *_others()]


def measured(case: Case) -> list[Any]:
    """Microseconds of all kernels of a run, and the costliest by name."""
    from ampgraph.onnx_model.session import Session
    from benchmarks.gpu_kernels import kernels_of

    options = {"cuda_graph": False, "nhwc": False, "native": False, "provider_options": case.options}
    session = Session(case.model(), provider="cuda", **options)
    generator = np.random.default_rng(1)
    bound = session.bind({value.name: drawn(value, generator) for value in case.model().graph.input})
    kernels = kernels_of(bound.run, bound.wait)
    return [case.title, sum(each.microseconds for each in kernels), kernels[0].name[:60] if kernels else ""]


def main() -> None:
    """Measure, print and keep."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", default="", help="substring of titles")
    wanted = arguments.parse_args().only
    rows: list[Sequence[Any]] = []
    for case in cases():
        if wanted in case.title:
            try:
                rows.append(measured(case))
            except Exception as error:  # one operator's fault is no other's
                print(f"{case.title}: {str(error)[:200]}", flush=True)
    print(table(("operator", "us", "costliest kernel"), rows))
    keep("gpu_operators", {str(title): us for title, us, _ in rows})


if __name__ == "__main__":
    main()
