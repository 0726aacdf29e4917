"""Gathers at every place of a grid are views, and those of one row are the row: by what the places are, once run."""

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.fuse.grids import _are_in_order, _axes_of_one
from tests.onnx_model.fuse.answers import counts_of, model_of

SHAPES = {"x": (2, 5, 16), "m": (2, 5)}
GRID = """s = Shape(m)  b = Gather(s, none)  r = Range(none, b, one)  u = Unsqueeze(r, axes)
    v = Max(u, columns)  w = Shape(v)  e = Expand(u, w)  i = Unsqueeze(e, last)  f = Expand(columns, w)
    j = Unsqueeze(f, last)  k = Concat<axis=-1>(i, j)"""
TYPES = "s = Shape(x)  b = Slice(s, start, end)  t = Concat<axis=0>(b, five)  i = Expand(places, t)"
NORM = "y = LayerNormalization(h, scale)"


def masked(
    gather: str = "q = GatherND(m, k)", grid: str = GRID, columns: range = range(5), opset: int = 17
) -> ModelProto:
    """A normalization, which makes it worth a look, of x and a mask that is gathered at a grid."""
    text = f"""g (float[n,5,16] x, float[n,5] m) => (float[n,5,16] y, float[n,1,1,5] q)
        {{ {grid} {gather} h = Relu(x) {NORM} }}"""
    found = model_of(text, {"scale": (16,)})
    given = {"none": 0, "one": 1, "eight": 8, "axes": [1, 2, 3], "last": [-1], "columns": [[[list(columns)]]]}
    return with_numbers(found, given)


def typed(places: list[int], add: str = "h = Add(x, g)", outputs: str = "", types: str = TYPES) -> ModelProto:
    """A normalization of x and rows of a table, of which nobody but the sizes says which."""
    text = f"""g (float[n,5,16] x) => (float[n,5,16] y{outputs})
        {{ {types} g = Gather(table, i) {add} {NORM} }}"""
    given = {"start": [0], "end": [1], "five": [5], "eight": 8, "places": [places]}
    return with_numbers(model_of(text, {"scale": (16,), "table": (3, 16)}), given)


def with_numbers(model: ModelProto, given: dict[str, object]) -> ModelProto:
    for name, value in given.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    return model


def test_a_gather_at_every_place_of_a_grid_is_a_view():
    found = counts_of(masked(), SHAPES)
    assert found == {"Unsqueeze": 1, "Relu": 1, "Reshape": 2, "SkipLayerNormalization": 1}


@pytest.mark.parametrize(
    "model",
    [
        masked(columns=range(4, -1, -1)),
        masked("q = GatherND<batch_dims=1>(m, d)", "d = Constant<value = int64[2,1,1,5,1] {0,1,2,3,4,0,1,2,3,4}>()"),
        masked(grid=GRID.replace("Concat<axis=-1>(i, j)", "Concat<axis=-1>(i, i)")),
        masked(grid=GRID.replace("r = Range(none, b, one)", "a = Range(none, b, one)  r = Min(a, eight)")),
        masked(
            grid=GRID.replace(
                "r = Range(none, b, one)", "a = Range(none, b, one)  c = Cast<to=3>(a)  r = Cast<to=7>(c)"
            )
        ),
    ],
    ids=["last to first", "batches", "the diagonal", "bounded beyond the modelled sizes", "in a byte"],
)
def test_other_gathers_of_elements_stay(model: ModelProto):
    found = fuse(model, SHAPES)  # of the normalization
    assert found is not None
    assert "GatherND" in {node.op_type for node in found.model.graph.node}


def test_what_sizes_disagree_in_is_left_out_alone():
    """A mask of sequences of another name is gathered by those of x: it is a view where both have as many, else not."""
    model = masked(grid=GRID.replace("Shape(m)", "Shape(x)"))
    model.graph.input[1].type.tensor_type.shape.dim[0].dim_param = "k"
    found = fuse(model, SHAPES)
    assert found is not None
    assert found.counts == {"SkipLayerNormalization": 1}
    assert "GatherND" in {node.op_type for node in found.model.graph.node}


def test_a_gather_of_one_row_is_that_row():
    found = counts_of(typed([1] * 5), {"x": (2, 5, 16)})
    assert found == {"Reshape": 2, "SkipLayerNormalization": 1}


@pytest.mark.parametrize(
    "model",
    [
        typed([1, 1, 2, 1, 1]),
        typed([1] * 5, outputs=", float[n,5,16] g"),
        typed([1] * 5, add="h = Mul(x, g)"),
        typed([1] * 5, add="o = Relu(g)  a = Add(x, g)  h = Add(a, o)"),
        typed(
            [0, 1, 2, 3, 4], types=TYPES.replace("i = Expand(places, t)", "e = Expand(places, t)  i = Div(e, eight)")
        ),
        typed(
            [5] * 5,
            types=TYPES.replace("i = Expand(places, t)", "e = Expand(places, t)  c = Cast<to=9>(e)  i = Cast<to=7>(c)"),
        ),
    ],
    ids=["rows", "an output", "multiplied", "read twice", "one for the modelled places alone", "through a truth"],
)
def test_other_gathers_of_rows_stay(model: ModelProto):
    found = fuse(model, {"x": (2, 5, 16)})  # the sum and its normalization are one, where that is a sum
    assert "Gather" in {node.op_type for node in (found.model if found is not None else model).graph.node}


@pytest.mark.parametrize(
    ("made", "shape", "axes"),
    [((2, 1, 1, 5), (2, 5), (1, 2)), ((1, 1, 5), (1, 5), (1,)), ((2, 5), (2, 5), ()), ((5, 2), (2, 5), None)],
)
def test_axes_of_one_are_where_the_shape_has_none(made, shape, axes):
    assert _axes_of_one(made, shape) == axes
    if axes is not None:
        assert np.expand_dims(np.zeros(shape), axes).shape == made


def test_places_may_count_from_the_end():
    places = np.stack(np.meshgrid([-2, -1], range(3), indexing="ij"), -1)
    assert _are_in_order(places, (2, 3))
    assert not _are_in_order(places[:1], (2, 3))
