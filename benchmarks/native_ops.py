"""Kernels of our own against onnxruntime's, operator by operator: `python -m benchmarks.native_ops [--only A,B]`.

On a GPU. Operators of the networks that speed is measured on, with what goes with them, as models of one such stretch:
answers of both to float32's, and milliseconds of both as CUDA graphs in interleaved rounds. Exits with 1 where ours are
further from float32 than onnxruntime's by more than rounding is.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper, parser

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.onnx_model.bench import interleaved, spread
from ampgraph.onnx_model.bound import Bound
from benchmarks.gpu_timing import Contender, relative
from benchmarks.record import add, machine, table

ROUNDS = 5
WORSE = 1e-3  # relative L2 that ours may be further off: one more rounding to float16
_FEW = 8  # channels; images of fewer come with channels first
_LAYERS = 16  # one after the other: a launch of a graph takes longer than one
_NORMS = (
    (100_352, 96), (25_088, 192), (8_192, 320), (6_272, 384), (8_192, 512), (6_304, 768), (3_072, 768), (2_048, 1024),
    (3_136, 96), (784, 192), (197, 768),
)  # fmt: skip
_PRODUCTS = {
    "": ((2_048, 1_024, 5_632), (3_072, 768, 2_304), (1_500, 3_072, 768), (384, 768, 2_304), (384, 768, 768),
         (384, 3_072, 768), (197, 768, 768), (49, 3_072, 768)),
    "bias": ((3_072, 768, 768), (784, 192, 576), (196, 384, 1_152), (49, 768, 2_304)),
    "gelu": ((3_072, 768, 3_072), (1_500, 768, 3_072), (784, 192, 768), (197, 768, 3_072), (49, 768, 3_072)),
}  # fmt: skip


@dataclass(frozen=True)
class Stretch:
    """A convolution (batch, size, channels, filters, kernel, stride, groups) with what goes with it."""

    batch: int
    size: int
    channels: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    activation: str = ""
    residual: bool = False

    @property
    def title(self) -> str:
        """In a few words."""
        said = [f"{self.batch} x {self.size}^2 x {self.channels} -> {self.filters}, {self.kernel} x {self.kernel}"]
        said += [f"stride {self.stride}"] if self.stride > 1 else []
        said += ["depthwise"] if self.groups > 1 else []
        said += [f"+ {what}" for what in (self.residual * "residual", self.activation) if what]
        return " ".join(said)


@dataclass(frozen=True)
class Row:
    """Errors to float32 (relative L2) and milliseconds of both."""

    onnxruntime_error: float
    own_error: float
    onnxruntime_ms: float
    own_ms: float


def stretches() -> Iterator[Stretch | Gate | Norms | Products]:
    """Those of ResNet-50, EfficientNet-B0, ConvNeXt-T, a UNet block, a Llama, Swin-T, ViT and BERT, large and small."""
    for batch in (32, 1):
        yield Stretch(batch, 224, 3, 64, 7, 2, activation="Relu")
        yield Stretch(batch, 56, 64, 64, 3, activation="Relu")
        yield Stretch(batch, 56, 64, 256, 1, activation="Relu", residual=True)
        yield Stretch(batch, 14, 256, 1024, 1, activation="Relu", residual=True)
        yield Stretch(batch, 7, 512, 512, 3, activation="Relu")
        yield Stretch(batch, 112, 16, 96, 1, activation="Silu")
        yield Stretch(batch, 14, 112, 672, 1, activation="Silu")
        yield Stretch(batch, 7, 1152, 192, 1, residual=True)
        yield Stretch(batch, 112, 96, 96, 3, 2, 96, "Silu")
        yield Stretch(batch, 28, 240, 240, 5, 1, 240, "Silu")
        yield Stretch(batch, 57, 144, 144, 5, 2, 144, "Silu")
        yield Stretch(batch, 56, 96, 96, 7, 1, 96)
        yield Stretch(batch, 7, 768, 768, 7, 1, 768)
    yield Stretch(2, 64, 320, 320, 3, residual=True)
    yield from (Gate(rows, 1024, 2816) for rows in (2048, 512))
    yield from (Products(*sizes, after=after) for after in ("", "bias", "gelu") for sizes in _PRODUCTS[after])
    yield from (Norms(rows, width) for rows, width in _NORMS)
    yield Norms(2048, 1024, simple=True)


def model_of(each: Stretch, dtype: Any) -> ModelProto:  # noqa: ANN401  (numpy's)
    """The stretch in float16 or float32, channels last outside, weights drawn from a seed and in float16's numbers."""
    kind = "float16" if dtype is np.float16 else "float"
    pad, out, is_image = each.kernel // 2, (each.size - 1) // each.stride + 1, each.channels < _FEW
    size, last = f"[{each.batch},{each.channels},{each.size},{each.size}]", f"[{each.batch},{out},{out},{each.filters}]"
    how = f"group={each.groups}, kernel_shape=[{each.kernel},{each.kernel}], strides=[{each.stride},{each.stride}]"
    nodes = [] if is_image else ["t = Transpose<perm=[0,3,1,2]>(x)"]
    nodes += [f"c = Conv<{how}, pads=[{pad},{pad},{pad},{pad}]>({'x' if is_image else 't'}, w, b)"]
    nodes += ["u = Transpose<perm=[0,3,1,2]>(z)", "r = Add(c, u)"] if each.residual else []
    result = "r" if each.residual else "c"
    nodes += [f"g = Sigmoid({result})", f"a = Mul({result}, g)"] if each.activation == "Silu" else []
    nodes += [f"a = Relu({result})"] if each.activation == "Relu" else []
    nodes += [f"y = Transpose<perm=[0,2,3,1]>({'a' if each.activation else result})"]
    image = size if is_image else f"[{each.batch},{each.size},{each.size},{each.channels}]"
    residual = f", {kind}{last} z" if each.residual else ""
    text = f"g ({kind}{image} x{residual}) => ({kind}{last} y) {{ {' '.join(nodes)} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    generator = np.random.default_rng(0)
    fan = each.channels // each.groups * each.kernel**2
    weight = generator.standard_normal((each.filters, each.channels // each.groups, each.kernel, each.kernel))
    for name, values in (("w", weight / np.sqrt(fan)), ("b", generator.standard_normal(each.filters))):
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16).astype(dtype), name))
    return model


@dataclass(frozen=True)
class Gate:
    """Rows of some width times two matrices, SiLU of one product times the other: a Llama's feed-forward layer."""

    rows: int
    width: int
    hidden: int

    @property
    def title(self) -> str:
        """In a few words."""
        return f"{self.rows} x {self.width} -> {self.hidden}, gated SiLU"


def gate_of(each: Gate, dtype: Any) -> ModelProto:  # noqa: ANN401
    """The layer in float16 or float32, weights as above."""
    kind = "float16" if dtype is np.float16 else "float"
    nodes = "p = MatMul(x, a) q = MatMul(x, b) g = Sigmoid(p) s = Mul(p, g) y = Mul(s, q)"
    text = f"g ({kind}[{each.rows},{each.width}] x) => ({kind}[{each.rows},{each.hidden}] y) {{ {nodes} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    generator = np.random.default_rng(0)
    for name in "ab":
        weight = generator.standard_normal((each.width, each.hidden)) / np.sqrt(each.width)
        model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float16).astype(dtype), name))
    return model


@dataclass(frozen=True)
class Norms:
    """Layers of a sum with a bias and its normalization, each of what the one before it makes; the sums go on, too."""

    rows: int
    width: int
    simple: bool = False

    @property
    def title(self) -> str:
        """In a few words."""
        return f"{self.rows} x {self.width}, {_LAYERS} sums and {'RMS' if self.simple else 'layer'} normalizations"


def norms_of(each: Norms, dtype: Any) -> ModelProto:  # noqa: ANN401
    """The layers in float16 or float32, weights as above."""
    rows = f"{'float16' if dtype is np.float16 else 'float'}[{each.rows},1,{each.width}]"
    op = f"com.microsoft.Skip{'Simplified' if each.simple else ''}LayerNormalization<epsilon=1e-5>"
    given, ends = "w, bias" if each.simple else "w, b, bias", [*(f"{i}" for i in range(1, _LAYERS)), ""]
    nodes = [f"y{end}, , , s{end} = {op}({f's{i}, y{i}' if i else 'x, z'}, {given})" for i, end in enumerate(ends)]
    text = f"g ({rows} x, {rows} z) => ({rows} y, {rows} s) {{ {' '.join(nodes)} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]> {text}')
    generator = np.random.default_rng(0)
    for name in ("w", "b", "bias"):
        row = (name == "w") + generator.standard_normal(each.width) / 4
        model.graph.initializer.append(numpy_helper.from_array(row.astype(np.float16).astype(dtype), name))
    return model


@dataclass(frozen=True)
class Products:
    """Products of the same rows and weights of their own, with a bias, or that and GELU, or nothing after them."""

    rows: int
    depth: int
    columns: int
    after: str

    @property
    def title(self) -> str:
        """In a few words."""
        return (
            f"{self.rows} x {self.depth} -> {self.columns}, {_LAYERS} products{f' + {self.after}' * bool(self.after)}"
        )


def products_of(each: Products, dtype: Any) -> ModelProto:  # noqa: ANN401
    """The products in float16 or float32, weights as above."""
    kind = "float16" if dtype is np.float16 else "float"
    after = {"bias": "Add", "gelu": "com.microsoft.BiasGelu"}.get(each.after, "")
    nodes = [f"y{i} = MatMul(x, w{i})" for i in range(_LAYERS)]
    if after:
        nodes = [f"p{i} = MatMul(x, w{i}) y{i} = {after}(p{i}, b)" for i in range(_LAYERS)]
    made = ", ".join(f"{kind}[{each.rows},{each.columns}] y{i}" for i in range(_LAYERS))
    text = f"g ({kind}[{each.rows},{each.depth}] x) => ({made}) {{ {' '.join(nodes)} }}"
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1]> {text}')
    generator = np.random.default_rng(0)
    shapes = {f"w{i}": (each.depth, each.columns) for i in range(_LAYERS)} | {"b": (each.columns,)}
    for name, shape in shapes.items():
        values = generator.standard_normal(shape) / np.sqrt(each.depth if len(shape) > 1 else 1)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16).astype(dtype), name))
    return model


def feeds_of(model: ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs about N(0, 1) in float16's numbers."""
    generator = np.random.default_rng(1)
    found = {}
    for value in model.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        drawn = generator.standard_normal(shape).astype(np.float16)
        is_low = value.type.tensor_type.elem_type == TensorProto.FLOAT16
        found[value.name] = drawn if is_low else drawn.astype(np.float32)
    return found


def made(each: Stretch | Gate | Norms | Products, dtype: Any) -> ModelProto:  # noqa: ANN401
    """The model of any of them."""
    if isinstance(each, Norms):
        return norms_of(each, dtype)
    if isinstance(each, Products):
        return products_of(each, dtype)
    return gate_of(each, dtype) if isinstance(each, Gate) else model_of(each, dtype)


def measured(each: Stretch | Gate | Norms | Products) -> Row:
    """Both, beside float32."""
    full, low = made(each, np.float32), made(each, np.float16)
    expected = next(iter(ampgraph.Session(full, tf32=False).run(feeds_of(full)).values()))
    with patch("ampgraph.onnx_model.native.search.gains", return_value=True):  # those that sessions leave alone, too
        bound = [ampgraph.Session(low, native=native).bind(feeds_of(low)) for native in (False, True)]
    errors = [relative(expected, next(iter(one.outputs().values())).astype(np.float32)) for one in bound]
    samples = interleaved([_sampler(one) for one in bound], ROUNDS)
    times = [spread(found).median for found in samples]
    return Row(errors[0], errors[1], times[0], times[1])


def _sampler(bound: Bound) -> Any:  # noqa: ANN401
    return Contender("", "", bound.run, bound.wait, np.zeros(1)).sampler()


def main() -> None:
    """Measure them, print and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="", help="comma-separated substrings of the titles")
    wanted = options.parse_args().only.split(",")
    warnings.simplefilter("ignore")
    rows: dict[str, Row] = {}
    for each in (found for found in stretches() if any(part in found.title for part in wanted)):
        try:
            rows[each.title] = measured(each)
        except ModelError as error:
            sys.exit(f"{each.title}: {error}")
        print(each.title, rows[each.title], flush=True)
    names = ["stretch", "onnxruntime ms", "own ms", "onnxruntime error", "own error"]
    cells = [
        [title, row.onnxruntime_ms, row.own_ms, row.onnxruntime_error, row.own_error] for title, row in rows.items()
    ]
    print(table(names, cells))
    print(add("native_ops", {title: {**asdict(row), "machine": machine()} for title, row in rows.items()}))
    worse = [title for title, row in rows.items() if row.own_error > row.onnxruntime_error + WORSE]
    if worse:
        sys.exit(f"further from float32 than onnxruntime: {'; '.join(worse)}")


if __name__ == "__main__":
    main()
