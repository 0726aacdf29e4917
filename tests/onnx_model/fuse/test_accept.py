"""A fused model counts where its answers are the source's, to as many digits as the source itself has."""

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser

from ampgraph.onnx_model.fuse import accept
from ampgraph.onnx_model.fuse.accept import TOLERANCE, difference
from ampgraph.onnx_model.run import open_session

SHAPES = {"x": (1, 4, 6, 6)}


def scaled(body: str, weight: float = 1.0, bias: float = 1e4) -> ModelProto:
    """Products of thousands whose differences are of order one: float32 holds three digits of them."""
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,6,6] x) => (float[1,4,6,6] y) {{ {body} }}'
    )
    weights = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32) * np.float32(weight)
    given = {"w": weights, "b": np.full(4, bias, np.float32), "s": np.float32(1.1), "t": np.float32(1.1e4)}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in given.items())
    return model


APART = "c = Conv<pads = [1,1,1,1]>(x, w, b) m = Mul(c, s) d = Sub(m, t) y = Sigmoid(d)"
INSIDE = "m = Conv<pads = [1,1,1,1]>(x, w, b) d = Sub(m, t) y = Sigmoid(d)"


def test_what_the_runtime_moves_by_itself_is_no_difference():
    assert difference(scaled(APART), scaled(INSIDE, 1.1, 1.1e4), SHAPES, None) == ""


@pytest.mark.parametrize("weight", [1.15, -1.1], ids=["five percent off", "turned over"])
def test_what_it_does_not_move_by_is_one(weight):
    assert "answers differently" in difference(scaled(APART), scaled(INSIDE, weight, 1.1e4), SHAPES, None)


def test_where_digits_are_there_the_bar_is_what_it_was():
    plain = "m = Conv<pads = [1,1,1,1]>(x, w, b) y = Sigmoid(m)"
    source, moved = (scaled(plain, 1.0 + off, 0.0) for off in (0.0, 10 * TOLERANCE))
    assert "answers differently" in difference(source, moved, SHAPES, None)


@pytest.mark.parametrize("last", ["z = Abs(c) n = Neg(z) y = Sqrt(n)", "y = Div(c, none)"], ids=["NaN", "infinities"])
def test_answers_without_a_number_show_nothing(last):
    source, other = (scaled(f"c = Conv<pads = [1,1,1,1]>(x, w, b) none = Sub(s, s) {last}", by) for by in (1.0, 2.0))
    said = "answers generated inputs with NaN or infinity throughout"
    assert said in difference(source, other, SHAPES, None)
    assert said in difference(source, source, SHAPES, None)


def images(body: str, weight: np.ndarray, **numbers: np.ndarray) -> ModelProto:
    """Convolutions of images of any size; four times sixteen channels of 3 x 3 are a large weight."""
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,16,H,W] x) => (float[N,C,K,L] y) {{ {body} }}'
    )
    given = {"w": weight, **numbers}
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in given.items())
    return model


WEIGHT = np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype(np.float32)
IMAGES = {"x": (1, 16, 224, 224)}
CONV = "c = Conv<pads = [1,1,1,1]>(x, w)"


def test_a_large_weight_that_is_another_under_the_same_name_is_seen():
    other = WEIGHT.copy()
    other[3, 5, 1, 1] += 0.05
    source = images(f"{CONV} y = Relu(c)", WEIGHT)
    assert difference(source, images(f"{CONV} y = Relu(c)", WEIGHT), IMAGES, None, assumed={"x"}) == ""
    assert "answers differently" in difference(
        source, images(f"{CONV} y = Relu(c)", other), IMAGES, None, assumed={"x"}
    )


@pytest.mark.parametrize(
    "body",
    [
        f"{CONV} y = Transpose<perm = [0,1,3,2]>(c)",
        f"{CONV} p = Pad<mode = 'edge'>(c, ends) y = Relu(p)".replace("'", '"'),
        f"{CONV} t = Transpose<perm = [0,1,3,2]>(c) y = Reshape(t, whole)",
        f"{CONV} r = Reshape(c, modelled) y = Relu(r)",
        f"{CONV} n = Neg(c) y = Relu(n)",
        f"{CONV} a = Add(c, tiny) y = Relu(a)",
        "c = Conv<pads = [1,1,1,1]>(x, w) z = Relu(x) y = Relu(z)",
        "y = Relu(w)",
    ],
    ids=["turned", "larger", "mixed up", "modelled size alone", "sign", "offset", "passed by", "no data in it"],
)
def test_wrong_wiring_is_seen_at_the_sizes_that_are_tried(body):
    source = images(f"{CONV} y = Relu(c)", WEIGHT)
    numbers = {
        "ends": np.array([0, 0, 0, 0, 0, 0, 0, 1]),
        "whole": np.array([0, 0, -1, 96]),
        "modelled": np.array([1, 16, 224, 224]),
        "tiny": np.float32(1e-2),
    }
    assert difference(source, images(body, WEIGHT, **numbers), IMAGES, None, assumed={"x"}) != ""


def test_what_turns_square_images_unseen_is_seen_where_sizes_are_not_asked_for():
    source = images(f"{CONV} s = ReduceSum<keepdims = 1>(c, axes) y = Shape(s)", WEIGHT, axes=np.array([3]))
    source.graph.output[0].type.tensor_type.elem_type = 7
    other = ModelProto()
    other.CopyFrom(source)
    next(each for each in other.graph.initializer if each.name == "axes").CopyFrom(
        numpy_helper.from_array(np.array([2]), "axes")
    )
    assert difference(source, other, IMAGES, None, assumed={"x"}) != ""


LINE = "s = Conv<strides = [48,1]>(x, tall) q = Squeeze(s, two) c = Concat<axis = 1>(q, q) d = Expand(c, fit)"


def line(last: str) -> ModelProto:
    """A line of text that must be 48 high, which no size that it is modelled at says."""
    numbers = {"tall": WEIGHT[:, :, :1, :1] * np.ones((1, 1, 48, 1), np.float32), "two": np.array([2])}
    return images(f"{LINE} y = {last}(d)", WEIGHT, **numbers, fit=np.array([1, 32, 1]))


def test_a_model_that_does_not_run_as_modelled_is_shown_to_answer_alike_where_it_does():
    assert difference(line("Relu"), line("Relu"), IMAGES, None, assumed={"x"}) == ""
    assert "answers differently" in difference(line("Relu"), line("Neg"), IMAGES, None, assumed={"x"})
    assert "does not run on generated inputs" in difference(line("Relu"), line("Relu"), IMAGES, None)


def test_what_holds_at_given_sizes_alone_is_seen():
    """They are what times are modelled at; the file is for all."""
    body = "r = Reshape(x, modelled) y = Relu(r)"
    modelled = np.array([0, 16, 224, 224])
    source = images("y = Relu(x)", WEIGHT)
    fixed = images(body, WEIGHT, modelled=modelled)
    for assumed in ((), {"x"}):
        assert difference(source, fixed, IMAGES, None, assumed=assumed) != ""
    only = images(body, WEIGHT, modelled=modelled)
    assert difference(only, fixed, IMAGES, None) == ""  # the source itself runs at no others


def test_a_length_that_is_a_batch_elsewhere_is_no_small_batch():
    body = "w = Transpose<perm = [0, 2, 1]>(x) p = MatMul(x, w) y = Add(p, mask)"
    text = f"g (float[n,t,8] x, float[t,t] mask) => (float[n,t,t] y) {{ {body} }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    assert difference(model, model, {"x": (4, 16, 8), "mask": (16, 16)}, None) == ""


def test_an_operator_that_opens_in_no_other_way_is_optimized(monkeypatch):
    def picky(model, **words):
        if words.get("optimize") == "disabled":
            raise RuntimeError("no kernel")
        return open_session(model, **words)

    monkeypatch.setattr(accept, "open_session", picky)
    source = images(f"{CONV} y = Relu(c)", WEIGHT)
    assert difference(source, source, IMAGES, None, assumed={"x"}) == ""
    wrong = images(f"{CONV} y = Neg(c)", WEIGHT)
    assert "answers differently" in difference(source, wrong, IMAGES, None, assumed={"x"})
