"""Rows of a batch in another order."""

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser
from own import error, own

from ampgraph.onnx_model.native.inferred import shapes_of
from ampgraph.onnx_model.native.rewrite import rewrite

CONTRIB = "com.microsoft"


PLACES = "int64[5] places = {6, 0, 0, 3, 5}"


def gathered(x: str = "float16[N,7,16]", places: str = PLACES, how: str = "axis=1", y: str = "N,5,16") -> ModelProto:
    dtype = x.split("[")[0]
    graph = f"g ({x} x) => ({dtype}[{y}] y) <{places}> {{ y = Gather<{how}>(x, places) }}"
    return parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {graph}')


def test_rows_at_known_places_are_copied_whole() -> None:
    assert own(gathered()) == {"Rows": 1}


@pytest.mark.parametrize(
    "model",
    [
        gathered("float[N,7,16]"),  # float32
        gathered("float16[N,7,12]", y="N,5,12"),  # no whole vectors
        gathered("float16[7,N,16]", how="axis=0", y="5,N,16"),
        gathered("float16[N,L,16]"),  # as many as there are
        gathered(places="int64[5] places = {-1, 0, 0, 3, 5}"),  # counted from the end
        gathered(places="int64[1,5] places = {6, 0, 0, 3, 5}", y="N,1,5,16"),
        gathered("float16[N,7,2,8]", y="N,5,2,8"),
    ],
)
def test_other_gathers_stay(model: ModelProto) -> None:
    assert rewrite(model, {}) is None


def test_types_are_followed_through_operators_of_the_runtime() -> None:
    graph = f"""g (float16[N,7,16] x) => (float16[N,5,16] y) <int64[5] places = {{6, 0, 0, 3, 5}}>
        {{ p = MatMul(x, w)  h = {CONTRIB}.BiasGelu(p, b)  y = Gather<axis=1>(h, places) }}"""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    generator = np.random.default_rng(0)
    for name, shape in {"w": (16, 16), "b": (16,)}.items():
        array = (generator.standard_normal(shape) / 4).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    value = parser.parse_graph("g (float16[N,7,16] h) => () {}").input[0]
    model.graph.value_info.append(value)
    found = rewrite(model, {})
    assert found is not None
    assert found.counts == {"Linear": 1, "Rows": 1}
    assert error(model, found.model) < 2e-3


@pytest.mark.parametrize(("target", "count"), [("-1, 7, 16", 1), ("0, 7, -1", 0), ("-1, 5, 16", 0), ("-1, 16", 0)])
def test_sizes_are_those_of_a_reshape_where_inference_stops(target: str, count: int) -> None:
    rank = target.count(",") + 1
    graph = f"""g (float16[N,7,32] x, float16[32] b) => (float16[N,M,16] y)
        <{PLACES}, int64[{rank}] target = {{{target}}}>
        {{ h = {CONTRIB}.BiasSplitGelu(x, b)  r = Reshape(h, target)  y = Gather<axis=1>(r, places) }}"""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    found = rewrite(model, {})
    assert (0 if found is None else found.counts["Rows"]) == count


def test_declared_shapes_of_contrib_results_lead_on() -> None:
    """What follows an operator that onnx knows nothing of is known by what the model says of that one's result."""
    graph = f"""g (float16[N,7,16] x) => (float16[M,16] y) <int64[3] flat = {{-1, 7, 16}}, int64[2] last = {{-1, 16}}>
        {{ h = {CONTRIB}.BiasSplitGelu(x, b)  r = Reshape(h, flat)  y = Reshape(r, last) }}"""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 20, "{CONTRIB}": 1]> {graph}')
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(32, np.float16), "b"))
    assert shapes_of(model, {"x": (2, 7, 16)}).get("r") is None
    model.graph.value_info.append(parser.parse_graph("g (float16[N,7,16] h) => () {}").input[0])
    assert shapes_of(model, {"x": (2, 7, 16)})["r"] == (2, 7, 16)
