"""Numbers by channel around convolutions end up in their weights, wherever that answers the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from tests.onnx_model.fuse.answers import counts_of, model_of

X, SHAPE = "float[n,8,9,9] x", {"x": (2, 8, 9, 9)}
WEIGHTS = {
    "w": (8, 8, 3, 3), "v": (8, 8, 3, 3), "point": (8, 8, 1, 1), "deep": (8, 1, 3, 3), "pairs": (16, 4, 3, 3),
    "up": (8, 4, 2, 2), "b": (8,),
    "one": (1,), "two": (1, 1), "rows": (8, 1, 1), "whole": (1, 8, 1, 1), "columns": (9,), "grown": (1, 1, 1, 1, 1),
    "scale": (8,), "shift": (8,), "mean": (8,),
}  # fmt: skip
PAD, NORM = "<pads = [1, 1, 1, 1]>", "BatchNormalization<epsilon = 0.01>"


def model(body: str, opset: int = 17, outputs: str = "float[n,C,H,W] y") -> ModelProto:
    found = model_of(f"g ({X}) => ({outputs}) {{ {body} }}", WEIGHTS, opset)
    numbers = {"variance": np.linspace(0.5, 2.0, 8), "nought": np.zeros(()), "tiny": np.full(1, 1e-5)}
    for name, values in numbers.items():
        found.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    return found


@pytest.mark.parametrize(
    "after",
    [
        "m = Mul(c, one) y = Add(m, two)",
        "a = Add(c, rows) m = Mul(rows, a) y = Add(whole, m)",
        "m = Mul(one, c) d = Mul(whole, m) a = Add(d, one) e = Mul(a, rows) y = Add(e, rows)",
        f"y = {NORM}(c, scale, shift, mean, variance)",
        f"a = Add(c, rows) n = {NORM}(a, scale, shift, mean, variance) m = Mul(n, rows) y = Add(m, one)",
    ],
)
@pytest.mark.parametrize(
    "conv", [f"Conv{PAD}(x, w)", "Conv<strides = [2, 2]>(x, w, b)", f"Conv{PAD[:-1]}, group = 8>(x, deep)"]
)
def test_what_follows_a_convolution_is_in_its_weights(conv: str, after: str) -> None:
    found = counts_of(model(f"c = {conv} {after}"), SHAPE)
    apart = "group" in conv  # biases of convolutions in groups are sums again (bias.py)
    assert found == {"Conv": 1, **({"Add": 1} if apart else {})}


def test_transposed_convolutions_are_as_good() -> None:
    norm = f"n = {NORM}(c, scale, shift, mean, variance)"
    body = f"c = ConvTranspose<strides = [2, 2]>(x, w) {norm} y = Mul(n, one)"
    assert counts_of(model(body), SHAPE) == {"ConvTranspose": 1}
    groups = body.replace("<strides", "<group = 2, strides").replace("w)", "up)")
    assert fuse(model(groups), SHAPE) is None


@pytest.mark.parametrize(
    "body",
    [
        f"c = Conv{PAD}(x, w) y = Add(c, one)",
        f"c = Conv{PAD}(x, w) y = Mul(c, columns)",
        f"c = Conv{PAD}(x, w) y = Mul(c, tiny)",
        f"c = Conv{PAD}(x, w) m = Mul(c, one) y = Add(m, c)",
        f"c = Conv{PAD}(x, w) y = Mul(c, x)",
        f"c = Conv{PAD}(x, w) y = Mul(c, c)",
        f"k = Mul(w, one) c = Conv{PAD}(x, x) y = Mul(c, one)",
        f"c = Conv{PAD}(x, w) r = Relu(c) y = {NORM}(r, scale, shift, mean, variance)",
    ],
    ids=["a bias alone", "by column", "too small", "read twice", "no constant", "itself", "no weights", "after Relu"],
)
def test_what_cannot_be_in_the_weights_after_stays(body: str) -> None:
    assert fuse(model(body), SHAPE) is None


def test_a_value_that_grows_stays() -> None:
    body = f"c = Conv{PAD}(x, w) y = Mul(c, grown)"
    assert fuse(model(body, outputs="float[1,n,C,H,W] y"), SHAPE) is None


def test_a_result_that_is_asked_for_stays() -> None:
    body = f"c = Conv{PAD}(x, w) y = Mul(c, one)"
    assert fuse(model(body, outputs="float[n,C,H,W] c, float[n,C,H,W] y"), SHAPE) is None


@pytest.mark.parametrize(
    "before", ["m = Mul(x, one) a = Add(m, two)", "m = Mul(rows, x) a = Add(whole, m)", "a = Add(x, rows)"]
)
@pytest.mark.parametrize(
    "conv", ["Conv(a, point)", "Conv(a, w, b)", 'Conv<auto_pad = "VALID", strides = [2, 2]>(a, w)']
)
def test_what_comes_before_a_convolution_without_a_border_is_in_its_weights(conv: str, before: str) -> None:
    assert counts_of(model(f"{before} y = {conv}"), SHAPE) == {"Conv": 1}


@pytest.mark.parametrize("added", ["one", "rows"])
@pytest.mark.parametrize("factor", ["two", "whole"])
@pytest.mark.parametrize("conv", [f"Conv{PAD}(a, w, b)", 'Conv<auto_pad = "SAME_UPPER">(a, w)'])
def test_before_a_border_what_is_added_stays(conv: str, factor: str, added: str) -> None:
    assert counts_of(model(f"m = Mul(x, {factor}) a = Add(m, {added}) y = {conv}"), SHAPE) == {"Conv": 1, "Add": 1}
    assert counts_of(model(f"a = Mul(x, {factor}) y = {conv}"), SHAPE) == {"Conv": 1}
    assert fuse(model(f"a = Add(x, {added}) y = {conv}"), SHAPE) is None


@pytest.mark.parametrize(("weight", "groups"), [("deep", 8), ("pairs", 2)])
@pytest.mark.parametrize("factor", ["one", "rows"])
def test_in_groups_each_channel_has_its_own(weight: str, groups: int, factor: str) -> None:
    body = f"m = Mul(x, {factor}) a = Add(m, whole) y = Conv<group = {groups}>(a, {weight})"
    assert counts_of(model(body), SHAPE) == {"Conv": 1, "Add": 1}  # its bias, apart


def test_all_that_read_a_value_have_to_be_convolutions() -> None:
    before = "m = Mul(x, one) a = Add(m, two)"
    two = f"{before} c = Conv{PAD}(a, w) d = Conv{PAD}(a, v) y = Add(c, d)"
    assert counts_of(model(two), SHAPE) == {"Conv": 2, "Add": 2}
    one_without_a_border = f"{before} c = Conv{PAD}(a, w) d = Conv(a, point) y = Add(c, d)"
    assert counts_of(model(one_without_a_border), SHAPE) == {"Conv": 2, "Add": 2}
    assert fuse(model(f"{before} c = Conv{PAD}(a, w) y = Add(c, a)"), SHAPE) is None
    assert fuse(model(f"{before} y = ConvTranspose(a, w)"), SHAPE) is None


@pytest.mark.parametrize("factor", ["nought", "tiny"])
def test_nothing_is_divided_by_next_to_nothing(factor: str) -> None:
    assert fuse(model(f"m = Mul(x, {factor}) a = Add(m, one) y = Conv{PAD}(a, w)"), SHAPE) is None


def test_one_after_the_other() -> None:
    """As PP-OCRv4's blocks are: scaled, shifted, activated, scaled, shifted; the same weights twice."""
    block = (
        "m{n} = Mul(one, c{n}) a{n} = Add(m{n}, two) r{n} = Relu(a{n}) s{n} = Mul(rows, r{n}) x{n} = Add(s{n}, whole)"
    )
    first, second = block.replace("{n}", "1"), block.replace("{n}", "2")
    body = f"c1 = Conv{PAD}(x, w, b) {first} c2 = Conv(x1, point) {second} y = Conv{PAD}(x2, w, b)"
    assert counts_of(model(body), SHAPE) == {"Conv": 3, "Relu": 2, "Add": 1}


KINDS = st.sampled_from(["Add({}, one)", "Add({}, rows)", "Mul({}, whole)", "Mul(one, {})", "Relu({})"])


@settings(max_examples=25, deadline=None)
@given(st.lists(KINDS, max_size=4), st.lists(KINDS, max_size=4), st.booleans(), st.booleans())
def test_answers_stay_whatever_is_around(before: list[str], after: list[str], padded: bool, grouped: bool) -> None:
    names = ["x", *(f"v{place}" for place in range(len(before) + len(after) + 1))]
    how = f"group = {8 if grouped else 1}, pads = [{padded:d}, {padded:d}, 0, 0]"
    conv = f"Conv<{how}>({{}}, {'deep' if grouped else 'w'}, b)"
    parts = [*before, conv, *after]
    body = " ".join(f"{name} = {part.format(last)}" for last, name, part in zip(names, names[1:], parts, strict=False))
    counts_of(model(f"{body} y = Identity({names[len(parts)]})"), SHAPE)
