"""Weights leave a converted model and come back from the model it was made of, cast and transposed as it has them."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.weightless import derived, restored

VALUES = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
BIAS = np.zeros(32, np.float32)


def model(**weights: np.ndarray) -> onnx.ModelProto:
    graph = onnx.parser.parse_graph("g (float[1] x) => (float[1] y) { y = Relu(x) }")
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return onnx.helper.make_model(graph)


def weights_of(found: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}


def test_weights_come_back_as_the_conversion_has_them():
    converted = model(
        w=VALUES.astype(np.float16),
        turned=np.ascontiguousarray(VALUES.T).astype(np.float16),
        renamed=VALUES,
        b=BIAS.astype(np.float16),
    )
    small, kept = derived(converted, model(w=VALUES, b=BIAS))
    assert not kept
    assert small.ByteSize() < 1024
    found = weights_of(restored(small, model(w=VALUES, b=BIAS)))
    for name, value in weights_of(converted).items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value), name


def test_the_real_weights_take_the_place_of_others():
    small, _ = derived(model(w=VALUES.astype(np.float16)), model(w=VALUES))
    assert np.array_equal(weights_of(restored(small, model(w=2 * VALUES)))["w"], (2 * VALUES).astype(np.float16))


def test_weights_are_found_by_what_they_hold_where_another_exporter_names_or_lays_them_otherwise():
    other = VALUES[::-1].copy()
    converted = model(a=VALUES.astype(np.float16), b=other.astype(np.float16))
    small, _ = derived(converted, model(a=VALUES, b=other))
    found = weights_of(restored(small, model(a=other, b=np.ascontiguousarray(VALUES.T))))
    assert np.array_equal(found["a"], VALUES.astype(np.float16))
    assert np.array_equal(found["b"], other.astype(np.float16))


def test_what_is_none_of_the_source_keeps_its_data():
    folded = 3 * VALUES
    small, kept = derived(model(folded=folded), model(w=VALUES))
    assert kept == ("folded",)
    assert np.array_equal(weights_of(restored(small, model(w=VALUES)))["folded"], folded)


@pytest.mark.parametrize("other", [{"v": 2 * VALUES}, {"w": VALUES[:2]}])
def test_another_network_is_refused(other: dict[str, np.ndarray]):
    small, _ = derived(model(w=VALUES.astype(np.float16)), model(w=VALUES))
    with pytest.raises(ValueError, match="w "):
        restored(small, model(**other))
