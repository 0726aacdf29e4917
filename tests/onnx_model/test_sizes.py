"""Sizes of free dimensions: found where the modelled ones do not fit, and no others than may be changed."""

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ampgraph.errors import ModelError
from ampgraph.onnx_model.check import check
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import open_session
from ampgraph.onnx_model.sizes import MOST_SMALL, candidates, first_that_runs, fitting_inputs, small_first
from ampgraph.precision import Precision
from tests.models import parse


def sound() -> ModelProto:
    """A window no shorter than a kernel, and a state whose unnamed dimension is the batch."""
    body = "u = Unsqueeze(x, one) c = Conv(u, k) y = Relu(c) z = Reshape(s, flat) r = Add(z, z)"
    weights = f"int64[1] one = {{1}}, float[1,1,200] k = {{{', '.join(['0.1'] * 200)}}}, int64[2] flat = {{2, 4}}"
    return parse(f"g (float[B,T] x, float[2,S,4] s) => (float[B,1,C] y, float[2,4] r) <{weights}> {{ {body} }}")


def shapes_that_run(model: ModelProto, **shapes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    feeds, answers = fitting_inputs(model, open_session(model), shapes)
    assert answers
    return {name: feed.shape for name, feed in feeds.items()}


def test_sizes_that_fit_are_left_alone() -> None:
    model = parse("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    assert shapes_that_run(model) == {"x": (1, 3, 224, 224)}


def test_two_sizes_are_found_together() -> None:
    assert shapes_that_run(sound()) == {"x": (1, 512), "s": (2, 1, 4)}


def test_given_shapes_and_batches_stay() -> None:
    assert shapes_that_run(sound(), x=(3, 300)) == {"x": (3, 300), "s": (2, 1, 4)}
    changed = {shapes["x"] for shapes in candidates(sound(), {"s": (2, 1, 4)})}
    assert {shape[0] for shape in changed} == {1}
    assert {shapes["s"] for shapes in candidates(sound(), {"s": (2, 1, 4)})} == {(2, 1, 4)}


def test_one_symbol_has_one_size() -> None:
    model = parse("g (float[N,T] x, float[N,T,T] m) => (float[N,T] y) { y = Relu(x) }")
    assert all(found["x"][1] == found["m"][1] == found["m"][2] for found in candidates(model, {}))


def test_what_never_fits_is_said_of_the_modelled_sizes() -> None:
    model = parse("g (float[N,H] x) => (float[3,3] y) <int64[2] to = {3, 3}> { y = Reshape(x, to) }")
    with pytest.raises(Exception, match=r"Input shape:\{1,128\}"):  # onnxruntime's exceptions share no base class
        fitting_inputs(model, open_session(model), {})
    with pytest.raises(ModelError, match=r"does not run on generated inputs .*--shape"):
        check(Loaded(model, Path()), model, Precision.FLOAT16, ())
    assert shapes_that_run(model, x=(1, 9)) == {"x": (1, 9)}


def test_images_are_small_first_and_no_side_like_another() -> None:
    model = parse("g (float[N,3,H,W] x) => (float[N,3,H,W] y) { y = Relu(x) }")
    modelled = {"x": (2, 3, 224, 224)}
    found = list(small_first(model, modelled, {"x"}))
    assert found[0] == {"x": (2, 3, 64, 96)}
    heights = [shapes["x"][2] for shapes in found[1:] if shapes["x"][3] == 96]
    assert heights[:4] == [1, 16, 32, 48]
    assert modelled in found
    assert list(small_first(model, modelled, ())) == [modelled]


def test_no_sizes_are_tried_twice_and_not_for_ever() -> None:
    model = parse("g (float[N,3,H,W] x, float[N,T] s) => (float[N,3,H,W] y) { y = Relu(x) }")
    found = list(small_first(model, {"x": (1, 3, 224, 224), "s": (1, 128)}, {"x", "s"}))
    assert len(found) == MOST_SMALL
    assert all(one not in found[:index] for index, one in enumerate(found))


def test_one_symbol_of_an_image_is_one_small_size() -> None:
    model = parse("g (float[N,3,S,S] x, float[N,3,S,S] m) => (float[N,3,S,S] y) { y = Add(x, m) }")
    shapes = dict.fromkeys("xm", (1, 3, 224, 224))
    for found in small_first(model, shapes, shapes):
        assert len({found[name][axis] for name in "xm" for axis in (2, 3)}) == 1


def test_a_line_of_text_is_as_high_as_it_must_be_and_no_larger() -> None:
    model = parse("""g (float[N,1,H,W] x) => (float[N,48,V] y) <int64[3] to = {0, 48, -1}> {
        a = MaxPool<kernel_shape = [1, 3]>(x)  s = Squeeze(a, one)  y = Reshape(s, to)  z = Add(s, k) }""")
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array([1]), "one"), numpy_helper.from_array(np.ones((48, 1), np.float32), "k")]
    )
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 48, "V"]))
    feeds, _ = first_that_runs(model, open_session(model), small_first(model, {"x": (1, 1, 224, 224)}, {"x"}))
    assert feeds["x"].shape == (1, 1, 48, 96)


def test_what_runs_as_modelled_alone_is_run_so() -> None:
    model = parse("g (float[N,1,H,W] x) => (float[N,50176] y) <int64[2] to = {-1, 50176}> { y = Reshape(x, to) }")
    feeds, _ = first_that_runs(model, open_session(model), small_first(model, {"x": (1, 1, 224, 224)}, {"x"}))
    assert feeds["x"].shape == (1, 1, 224, 224)
