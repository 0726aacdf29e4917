"""Reference: what the operators of our own compute, in standard ones: a rewrite is proven on any machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB
from ampgraph.onnx_model.native.step import DOMAIN, HARD_SIGMOIDS, LATE_ROW

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_MOST_INPUTS = 7
_TO_WEIGHTS = (0, 3, 1, 2)  # K, R, S, C -> K, C, R, S


class _Scope:
    """Nodes and constants that come in for one node, under names of its own. Grows."""

    def __init__(self, node: NodeProto) -> None:
        self.stem = node.output[0]
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """A node; returns its output."""
        name = output or f"{self.stem}__{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [*inputs], [name], **attributes))
        return name

    def constant(self, array: Any) -> str:  # noqa: ANN401
        """A constant; returns its name."""
        name = f"{self.stem}__c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def reshaped(self, name: str, *shape: int, output: str = "") -> str:
        """A value in another shape."""
        return self.add("Reshape", name, self.constant(np.array(shape, np.int64)), output=output)

    def activated(self, name: str, kind: str) -> str:
        """A value after an activation."""
        if kind == "Silu":
            return self.add("Mul", name, self.add("Sigmoid", name))
        if kind in HARD_SIGMOIDS:
            return self.add("HardSigmoid", name, alpha=HARD_SIGMOIDS[kind], beta=0.5)
        if kind == "Relu6":
            return self.add("Clip", name, *(self.constant(np.float16(bound)) for bound in (0, 6)))
        return self.add(kind, name) if kind else name


def expanded(model: ModelProto) -> ModelProto:
    """A rewritten model in standard operators again."""
    new = ModelProto()
    new.CopyFrom(model)
    nodes = [each for node in model.graph.node for each in _expanded(node, new)]
    del new.graph.node[:]
    new.graph.node.extend(nodes)
    kept = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del new.opset_import[:]
    new.opset_import.extend(kept)
    return new


def _expanded(node: NodeProto, model: ModelProto) -> Iterator[NodeProto]:
    if node.domain != DOMAIN:
        yield node
        return
    scope = _Scope(node)
    inputs = [*node.input, *[""] * (_MOST_INPUTS - len(node.input))]
    _WAYS[node.op_type](scope, inputs, list(node.output), plain_attributes(node))
    model.graph.initializer.extend(scope.constants)
    yield from scope.nodes


_HOW = ("strides", "pads", "dilations", "kernel_shape", "group", "output_padding", "count_include_pad")


def _window(how: Mapping[str, Any]) -> dict[str, Any]:
    return {name: how[name] for name in _HOW if name in how}


def _conv(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    _convolved("Conv", scope, inputs, outputs, {**how, "group": how.get("group", 1)})


def _transposed(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    _convolved("ConvTranspose", scope, inputs, outputs, how)


def _convolved(op: str, scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    x, weight, bias, residual, scale = inputs[:5]
    if scale:
        x = scope.add("Mul", x, scope.reshaped(scale, 0, 1, 1, -1))
    first = scope.add("Transpose", x, perm=FIRST)
    laid = scope.add("Transpose", weight, perm=_TO_WEIGHTS)
    found = scope.add(op, first, laid, bias, **_window(how))
    other = _added(scope, residual, how) if residual else ""
    if other and not how.get("late"):
        found = scope.add("Add", found, other)
    found = scope.activated(found, how.get("activation", ""))
    if other and how.get("late") == LATE_ROW:
        wide = scope.add("Add", scope.add("Cast", found, to=TensorProto.FLOAT), other)
        found = scope.add("Cast", wide, to=TensorProto.FLOAT16)
    elif other and how.get("late"):
        found = scope.add("Add", found, other)
    scope.add("Transpose", found, perm=LAST, output=outputs[0])


def _added(scope: _Scope, name: str, how: Mapping[str, Any]) -> str:
    """With channels first: an image, or a number for each channel."""
    if how.get("late") == LATE_ROW:
        return scope.reshaped(name, 1, -1, 1, 1)
    return scope.add("Transpose", name, perm=FIRST)


def _linear(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    x, weight, bias, residual = inputs[:4]
    found = scope.add("MatMul", x, scope.add("Transpose", weight, perm=(1, 0)))
    found = scope.add("Add", found, bias) if bias else found
    found = scope.add("Add", found, residual) if residual else found
    scope.add("Identity", scope.activated(found, how.get("activation", "")), output=outputs[0])


def _depthwise(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    x, weight, bias, after = inputs[:4]
    kernel = scope.add("Unsqueeze", scope.add("Transpose", weight, perm=(2, 0, 1)), scope.constant(np.array([1])))
    first = scope.add("Cast", scope.add("Transpose", x, perm=FIRST), to=TensorProto.FLOAT)
    found = scope.activated(scope.add("Conv", first, kernel, bias, **_window(how)), how.get("activation", ""))
    if after:
        by, more = (scope.add("Gather", after, scope.constant(np.array([row]))) for row in (0, 1))
        found = scope.add("Mul", found, scope.reshaped(by, 1, -1, 1, 1))
        found = scope.add("Add", found, scope.reshaped(more, 1, -1, 1, 1))
    low = scope.add("Cast", found, to=TensorProto.FLOAT16)
    scope.add("Transpose", low, perm=LAST, output=outputs[0])
    if len(outputs) > 1:
        scope.reshaped(scope.add("GlobalAveragePool", found), 0, 1, -1, output=outputs[1])


def _excite(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    means, squeeze, squeeze_bias, excite, excite_bias = inputs[:5]
    mean = scope.add("ReduceSum", means, scope.constant(np.array([1], np.int64)), keepdims=0)
    hidden = scope.add("Add", scope.add("MatMul", mean, scope.add("Transpose", squeeze, perm=(1, 0))), squeeze_bias)
    found = scope.add("MatMul", scope.activated(hidden, how.get("activation", "")), excite)
    gates = scope.activated(scope.add("Add", found, excite_bias), how["gate"])
    scope.add("Cast", gates, to=TensorProto.FLOAT16, output=outputs[0])


def _scaled(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    gates = scope.reshaped(inputs[1], 0, 1, 1, -1)
    if how.get("added"):
        scope.add("Add", scope.add("Mul", inputs[0], gates), inputs[0], output=outputs[0])
    else:
        scope.add("Mul", inputs[0], gates, output=outputs[0])


def _max_pool(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    _pooled("MaxPool", scope, inputs, outputs, how)


def _average_pool(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    _pooled("AveragePool", scope, inputs, outputs, {"count_include_pad": 0, **how})


def _pooled(op: str, scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    found = scope.add(op, scope.add("Transpose", inputs[0], perm=FIRST), **_window(how))
    scope.add("Transpose", found, perm=LAST, output=outputs[0])


def _affine(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    wide = scope.add("Mul", scope.add("Cast", inputs[0], to=TensorProto.FLOAT), inputs[1])
    low = scope.add("Cast", scope.add("Add", wide, inputs[2]), to=TensorProto.FLOAT16)
    scope.add("Identity", scope.activated(low, how.get("activation", "")), output=outputs[0])


def _mean(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    first = scope.add("Transpose", inputs[0], perm=FIRST)
    if how.get("keepdims", 1):
        scope.add("GlobalAveragePool", first, output=outputs[0])
    else:
        scope.reshaped(scope.add("GlobalAveragePool", first), 0, -1, output=outputs[0])


def _means(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    wide = scope.add("Cast", inputs[0], to=TensorProto.FLOAT)
    mean = scope.add("ReduceMean", wide, scope.constant(np.array([1, 2], np.int64)), keepdims=1)
    scope.reshaped(mean, 0, 1, -1, output=outputs[0])


def _image(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    low, block = scope.add("Cast", inputs[0], to=TensorProto.FLOAT16), how["block"]
    if block > 1:
        two, four = (scope.constant(np.array([value], np.int64)) for value in (2, 4))
        uneven = scope.add("Mod", scope.add("Slice", scope.add("Shape", low), two, four), two)
        pads = scope.add("Concat", scope.constant(np.zeros(6, np.int64)), uneven, axis=0)
        low = scope.add("SpaceToDepth", scope.add("Pad", low, pads), blocksize=block)
    missing = 8 * block - how["channels"] * block * block
    ends = scope.constant(np.array([0, 0, 0, 0, 0, missing, 0, 0], np.int64))
    scope.add("Transpose", scope.add("Pad", low, ends), perm=LAST, output=outputs[0])


def _gated(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    one, other, bias = inputs[:3]
    if not other:
        whole = scope.add("Add", one, bias) if bias else one
        one, other = f"{scope.stem}__one", f"{scope.stem}__other"
        scope.nodes.append(helper.make_node("Split", [whole], [one, other], axis=-1, num_outputs=2))
    if how.get("second"):
        one, other = other, one
    scope.add("Mul", scope.activated(one, how["activation"]), other, output=outputs[0])


def _group_norm(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    x, gamma, beta, offset = inputs[:4]
    wide = scope.add("Cast", x, to=TensorProto.FLOAT)
    first = wide if how.get("first") else scope.add("Transpose", wide, perm=FIRST)
    if offset:
        first = scope.add("Add", first, scope.reshaped(scope.add("Cast", offset, to=TensorProto.FLOAT), 0, -1, 1, 1))
    ones, zeros = (scope.constant(np.full(how["groups"], value, np.float32)) for value in (1, 0))
    parts = scope.reshaped(first, 0, how["groups"], -1)
    normed = scope.add("InstanceNormalization", parts, ones, zeros, epsilon=how["epsilon"])
    last = scope.add("Transpose", scope.add("Reshape", normed, scope.add("Shape", first)), perm=LAST)
    found = scope.add("Add", scope.add("Mul", last, gamma), beta)
    scope.add("Cast", scope.activated(found, how.get("activation", "")), to=TensorProto.FLOAT16, output=outputs[0])


def _residual(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    wide = scope.add("Cast", scope.add("Transpose", inputs[1], perm=FIRST), to=TensorProto.FLOAT)
    scope.add("Add", inputs[0], wide, output=outputs[0])


def _rotary(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    width, parts = how["width"], [f"{scope.stem}__{part}" for part in ("q", "k")]
    ends = scope.constant(np.array([0, width, 2 * width, 2**31], np.int64))
    two = scope.constant(np.array([2], np.int64))
    for place, name in enumerate((*parts, outputs[2])):
        one, other = (scope.constant(np.array([place + more], np.int64)) for more in (0, 1))
        scope.add(
            "Slice", inputs[0], scope.add("Gather", ends, one), scope.add("Gather", ends, other), two, output=name
        )
    for name, output in zip(parts, outputs[:2], strict=True):
        attributes = {"interleaved": 1, "num_heads": how["num_heads"], "domain": CONTRIB}
        scope.add("RotaryEmbedding", name, *inputs[1:4], output=output, **attributes)


def _rows(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    scope.add("Gather", *inputs[:2], axis=1, output=outputs[0])


def _layer_norm(scope: _Scope, inputs: list[str], outputs: list[str], how: Mapping[str, Any]) -> None:
    x, gamma, beta, skip, bias = (scope.add("Cast", name, to=TensorProto.FLOAT) if name else "" for name in inputs[:5])
    places, beside = inputs[5:]
    total, width = x, scope.add("Shape", gamma)
    skip = _beside(scope, x, skip, beside, width) if beside else skip
    for more in filter(None, (skip, bias)):
        total = scope.add("Add", total, more)
    last = scope.constant(np.array([-1], np.int64))
    centred = total if how.get("simple") else scope.add("Sub", total, scope.add("ReduceMean", total, last))
    variance = scope.add("ReduceMean", scope.add("Mul", centred, centred), last)
    spread = scope.add("Sqrt", scope.add("Add", variance, scope.constant(np.float32(how["epsilon"]))))
    found = scope.add("Mul", scope.add("Div", centred, spread), gamma)
    found = scope.add("Add", found, beta) if beta else found
    if places:
        sizes = scope.add("Concat", scope.constant(np.array([-1, how["length"]], np.int64)), width, axis=0)
        found = scope.add("Gather", scope.add("Reshape", found, sizes), places, axis=1)
    for name, output in zip((found, total), outputs, strict=False):
        scope.add("Cast", name, to=TensorProto.FLOAT16, output=output)


def _beside(scope: _Scope, x: str, skip: str, places: str, width: str) -> str:
    """Of every image the rows of skip at these places, in x's shape."""
    free = scope.constant(np.array([-1], np.int64))
    images = scope.add("Reshape", x, scope.add("Concat", free, scope.add("Shape", places), width, axis=0))
    sizes = scope.add("Concat", scope.add("Shape", images, end=1), free, width, axis=0)
    found = scope.add("Gather", scope.add("Reshape", skip, sizes), places, axis=1)
    return scope.add("Reshape", found, scope.add("Shape", x))


_WAYS: Mapping[str, Callable[[_Scope, list[str], list[str], Mapping[str, Any]], None]] = {
    "Conv": _conv,
    "Linear": _linear,
    "DepthwiseConv": _depthwise,
    "Affine": _affine,
    "TransposedConv": _transposed,
    "Excite": _excite,
    "Scaled": _scaled,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "Mean": _mean,
    "Image": _image,
    "Means": _means,
    "Gated": _gated,
    "GroupNorm": _group_norm,
    "Residual": _residual,
    "Rotary": _rotary,
    "Rows": _rows,
    "LayerNorm": _layer_norm,
}
