"""Casts, constants, producers and shared values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import helper, numpy_helper

from tests.models import W, parse, weight
from tests.traps.building import Trap, X, Y, trap


def data_traps() -> Iterator[Trap]:
    """All of this family, newly built."""
    for family in (_casts, _constants, _producers, _optionals, _shared, _dimensions, _other_types):
        yield from family()


def _casts() -> Iterator[Trap]:
    yield trap("cast to float", f"{X} => {Y}", "h = MatMul(x, w) c = Cast<to = 1>(h) y = MatMul(c, w)")
    yield trap("cast of integers", f"int64[N,4] i => {Y}", "x = Cast<to = 1>(i) y = MatMul(x, w)")
    yield trap("cast to int", f"{X} => int64[N,4] y", "h = MatMul(x, w) y = Cast<to = 7>(h)", runs=False)
    through = "h = MatMul(x, w) l = Cast<to = {}>(h) f = Cast<to = 1>(l) y = MatMul(f, w)"
    yield trap("cast to double and back", f"{X} => {Y}", through.format(11))
    yield trap("cast to float16 and back", f"{X} => {Y}", through.format(10))
    body = "h = MatMul(x, w) z = CastLike(h, k) c = CastLike(z, h) m = CastLike(c, h) y = MatMul(m, w)"
    yield trap("cast like", f"{X} => {Y}, int64[N,4] z", body, weights=f"{W}, int64 k = {{0}}", runs=False)
    yield trap("cast of the input to float16", f"{X} => float16[N,4] y", "h = Cast<to = 10>(x) y = Relu(h)", "")


def _constants() -> Iterator[Trap]:
    for value in ("value_float = 0.5", "value_floats = [0.5, 1.5, -2.0, 3.0]", "value = float[4] {1, 2, 3, 4}"):
        body = f"c = Constant<{value}>() h = MatMul(x, w) a = Mul(h, c) y = MatMul(a, w)"
        yield trap(f"constant {value}", f"{X} => {Y}", body, "MatMul Mul")
        both = f"c = Constant<{value}>() h = MatMul(x, w) a = Mul(h, c) b = Add(x, c) d = Exp(b) y = Add(d, a)"
        yield trap(f"constant {value} for both sides", f"{X} => {Y}", both)
    body = """s = Constant<value_ints = [-1, 4]>() k = Constant<value_int = 1>() h = MatMul(x, w)
    u = Unsqueeze(h, k) r = Reshape(u, s) y = MatMul(r, w)"""
    yield trap("integer constants", f"{X} => {Y}", body, "MatMul Unsqueeze Reshape")
    body = 's = Constant<value_string = "word">() t = Constant<value_strings = ["a", "b"]>() y = MatMul(x, w)'
    yield trap("string constants", f"{X} => {Y}, string s, string[2] t", body)
    body = "c = Constant<value = float[4] {1, 2, 3, 4}>() h = MatMul(x, w) a = Add(h, c) y = MatMul(a, w)"
    yield trap("a constant that is an output", f"{X} => {Y}, float[4] c", body, "MatMul Add")
    sparse = trap("a sparse constant", f"{X} => {Y}", "h = MatMul(x, w) s = Constant<value_int = 0>() y = Add(h, s)")
    node = next(node for node in sparse.model.graph.node if node.op_type == "Constant")
    del node.attribute[:]
    values = numpy_helper.from_array(np.array([2.0], np.float32), "v")
    spots = numpy_helper.from_array(np.array([1]), "i")
    node.attribute.append(helper.make_attribute("sparse_value", helper.make_sparse_tensor(values, spots, [4])))
    yield sparse
    model = parse(f"g ({X}) => ({Y}) <{W}> {{ h = MatMul(x, w) y = Add(h, s) }}")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(numpy_helper.from_array(np.array([2.0], np.float32), "s"), spots, [4])
    )
    yield Trap("a sparse initializer", model, frozenset(("MatMul",)))


def _producers() -> Iterator[Trap]:
    body = """h = MatMul(x, w) s = Shape(h) o = ConstantOfShape<value = float[1] {2.0}>(s) z = ConstantOfShape(s)
    a = Mul(h, o) b = Add(a, z) y = MatMul(b, w)"""
    yield trap("ConstantOfShape", f"{X} => {Y}", body, "MatMul Mul ConstantOfShape")
    square = "float[4,4] x => float[4,4] y"
    body = "h = MatMul(x, w) e = EyeLike(h) f = EyeLike<dtype = 1>(h) a = Add(h, e) b = Add(a, f) y = MatMul(b, w)"
    yield trap("EyeLike", square, body, "MatMul Add")
    body = """h = MatMul(x, w) a = RandomNormalLike(h) b = RandomUniformLike<dtype = 1>(h) zero = Sub(h, h)
    c = RandomNormal<shape = [4], dtype = 1>() d = RandomUniform<shape = [4]>() ab = Add(a, b) cd = Add(c, d)
    r = Add(ab, cd) k = Mul(r, zero) t = Add(h, k) y = MatMul(t, w)"""
    yield trap("random producers", f"{X} => {Y}", body)
    body = """h = MatMul(x, w) p = Sigmoid(h) b = Bernoulli(p) c = Bernoulli<dtype = 1>(p) s = Add(b, c)
    zero = Sub(h, h) k = Mul(s, zero) t = Add(h, k) y = MatMul(t, w)"""
    yield trap("Bernoulli", f"{X} => {Y}", body)
    limits = f"{W}, float a = {{0}}, float b = {{4}}, float c = {{1}}"
    yield trap("Range", square, "h = MatMul(x, w) r = Range(a, b, c) t = Add(h, r) y = MatMul(t, w)", weights=limits)
    body = """h = MatMul(x, w) a = HannWindow(n) b = HammingWindow<output_datatype = 1>(n) s = Add(a, b)
    t = Mul(h, s) y = MatMul(t, w)"""
    yield trap("windows", f"{X} => {Y}", body, weights=f"{W}, int64 n = {{4}}")
    body = "h = MatMul(x, w) o = OneHot(i, d, v) t = Add(h, o) y = MatMul(t, w)"
    weights = f"{W}, int64 d = {{4}}, float[2] v = {{0, 1}}"
    yield trap("OneHot", f"{X}, int64[N] i => {Y}", body, weights=weights)
    weights = f"{W}, {weight('u', 2, 4)}, int64[1] k = {{2}}"
    body = "h = MatMul(x, w) v, i = TopK(h, k) y = MatMul(v, u)"
    yield trap("TopK", f"{X} => {Y}, int64[N,2] i", body, weights=weights)


def _optionals() -> Iterator[Trap]:
    body = "h = MatMul(x, w) c = Clip(h, , top) y = MatMul(c, w)"
    yield trap("an input left empty", f"{X} => {Y}", body, "MatMul Clip", weights=f"{W}, float top = {{1.5}}")
    lstm = f"{weight('a', 1, 16, 4)}, {weight('r', 1, 16, 4)}, {weight('b', 1, 32)}, {weight('h', 1, 1, 4)}"
    body = "o, hn, cn = LSTM<hidden_size = 4>(x, a, r, b, , h) y = Squeeze(o, s)"
    made = trap(
        "LSTM with empty slots", "float[T,1,4] x => float[T,1,4] y", body, "LSTM", weights=f"{lstm}, int64[1] s = {{1}}"
    )
    made.model.graph.node[0].output[1] = ""
    made.model.graph.node[0].output[2] = ""
    yield made
    body = "h = MatMul(x, w) d, m = Dropout(h, p, t) y = MatMul(d, w)"
    weights = f"{W}, float p = {{0.5}}, bool t = {{0}}"
    yield trap("Dropout with mask", f"{X} => {Y}, bool[N,4] m", body, weights=weights)
    made = trap("an output left empty", f"{X} => {Y}", body, weights=weights)
    next(node for node in made.model.graph.node if node.op_type == "Dropout").output[1] = ""
    yield made


def _shared() -> Iterator[Trap]:
    body = "h = MatMul(x, w) e = Exp(w) s = ReduceSum(e) r = Mul(x, s) y = Add(r, h)"
    yield trap("an initializer on both sides", f"{X} => {Y}", body)
    body = "t = Transpose<perm = [1, 0]>(w) e = Gather(w, i) h = MatMul(e, t) y = MatMul(h, w)"
    yield trap("tied embeddings", f"int64[N] i => {Y}", body, feeds={"i": np.array([0, 3, 2])})
    body = "h = MatMul(x, x) a = Mul(h, h) b = Add(a, a) y = MatMul(b, h)"
    yield trap("one value in two slots", "float[4,4] x => float[4,4] y", body)
    body = "h = MatMul(x, w) a = Exp(h) b = Sqrt(a) c = Exp(h) d = Add(b, c) y = MatMul(d, w)"
    yield trap("a value with many float32 consumers", f"{X} => {Y}", body)


def _dimensions() -> Iterator[Trap]:
    body = "h = MatMul(x, w) r = Relu(h) y = MatMul(r, w)"
    yield trap("no rows at all", "float[0,4] x => float[0,4] y", body)
    yield trap("a batch of zero fed", f"{X} => {Y}", body, feeds={"x": np.zeros((0, 4), np.float32)})
    yield trap(
        "free dimensions that must match",
        "float[A,B] x, float[C,D] u => float[E,F] y",
        "h = MatMul(x, u) y = Relu(h)",
        feeds={"x": np.ones((2, 3), np.float32), "u": np.ones((3, 5), np.float32)},
    )
    yield trap(
        "an empty constant",
        f"{X} => {Y}",
        "h = MatMul(x, w) c = Concat<axis = 0>(h, e) y = MatMul(c, w)",
        weights=f"{W}, float[0,4] e = {{}}",
    )
    yield trap("a scalar", "float x => float y", "h = Mul(x, x) y = Relu(h)", "")
    body = """h = MatMul(x, w) s = Shape(h) d = Gather(s, i) f = Cast<to = 1>(d) q = Div(h, f) z = Expand(q, s)
    y = MatMul(z, w)"""
    yield trap("arithmetic on shapes", f"{X} => {Y}", body, weights=f"{W}, int64 i = {{1}}")


def _other_types() -> Iterator[Trap]:
    body = "h = MatMul(x, w) d = Cast<to = 11>(h) e = Exp(d) f = Cast<to = 1>(e) y = MatMul(f, w)"
    yield trap("double precision inside", f"{X}, double[N,4] q => {Y}, double[N,4] r", f"{body} r = Add(q, d)")
    body = "h = MatMul(x, w) l = Cast<to = 10>(h) m = MatMul(l, v) n = Add(m, p) f = Cast<to = 1>(n) y = MatMul(f, w)"
    made = trap("float16 inside", f"{X}, float16[N,4] p => {Y}, float16[N,4] m", body, weights=f"{W}, int64 o = {{0}}")
    made.model.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.float16), "v"))
    yield made
    body = "h = MatMul(x, w) l = Cast<to = 16>(h) m = MatMul(l, l) f = Cast<to = 1>(m) y = MatMul(f, w)"
    yield trap("bfloat16 inside", "float[4,4] x => float[4,4] y", body, runs=False)
    body = """h = MatMul(x, w) k = Greater(h, x) n = Not(k) t = Where(n, h, x) i = Cast<to = 7>(n)
    s = StringConcat(a, a) y = MatMul(t, w)"""
    yield trap("truth, numbers and text", f"{X}, string[N] a => {Y}, string[N] s, int64[N,4] i", body)
