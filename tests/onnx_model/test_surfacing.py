"""Surfacing hands out every value of every body, and changes nothing that a model computes."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto

from ampgraph.onnx_model.compare_values import data_probe, size_probe, turns_of
from ampgraph.onnx_model.inventory import Inventory, take_inventory
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.surfacing import Probe, surface, unreachable
from ampgraph.onnx_model.turns import Turn
from tests.models import parse

GROWING = """
g (float[2] x, int64 n) => (float[N] y, float[M, 2] z) {
    y, z = Loop(n, "", x)<body = b (int64 i, bool g, float[K] a) => (bool h, float[L] grown, float[2] out) {
        h = Identity(g)
        two = Constant<value = int64 {2}>()
        rest = Mod(i, two)
        odd = Cast<to = 9>(rest)
        extra = If(odd)<then_branch = t () => (float[P] twice) { twice = Concat<axis = 0>(x, x) },
                        else_branch = e () => (float[Q] once) { once = Neg(x) }>
        grown = Concat<axis = 0>(a, extra)
        out = Add(x, x)
    }>
}
"""
FEEDS = {"x": np.array([1, 2], np.float32), "n": np.array(4)}


def inventory_of(model: ModelProto) -> Inventory:
    from pathlib import Path

    return take_inventory(Loaded(model, Path()))


def by_turns(model: ModelProto, names: tuple[str, ...], *, stack: bool) -> dict[str, list[tuple[Turn, np.ndarray]]]:
    """What the named values were at every turn."""
    entries = [entry for entry in inventory_of(model).made if entry.value.name in names]
    sizes, where = surface(model, [size_probe(entry, stack=stack) for entry in entries], keep_outputs=True)
    first = run(open_session(sizes, provider=CPU, optimize="disabled"), FEEDS)
    turns = [turns_of(entry, first[name]) for entry, name in zip(entries, where, strict=True)]
    probes = [data_probe(entry, each) for entry, each in zip(entries, turns, strict=True)]
    values, where = surface(model, probes, keep_outputs=False)
    found = run(open_session(values, provider=CPU, optimize="disabled"), FEEDS)
    cut = {}
    for entry, each, name in zip(entries, turns, where, strict=True):
        ends = np.cumsum([int(np.prod(turn.shape)) for turn in each])
        pieces = np.split(np.asarray(found[name]).reshape(-1), ends[:-1]) if each else []
        cut[entry.value.name] = [(turn, piece.reshape(turn.shape)) for turn, piece in zip(each, pieces, strict=True)]
    return cut


@pytest.mark.parametrize("stack", [True, False])
def test_values_whose_shape_changes_from_step_to_step(stack: bool) -> None:
    found = by_turns(parse(GROWING), ("grown", "twice", "once", "out", "i"), stack=stack)
    assert [turn for turn, _ in found["grown"]] == [Turn((n,), (step,)) for step, n in enumerate((4, 8, 10, 14))]
    assert [turn.steps for turn, _ in found["twice"]] == [(1,), (3,)]
    assert [turn.steps for turn, _ in found["once"]] == [(0,), (2,)]
    np.testing.assert_array_equal(found["twice"][1][1], [1, 2, 1, 2])
    np.testing.assert_array_equal(found["grown"][1][1], [1, 2, -1, -2, 1, 2, 1, 2])
    assert [list(value) for _, value in found["out"]] == [[2, 4]] * 4


@pytest.mark.parametrize("opset", [9, 10, 11, 13, 17, 20, 23])
def test_branches_hand_out_nothing_where_they_are_not_taken(opset: int) -> None:
    text = (
        "g (float[3] x, bool c) => (float[N] y) { y = If(c)"
        "<then_branch = t () => (float[3] a) { a0 = Neg(x) a = Exp(a0) },"
        "else_branch = e () => (float[3] b) { b0 = Abs(x) b = Exp(b0) }> }"
    )
    model = parse(text, opset=opset, ir=4 if opset < 20 else 10)
    probes = [Probe(((0, index),), name, TensorProto.FLOAT) for index, name in enumerate(("a0", "b0"))]
    changed, names = surface(model, probes, keep_outputs=True)
    session = open_session(changed, provider=CPU, optimize="disabled")
    x = np.array([1, -2, 3], np.float32)
    for taken in (True, False):
        found = run(session, {"x": x, "c": np.array(taken)})
        np.testing.assert_array_equal(found[names[0]], -x if taken else [])
        np.testing.assert_array_equal(found[names[1]], [] if taken else np.abs(x))


def test_a_loop_in_a_loop() -> None:
    model = parse(
        'g (float[2] x, int64 n) => (float[2] y) { y = Loop(n, "", x)'
        "<body = b (int64 i, bool g, float[2] a) => (bool h, float[2] p) { h = Identity(g) "
        'p = Loop(i, "", a)<body = d (int64 j, bool k, float[2] q) => (bool l, float[2] r)'
        "{ l = Identity(k) r = Add(q, q) }> }> }"
    )
    found = by_turns(model, ("r", "p"), stack=True)
    assert [turn.steps for turn, _ in found["r"]] == [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
    assert [float(value[0]) for _, value in found["r"]] == [2, 4, 8, 16, 32, 64]
    assert [turn.steps for turn, _ in found["p"]] == [(0,), (1,), (2,), (3,)]


def test_a_loop_that_never_runs_hands_out_nothing() -> None:
    model = parse(
        'g (float[2] x, int64 n) => (float[2] y) { zero = Sub(n, n) y = Loop(zero, "", x)'
        "<body = b (int64 i, bool g, float[2] a) => (bool h, float[2] p) { h = Identity(g) p = Neg(a) }> }"
    )
    for stack in (True, False):
        assert by_turns(model, ("p",), stack=stack) == {"p": []}


def test_the_model_itself_is_left_alone_and_its_outputs_are_the_same() -> None:
    model = parse(GROWING)
    before = model.SerializeToString(deterministic=True)
    entries = inventory_of(model).made
    changed, names = surface(
        model, [data_probe(entry) for entry in entries if entry.value.kind == "tensor"], keep_outputs=True
    )
    assert model.SerializeToString(deterministic=True) == before
    assert len(set(names)) == len(names)
    expected = run(open_session(model, provider=CPU), FEEDS)
    found = run(open_session(changed, provider=CPU, optimize="disabled"), FEEDS)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_bodies_that_cannot_be_looked_into_are_told_with_the_reason() -> None:
    branch = (
        "{ y = If(c)<then_branch = t () => (float[1] a) { a = Neg(x) },"
        "else_branch = e () => (float[1] b) { b = Abs(x) }> }"
    )
    old = parse(f"g (float[1] x, bool c) => (float[1] y) {branch}", opset=8, ir=3)
    assert set(unreachable(old).values()) == {"opset 8 has no NonZero"}
    assert not unreachable(parse(GROWING))
    mapped = parse(
        "g (seq(float[1]) x) => (seq(float[1]) y) "
        "{ y = SequenceMap<body = b (float[1] a) => (float[1] r) { r = Neg(a) }>(x) }"
    )
    assert unreachable(mapped) == {((0, 0),): "nothing is known of the bodies of SequenceMap"}
