"""Shape arithmetic: the shapes that follow from sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper, parser

from ampgraph.onnx_model import shape_constants
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.shape_constants import DONE, infer_with_sizes, sizes_in
from ampgraph.onnx_model.shape_operators import LARGEST
from ampgraph.onnx_model.types import Type, infer, types_in, weightless

I64 = np.int64


def i(*values: int) -> np.ndarray:
    return np.array(values, I64)


def shapes_of(text: str, **constants: np.ndarray) -> dict[str, tuple[int, ...] | None]:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return {name: known.shape for name, known in types_in(infer(model, {"x": (2, 3, 8, 8)}).graph).items()}


def test_computed_axes_keep_the_shapes_after_them() -> None:
    text = """(float[2,3,8,8] x) => (float[N,M,K,L] y) {
        axes = Reshape(list, minus)  m = ReduceSum<keepdims = 1>(x, axes)  y = Sub(x, m) }"""
    found = shapes_of(text, list=i(2, 3), minus=i(-1))
    assert found["m"] == (2, 3, 1, 1)
    assert found["y"] == (2, 3, 8, 8)


def test_sizes_taken_from_shapes_in_several_rounds() -> None:
    text = """(float[2,3,8,8] x) => (float[N,M] y) {
        s = Shape(x)  n = ReduceProd<keepdims = 1>(s, zero)  h = Reshape(x, n)
        t = Shape(h)  half = Div(t, two)  pair = Concat<axis = 0>(two, half)  y = Reshape(h, pair) }"""
    text = text.replace("(s, zero)", "(s)")
    assert shapes_of(text, two=i(2))["y"] == (2, 192)


def test_no_round_of_inference_is_for_nothing(monkeypatch) -> None:
    rounds = []
    once = shape_constants.infer_once
    monkeypatch.setattr(shape_constants, "infer_once", lambda light: rounds.append(1) or once(light))
    text = """(float[2,3,8,8] x) => (float[N,M] y) {
        two = Constant<value_ints = [2]>()  list = Constant<value_ints = [0]>()  axes = Reshape(list, minus)
        s = Shape(x)  n = ReduceProd<keepdims = 1>(s)  half = Div(n, two)  pair = Concat<axis = 0>(two, half)
        y = Reshape(x, pair) }"""
    assert shapes_of(text, minus=i(-1))["y"] == (2, 192)
    assert len(rounds) == 2


def test_bodies_use_what_is_known_around_them() -> None:
    model = parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3,8,8] x, bool c) => (float[N,M] y) {
        s = Shape(x)  n = Slice(s, one, two)
        y = If (c) <
            then_branch = t () => (float[P,Q] a) { p = Concat<axis = 0>(n, minus)  a = Reshape(x, p) },
            else_branch = f () => (float[P,Q] b) { q = Concat<axis = 0>(n, minus)  b = Reshape(x, q) }>
    }""")
    for name, array in {"one": i(1), "two": i(2), "minus": i(-1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    inferred = infer(model, {})
    assert types_in(inferred.graph.node[2].attribute[0].g)["a"].shape == (3, 128)
    assert types_in(inferred.graph)["y"].shape == (3, 128)


def test_what_is_large_or_impossible_is_left_alone() -> None:
    text = f"""(float[2,3,8,8] x) => (float[N] y) {{
        size = Constant<value_ints = [{LARGEST * 1000}]>()  big = ConstantOfShape(size)
        zero = Constant<value_int = 0>()  one = Constant<value_int = 1>()
        never = Div(one, zero)  line = Range(zero, huge, one)  y = Reshape(x, minus) }}"""
    found = shapes_of(text, huge=np.array(10**9), minus=i(-1))
    assert found["y"] == (384,)


def test_the_model_keeps_its_nodes() -> None:
    text = "(float[2,3] x) => (float[N] y) { s = Shape(x)  p = ReduceProd(s)  y = Reshape(x, p) }"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    inferred = infer_with_sizes(weightless(model))
    assert [node.op_type for node in inferred.graph.node] == ["Shape", "ReduceProd", "Reshape"]
    assert [node.output[0] for node in model.graph.node] == ["s", "p", "y"]


def test_what_the_last_shapes_decide_is_computed_too() -> None:
    """No shape waits for the scale of an attention, which exporters take from the width of its heads."""
    text = """(float[2,16] x) => (float[2,16] y) {
        s = Shape(x)  w = Gather(s, one)  f = Cast<to = 1>(w)  r = Sqrt(f)  y = Div(x, r) }"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.append(numpy_helper.from_array(np.array(1, I64), "one"))
    shapes, results = sizes_in(weightless(model))
    assert shapes["y"] == (2, 16)
    assert results["r"] == 4


def test_a_deep_model_at_an_old_opset_is_known_to_its_end() -> None:
    """Before opset 14 a reshape is inferred of constants alone: every layer waits for those of the one before it."""
    body, last = [], "x"
    for layer in range(30):
        body.append(f"s{layer} = Shape({last})  r{layer} = Reshape({last}, s{layer})  y{layer} = Relu(r{layer})")
        last = f"y{layer}"
    text = '<ir_version: 8, opset_import: ["" : 13]> g (float[2,3] x) => (float[a,b] y) '
    model = parser.parse_model(f"{text} {{ {'  '.join(body)}  y = Transpose({last}) }}")
    shapes, _ = sizes_in(weightless(model))
    assert shapes["y"] == (3, 2)
    assert shapes[last] == (2, 3)


LAYERS = (
    "s{i} = Shape({x})  y{i} = Reshape({x}, s{i})",
    "s{i} = Shape({x})  g{i} = Gather(s{i}, zero)  c{i} = Concat<axis = 0>(g{i}, minus)  y{i} = Reshape({x}, c{i})",
    "s{i} = Shape({x})  d{i} = Mul(s{i}, two)  h{i} = Div(d{i}, two)  y{i} = Expand({x}, h{i})",
    "t{i} = Constant<value_ints = [0, -1]>()  y{i} = Reshape({x}, t{i})",
    "y{i} = Transpose({x})",
    "y{i} = Concat<axis = 0>({x}, {x})",
    "n{i} = NonZero({x})  y{i} = Cast<to = 1>(n{i})",  # as long as there are elements that are not 0
    "y{i} = custom.Unheard({x})",
)


def layered(kinds: list[str], opset: int, *, inside: bool = False) -> ModelProto:
    """A model of such layers, one after the other; `inside` a branch."""
    lines, last = [], "x"
    for layer, kind in enumerate(kinds):
        lines.append(kind.format(i=layer, x=last))
        last = f"y{layer}"
    body = f"{'  '.join(lines)}  y = Relu({last})"
    if inside:
        other = "else_branch = f () => (float[c,d] z) { z = Relu(x) }"
        body = f"y = If (c) < then_branch = t () => (float[c,d] y) {{ {body} }}, {other}>"
    inputs = "float[2,3] x, bool c" if inside else "float[2,3] x"
    head = f'<ir_version: 8, opset_import: ["" : {opset}, "custom" : 1]>'
    model = parser.parse_model(f"{head} g ({inputs}) => (float[a,b] y) {{ {body} }}")
    constants = {"zero": i(0), "minus": i(-1), "two": i(2)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


def whole_and_walked(length: int, told: Callable[[], Any]) -> tuple[Any, Any]:
    """What is told of a model that is inferred as a whole in every round, and in stretches of so many nodes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shape_constants, "WHOLE_ROUNDS", shape_constants.ROUNDS)
        whole = told()
        patched.setattr(shape_constants, "WHOLE_ROUNDS", 0)
        patched.setattr(shape_constants, "SHORTEST", length)
        return whole, told()


STACKS, OPSETS = st.lists(st.sampled_from(LAYERS), min_size=1, max_size=12), st.sampled_from((12, 13, 17))


@given(STACKS, OPSETS, st.integers(1, 9))
def test_stretch_by_stretch_as_much_is_known_as_of_the_whole(kinds: list[str], opset: int, length: int) -> None:
    """Of a model that can run at its sizes."""
    model = layered(kinds, opset)
    (sizes, results), (walked, found) = whole_and_walked(length, lambda: sizes_in(weightless(model)))
    shapes = [{name: shape for name, shape in each.items() if not name.endswith(DONE)} for each in (walked, sizes)]
    assert shapes[0] == shapes[1]
    assert found.keys() == results.keys()
    assert all(np.array_equal(found[name], results[name]) for name in results)


@given(STACKS, OPSETS, st.integers(1, 9))
def test_and_as_much_in_bodies(kinds: list[str], opset: int, length: int) -> None:
    model = layered(kinds, opset, inside=True)

    def told() -> dict[str, Type]:
        branch = infer_with_sizes(weightless(model)).graph.node[0].attribute[0].g
        return {name: known for name, known in types_in(branch).items() if not name.endswith(DONE)}

    whole, walked = whole_and_walked(length, told)
    assert walked == whole


@pytest.mark.parametrize("inside", [False, True])
def test_the_whole_of_a_deep_model_is_inferred_a_few_times(monkeypatch, inside: bool) -> None:
    """A body stands in every stretch of the graph around it, of which there are few."""
    nodes, once = [], shape_constants.infer_once

    def counted(light: ModelProto) -> ModelProto:
        nodes.append(sum(1 for _ in walk(light.graph)))
        return once(light)

    monkeypatch.setattr(shape_constants, "infer_once", counted)
    model = layered([LAYERS[0]] * 300, 13, inside=inside)
    inferred = infer_with_sizes(weightless(model)).graph
    assert types_in(inferred.node[0].attribute[0].g if inside else inferred)["y"].shape == (2, 3)
    whole = sum(1 for _ in walk(model.graph))
    assert sum(count == whole for count in nodes) <= shape_constants.WHOLE_ROUNDS + 3
    assert max(count for count in nodes if count < whole - 2) == shape_constants.SHORTEST
