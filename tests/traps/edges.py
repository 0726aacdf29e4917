"""Interfaces, names, headers and what a model says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.models import W, parse, weight
from tests.traps.building import Trap, X, Y, trap


def edges_traps() -> Iterator[Trap]:
    """All of this family, newly built."""
    for family in (_interfaces, _names, _headers, _stale, _opsets):
        yield from family()


def _interfaces() -> Iterator[Trap]:
    model = parse(f"g ({X}) => ({Y}) <{W}> {{ y = MatMul(x, w) }}")
    model.graph.output.add().CopyFrom(model.graph.input[0])
    yield Trap("an input that is an output", model, frozenset(("MatMul",)))
    model = parse(f"g ({X}) => ({Y}, float[4,4] w) <{W}> {{ y = MatMul(x, w) }}")
    yield Trap("an initializer that is an output", model, frozenset(("MatMul",)))
    body = "h = MatMul(x, w) r = Relu(h) y = MatMul(r, w)"
    yield trap("outputs that are consumed", f"{X} => {Y}, float[N,4] h, float[N,4] r", body)
    yield trap("outputs without a shape", "float x => float y", "y = Relu(x)", "", runs=False)
    made = trap("one value listed twice as output", f"{X} => {Y}, float[N,4] r", body)
    made.model.graph.output.add().CopyFrom(made.model.graph.output[1])
    yield made
    yield trap("inputs nobody reads", f"{X}, float[N] unused => {Y}", "y = MatMul(x, w)")
    yield trap("two products of one input", f"{X} => {Y}, float[N,4] z", "y = MatMul(x, w) z = MatMul(x, w)")
    for ir in (4, 10):
        model = parse(f"g ({X}, float[4,4] w) => ({Y}) {{ h = MatMul(x, w) y = MatMul(h, w) }}", ir=ir)
        data = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(data, "w"))
        yield Trap(f"an overridable initializer, IR {ir}", model, frozenset(("MatMul",)))
    model = parse(f"g ({X}, float[4,4] w) => ({Y}) {{ h = MatMul(x, w) e = Exp(w) y = MatMul(h, e) }}", 8, 3)
    model.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float32), "w"))
    yield Trap("initializers listed as inputs, IR 3", model, frozenset(("MatMul",)))


def _names() -> Iterator[Trap]:
    model = parse(f"g ({X}) => ({Y}) <{W}> {{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, w) }}")
    for node in model.graph.node:
        node.name = "same"
    yield Trap("nodes of one name", model, frozenset(("MatMul",)), runs=False)
    body = """[Cast_x_to_float16] x_float16 = Abs(x) [h_to_float32] h_float32 = MatMul(x, w)
    [y_float16] x_cast_to_float16 = Add(h_float32, x_float16) [input] y_float16 = Neg(x_cast_to_float16)
    [output] y = MatMul(y_float16, w)"""
    yield trap("names that a converter might take", f"{X} => {Y}", body)
    model = parse("g (float[N,4] T) => (float[N,4] y) { [input] h = Relu(T) [output] y = Exp(h) }")
    yield Trap("nodes called input and output", model, frozenset())
    then = f"t () => (float[N,4] a) <{W}> {{ h = MatMul(x, w) a = Relu(h) }}"
    other = f"e () => (float[N,4] b) <{weight('w', 4, 4, seed=7)}> {{ h = MatMul(x, w) b = Neg(h) }}"
    body = f"c = Cast<to = 9>(n) s = Squeeze(c) y = If (s) <then_branch = {then}, else_branch = {other}>"
    yield trap("one name in sibling bodies", f"{X}, int64[1] n => {Y}", body, weights="int64 unused = {0}")
    body = f"[top] y = If (c) <then_branch = {then.replace('h', 'v')}, else_branch = {other.replace('h', 'v')}>"
    made = trap(
        "a value named like an inner one",
        f"{X}, bool c => {Y}, float[N,4] z",
        f"{body} z = MatMul(x, u)",
        weights=weight("u", 4, 4),
    )
    for node in made.model.graph.node[-1:]:
        node.output[0] = "top/then_branch:v"
        made.model.graph.output[1].name = "top/then_branch:v"
    yield made


def _headers() -> Iterator[Trap]:
    made = trap("unsorted nodes", f"{X} => {Y}", "y = MatMul(r, w) r = Relu(h) h = MatMul(x, w)")
    yield Trap(made.name, made.model, made.low, runs=False)
    model = parse(f"g ({X}) => ({Y}) <{W}> {{ h = MatMul(x, w) y = MatMul(h, w) }}")
    model.opset_import[0].domain = "ai.onnx"
    yield Trap("opset imported as ai.onnx", model, frozenset(("MatMul",)))
    body = "h = MatMul(x, w) r = Relu(h) y = MatMul(r, w)"
    made = trap("listed initializers", f"{X} => {Y}", body)
    made.model.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    yield made


def _stale() -> Iterator[Trap]:
    """What value_info says of inner values is old; onnxruntime refuses some of it, so one kind at a time."""
    body = "h = MatMul(x, w) r = Relu(h) e = Exp(r) y = MatMul(e, w)"
    made = trap("value_info without shapes", f"{X} => {Y}", body)
    for name in "hre":
        made.model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    yield made
    made = trap("value_info of values that are gone", f"{X} => {Y}", body)
    made.model.graph.value_info.append(helper.make_tensor_value_info("gone", TensorProto.FLOAT, [1]))
    yield made
    for says, shape in (("batch", [7, 4]), ("size", ["N", 5]), ("rank", [4])):
        for name in "hr":  # what is made low, and what a cast stands behind
            made = trap(f"value_info of another {says}, {name}", f"{X} => {Y}", body)
            made.model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            yield made
    for dtype in ("INT64", "FLOAT16", "DOUBLE"):
        made = trap(f"value_info of type {dtype}", f"{X} => {Y}", body, runs=False)  # onnxruntime refuses the source
        made.model.graph.value_info.append(helper.make_tensor_value_info("r", TensorProto.DataType.Value(dtype), None))
        yield made


def _opsets() -> Iterator[Trap]:
    for opset in range(7, 27):
        body = "h = MatMul(x, w) r = Relu(h) e = Exp(r) s = Softmax<axis = 1>(h) a = Add(e, s) y = Gemm(a, w, b)"
        yield trap(
            f"opset {opset}",
            f"{X} => {Y}",
            body,
            weights=f"{W}, {weight('b', 4)}",
            opset=opset,
            ir=13 if opset > 24 else 8,
        )
