"""Sizes of free dimensions: found where the modelled ones do not fit, and no others than may be changed."""

from pathlib import Path

import pytest
from onnx import ModelProto

from ampgraph.errors import CheckError
from ampgraph.onnx_model.check import check
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import open_session
from ampgraph.onnx_model.sizes import candidates, fitting_inputs
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
    with pytest.raises(CheckError, match=r"does not run on generated inputs .*--shape"):
        check(Loaded(model, Path()), model, Precision.FLOAT16, ())
    assert shapes_that_run(model, x=(1, 9)) == {"x": (1, 9)}
