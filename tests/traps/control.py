"""Branches, loops, scans, containers and functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from onnx import TensorProto, helper

from tests.models import W, weight
from tests.traps.building import Trap, X, Y, trap


def control_traps() -> Iterator[Trap]:
    """All of this family, newly built."""
    for family in (_branches, _loops, _scans, _containers, _functions, _custom):
        yield from family()


def _branches() -> Iterator[Trap]:
    signature = f"{X}, bool c => {Y}"
    then = "t () => (float[N,4] a) { p = MatMul(h, w) a = Relu(p) }"
    other = "e () => (float[N,4] b) { q = Exp(h) b = Neg(q) }"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {then}, else_branch = {other}> y = MatMul(o, w)"
    yield trap("branches that capture a value", signature, body, "MatMul If")
    inputs = body.replace("MatMul(h, w) a", "MatMul(x, w) a").replace("Exp(h)", "Exp(x)")
    yield trap("branches that capture a graph input", signature, inputs)
    own = then.replace("float[N,4] a) {", f"float[N,4] a) <{weight('v', 4, 4)}> {{").replace("(h, w)", "(h, v)")
    constant = "e () => (float[4] b) { b = Constant<value_floats = [1.0, 2.0, 3.0, 4.0]>() }"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {own}, else_branch = {constant}> y = Add(o, h)"
    yield trap("initializers and constants in branches", signature, body)
    owned = f"e () => (float[4,4] b) <{weight('b', 4, 4)}> {{ }}"
    square = "float[4,4] x, bool c => float[4,4] y"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {then}, else_branch = {owned}> y = MatMul(o, w)"
    yield trap("a branch that returns its initializer", square, body, runs=False)
    outer = "e () => (float[N,4] b) { b = Identity(h) }"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {then}, else_branch = {outer}> y = MatMul(o, w)"
    yield trap("a branch that hands on an outer value", signature, body, "MatMul If")
    inner = f"t () => (float[N,4] a) {{ a = If (c) <then_branch = {then.replace(' a', ' z')}, else_branch = {other}> }}"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {inner}, else_branch = {outer}> y = MatMul(o, w)"
    yield trap("branches in branches", signature, body, "MatMul")
    two = "t () => (float[N,4] a, int64[2] s) { a = MatMul(h, w) s = Shape(a) }"
    both = "e () => (float[N,4] b, int64[2] r) { b = Relu(h) r = Shape(b) }"
    body = f"h = MatMul(x, w) o, s = If (c) <then_branch = {two}, else_branch = {both}> y = MatMul(o, w)"
    yield trap("branches with integer outputs", f"{signature}, int64[2] s", body)


def _loop(start: str, inner: str, head: str = "s => t, o") -> str:
    """The text of a Loop from `start` over [N,4] states and outputs, and of a product of its first result."""
    states, results = ([name.strip() for name in side.split(",")] for side in head.split("=>"))
    taken, given = (", ".join(f"float[N,4] {name}" for name in names) for names in (states, results))
    body = f"b (int64 i, bool c, {taken}) => (bool d, {given}) {{ d = Identity(c) {inner} }}"
    return f"f, z = Loop (n, k, {start}) <body = {body}> y = MatMul(f, w)"


def _loops() -> Iterator[Trap]:
    signature = f"{X} => {Y}, float[3,N,4] z"
    weights = f"{W}, int64 n = {{3}}, bool k = {{1}}"
    plain = _loop("x", "t = MatMul(s, w) o = Relu(t)")
    yield trap("a loop whose state begins as a graph input", signature, plain, weights=weights)
    body = f"h = MatMul(x, w) {_loop('h', 'm = MatMul(h, w) t = Add(s, m) e = Exp(x) o = Mul(e, t)')}"
    yield trap("a loop that captures", signature, body, weights=weights)
    square, started = signature.replace("N", "4"), f"{weights}, {weight('q', 4, 4)}"
    body = _loop("q", "t = MatMul(x, w) u = Add(s, t) o = Relu(u)").replace("N", "4")
    yield trap("a loop whose state begins as a constant", square, body, weights=started)
    body = f"h = MatMul(x, w) {_loop('h', 'o = MatMul(s, w)', 's => s, o')}"
    yield trap("a loop that returns its state untouched", signature, body, weights=weights)
    made = trap("a loop with outputs nobody wants", signature, plain, weights=weights)
    made.model.graph.node[0].output[1] = ""
    del made.model.graph.output[1]
    yield replace(made, runs=False)  # onnxruntime does not
    made = trap("a loop without a condition", signature, plain, weights=weights)
    made.model.graph.node[0].input[1] = ""
    yield made
    body = f"h = MatMul(x, w) {_loop('h, x', 'r2 = Identity(r) s2 = MatMul(s, w)', 's, r => r2, s2')}"
    yield trap("a loop that swaps its states", f"{X} => {Y}, float[N,4] z", body, weights=weights)
    inner = "j (int64 i2, bool c2, float[N,4] s2) => (bool d2, float[N,4] t2, float[N,4] o2)"
    steps = "{ d2 = Identity(c2) t2 = MatMul(s2, w) o2 = Add(t2, s) }"
    nested = f"t, p = Loop (n, k, s) <body = {inner} {steps}> o = ReduceMax<keepdims = 0>(p, axis)"
    yield trap("loops in loops", signature, _loop("x", nested), weights=f"{weights}, int64[1] axis = {{0}}")
    then, other = "t () => (float[N,4] a) { a = MatMul(s, w) }", "e () => (float[N,4] b2) { b2 = Relu(s) }"
    branch = f"t = If (c) <then_branch = {then}, else_branch = {other}> o = Add(t, x)"
    yield trap("a branch in a loop", signature, _loop("x", branch), weights=weights)


def _scans() -> Iterator[Trap]:
    head = "b (float[4] s, float[4] i) => (float[4] t, float[4] o)"
    inner = "{ r = Unsqueeze(s, zero) p = MatMul(r, w) q = Squeeze(p, zero) t = Add(q, i) o = Relu(t) }"
    weights = f"{W}, int64[1] zero = {{0}}"
    body = f"f, z = Scan (q0, x) <num_scan_inputs = 1, body = {head} {inner}> y = MatMul(z, w)"
    yield trap("a scan", f"{X} => {Y}, float[4] f", body, weights=f"{weights}, float[4] q0 = {{0, 0, 0, 0}}")
    body = f"h = MatMul(x, w) f, z = Scan (g0, h) <num_scan_inputs = 1, body = {head} {inner}> y = MatMul(z, w)"
    yield trap("a scan from a graph input", f"{X}, float[4] g0 => {Y}, float[4] f", body, weights=weights)
    scan = f"f, z = Scan (, s0, x) <num_scan_inputs = 1, body = {head} {{ t = Add(s, i) o = Relu(t) }}>"
    signature = "float[1,3,4] x, float[1,4] s0 => float[3,4] y, float[1,4] f"
    body = f"{scan} h = Squeeze<axes = [0]>(z) y = MatMul(h, w)"
    yield trap("Scan-8 with its batch", signature, body, opset=8, ir=4)


def _containers() -> Iterator[Trap]:
    weights = f"{W}, int64 i = {{1}}"
    body = "h = MatMul(x, w) s = SequenceConstruct(h, x) e = SequenceAt(s, i) y = MatMul(e, w)"
    yield trap("a sequence", f"{X} => {Y}", body, weights=weights)
    body = """h = MatMul(x, w) s = SequenceConstruct(h, h) t = SequenceInsert(s, x) n = ConcatFromSequence<axis = 0>(t)
    y = MatMul(n, w)"""
    yield trap("a sequence joined", f"{X} => float[M,4] y", body, weights=weights)
    body = "h = MatMul(x, w) s = SplitToSequence<axis = 1>(h) e = SequenceAt(s, i) y = Mul(e, h)"
    yield trap("a sequence split", f"{X} => {Y}", body, weights=weights)
    each = "b (float[N,4] e) => (float[N,4] r) { p = MatMul(e, w) r = Relu(p) }"
    mapped = f"m = SequenceMap (s) <body = {each}>"
    body = f"h = MatMul(x, w) s = SequenceConstruct(h, x) {mapped} e = SequenceAt(m, i) y = MatMul(e, w)"
    yield trap("a sequence mapped", f"{X} => {Y}", body, weights=weights)
    body = "h = MatMul(x, w) y = SequenceConstruct(h, x)"
    yield trap("a sequence as output", f"{X} => seq(float[N,4]) y", body)
    body = "e = SequenceAt(s, i) y = MatMul(e, w)"
    yield trap(
        "a sequence as input",
        f"seq(float[N,4]) s => {Y}",
        body,
        weights=weights,
        feeds={"s": [np.ones((2, 4), np.float32)] * 2},
    )
    then = "t () => (seq(float[N,4]) a) { a = SequenceConstruct(h, x) }"
    other = "e () => (seq(float[N,4]) b) { b = SequenceConstruct(x, h) }"
    chosen = f"s = If (c) <then_branch = {then}, else_branch = {other}>"
    body = f"h = MatMul(x, w) {chosen} e = SequenceAt(s, i) y = MatMul(e, w)"
    yield trap("a branch that returns a sequence", f"{X}, bool c => {Y}", body, weights=weights)
    body = "h = MatMul(x, w) o = Optional(h) k = OptionalHasElement(o) e = OptionalGetElement(o) y = MatMul(e, w)"
    yield trap("an optional", f"{X} => {Y}, bool k", body)


def _functions() -> Iterator[Trap]:
    functions = """
    <domain: "local", opset_import: ["" : 20]> twice (a, m) => (b) { [product] h = MatMul(a, m) [relu] b = Relu(h) }
    <domain: "local", opset_import: ["" : 20, "local" : 1]> outer (a, m) => (b) {
        h = local.twice(a, m) b = local.twice(h, m) }
    <domain: "local", opset_import: ["" : 20]> choice (a, c) => (b) {
        b = If (c) <then_branch = t () => (r) { r = Relu(a) }, else_branch = e () => (s) { s = Neg(a) }> }
    <domain: "local", opset_import: ["" : 20]> scaled <factor> (a) => (b) {
        f = Constant<value_float: float = @factor>() b = Mul(a, f) }
    """
    body = "[one] h = local.outer(x, w) [two] k = local.outer(h, w) [three] y = local.outer(k, w)"
    yield trap("functions in functions", f"{X} => {Y}", body, functions=functions, local=1)
    body = "h = local.twice(x, w) k = local.choice(h, c) y = MatMul(k, w)"
    yield trap("a function with branches", f"{X}, bool c => {Y}", body, functions=functions, local=1)
    body = "[one] h = MatMul(x, w) [two] k = local.scaled<factor = 2.0>(h) y = MatMul(k, w)"
    yield trap("a function with an attribute", f"{X} => {Y}", body, functions=functions, local=1)
    then = "t () => (float[N,4] a) { a = local.twice(h, w) }"
    other = "e () => (float[N,4] b) { b = local.twice(x, w) }"
    body = f"h = MatMul(x, w) o = If (c) <then_branch = {then}, else_branch = {other}> y = MatMul(o, w)"
    yield trap("functions called in branches", f"{X}, bool c => {Y}", body, functions=functions, local=1)
    older = '<domain: "local", opset_import: ["" : 19]> older (a) => (b) { r = Relu(a) b = Abs(r) }'
    body = "h = MatMul(x, w) s = local.older(h) y = MatMul(s, w)"
    yield trap("a function of another opset", f"{X} => {Y}", body, functions=older, local=1)


def _custom() -> Iterator[Trap]:
    body = "h = MatMul(x, w) s = my.domain.Strange(h, x) r = Relu(s) a = Add(r, h) b = Exp(a) y = MatMul(b, w)"
    yield trap("an operator nobody knows", f"{X} => {Y}", body, my_domain=1, runs=False)
    model = trap("an operator nobody knows, its type declared", f"{X} => {Y}", body, my_domain=1, runs=False)
    model.model.graph.value_info.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, ["N", 4]))
    yield model
    inner = "b (float[N,4] e) => (float[N,4] r) { p = MatMul(e, w) q = Relu(h) r = Add(p, q) }"
    body = f"h = MatMul(x, w) s = my.domain.Strange(h) <body = {inner}> y = MatMul(s, w)".replace(
        "Strange(h) <", "Strange <"
    )
    body = f"h = MatMul(x, w) s = my.domain.Strange (h) <body = {inner}> m = Identity(s) y = MatMul(m, w)"
    yield trap("an unknown operator with a body", f"{X} => {Y}", body, my_domain=1, runs=False)
    loop = "b (int64 i, bool c, float[N,4] s) => (bool d, t) { d = Identity(c) t = my.domain.Strange(s) }"
    body = f"h = MatMul(x, w) f = Loop (n, k, h) <body = {loop}> y = MatMul(f, w)".replace(
        "bool d, t)", "bool d, float[N,4] t)"
    )
    yield trap(
        "an unknown operator in a loop",
        f"{X} => {Y}",
        body,
        weights=f"{W}, int64 n = {{2}}, bool k = {{1}}",
        my_domain=1,
        runs=False,
    )
