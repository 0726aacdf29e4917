"""A fused model counts where its answers are the source's, to as many digits as the source itself has."""

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser

from ampgraph.onnx_model.fuse.accept import TOLERANCE, difference

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
