"""Values are paired by name and body, through casts and renamed values, and through fused operators."""

from pathlib import Path

from onnx import ModelProto

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.inventory import take_inventory
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.matching_values import Matching, match
from tests.models import W, convert, parse, weight


def matching(one: ModelProto, other: ModelProto) -> Matching:
    first, second = (take_inventory(Loaded(model, Path())) for model in (one, other))
    return match(first, second)


def names(found: Matching) -> list[tuple[str, str]]:
    return [(pair.reference.value.name, pair.candidate.value.name) for pair in found.pairs]


SOURCE = parse(f"g (float[2, 4] x) => (float[2, 4] y) <{W}> {{ h = MatMul(x, w) y = Exp(h) }}")


def test_either_may_be_the_converted_one() -> None:
    low = convert(SOURCE, low="Exp").model
    assert names(matching(SOURCE, low)) == [("x", "x_float16"), ("h", "h"), ("y", "y_float16"), ("y", "y")]
    assert names(matching(low, SOURCE)) == [("h", "h"), ("y_float16", "y")]
    assert names(matching(low, low)) == [(name, name) for name in ("x_float16", "h", "y_float16", "y")]


def test_two_conversions_of_other_precisions_meet() -> None:
    some, all_ = convert(SOURCE, keep="Exp").model, convert(SOURCE, low="Exp").model
    found = matching(some, all_)
    assert names(found) == [("x_float16", "x_float16"), ("h", "h"), ("y", "y_float16"), ("y", "y")]
    assert not found.unmatched


def branches(inner: str) -> ModelProto:
    """A value `v` in the one branch, and one of the given name in the other."""
    return parse(
        "g (float[2] x, bool c) => (float[2] y) { y = If(c)"
        f"<then_branch = t () => (float[2] a) {{ {inner} = Neg(x) a = Exp({inner}) }},"
        "else_branch = e () => (float[2] b) { v = Abs(x) b = Exp(v) }> }"
    )


def test_names_in_one_body_are_not_those_of_another() -> None:
    found = matching(branches("v"), branches("u"))
    assert names(found) == [("a", "a"), ("v", "v"), ("b", "b"), ("y", "y")]
    assert [pair.candidate.type for pair in found.pairs] == ["Exp", "Abs", "Exp", "If"]
    assert [entry.value.name for entry in found.unmatched] == ["u"]
    assert [entry.value.name for entry in found.missing] == ["v"]


def test_fused_operators_keep_what_bears_a_name() -> None:
    """A GELU and its bias become one operator: its result is the source's, what was inside has no counterpart."""
    source = parse(
        f"g (float[2, 4] x) => (float[2, 4] y) <{W}, {weight('b', 4)}> {{ h = MatMul(x, w) s = Add(h, b) "
        "root = Constant<value = float {1.4142135}>() one = Constant<value = float {1.0}>() "
        "half = Constant<value = float {0.5}>() q = Div(s, root) e = Erf(q) p = Add(e, one) m = Mul(s, p) "
        "k = Mul(m, half) y = MatMul(k, w) }"
    )
    fused = fuse(source, {"x": (2, 4)})
    assert fused is not None
    found = matching(source, fused.model)
    assert names(found) == [("h", "h"), ("k", "k"), ("y", "y")]
    assert found.pairs[1].candidate.type == "com.microsoft.BiasGelu"
    assert [entry.value.name for entry in found.missing] == ["s", "q", "e", "p", "m"]
