"""Views: whatever chain of reshapes, transposes and slices, a view reads what numpy gives."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ampgraph.onnx_model.fuse.view import (
    View,
    covers_rows,
    is_whole,
    repeated,
    reshaped,
    sliced,
    transposed,
    whole,
    with_rows_of,
)

SIZES = st.sampled_from((1, 2, 3, 4, 6))
SHAPES = st.lists(SIZES, min_size=1, max_size=4).map(tuple)


def positions(dim: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Where each place of a dimension lies in the base."""
    found = np.zeros(1, np.int64)
    for size, stride in dim:
        found = (found[:, None] + np.arange(size) * stride).reshape(-1)
    return found


def read(view: View, base: np.ndarray) -> np.ndarray:
    """The view's elements, of a base that lies in memory as it is written."""
    places = np.array(view.offset)
    for dim in view.dims:
        places = places[..., None] + positions(dim)
    return base.reshape(-1)[places]


@st.composite
def regrouped(draw, elements: int) -> tuple[int, ...]:
    """A shape of that many elements."""
    shape = []
    while elements > 1:
        shape.append(draw(st.sampled_from([size for size in range(2, elements + 1) if elements % size == 0])))
        elements //= shape[-1]
    ones = draw(st.lists(st.integers(0, len(shape)), max_size=2))
    for place in ones:
        shape.insert(place, 1)
    return tuple(shape)


def step(data: st.DataObject, view: View, array: np.ndarray) -> tuple[View | None, np.ndarray]:
    """One random move of a view and of the array that it reads."""
    kinds = ["reshape", *(("transpose", "slice", "squeeze") if array.ndim else ()), *(["repeat"] * (1 in array.shape))]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "reshape":
        shape = data.draw(regrouped(array.size))
        return reshaped(view, shape), array.reshape(shape)
    if kind == "transpose":
        order = data.draw(st.permutations(range(array.ndim)))
        return transposed(view, order), array.transpose(order)
    if kind == "squeeze":
        shape = tuple(size for size in array.shape if size != 1)
        return reshaped(view, shape), array.reshape(shape)
    if kind == "repeat":
        axis, times = array.shape.index(1), data.draw(st.integers(1, 3))
        return repeated(view, axis, times), array.repeat(times, axis)
    axis = data.draw(st.integers(0, array.ndim - 1))
    start = data.draw(st.integers(0, array.shape[axis] - 1))
    size = data.draw(st.integers(1, array.shape[axis] - start))
    return sliced(view, axis, start, size), np.take(array, range(start, start + size), axis)


def moved(data: st.DataObject, base: np.ndarray, steps: int = 6) -> tuple[View, np.ndarray]:
    """A view after random moves, those that it cannot express left out, and what it reads."""
    view, array = whole("x", base.shape), base
    for _ in range(data.draw(st.integers(0, steps))):
        found, after = step(data, view, array)
        if found is not None:
            view, array = found, after
    return view, array


@given(SHAPES, st.data())
def test_a_view_reads_what_numpy_gives(shape, data):
    base = np.arange(math.prod(shape)).reshape(shape)
    view, array = moved(data, base)
    assert view.shape == array.shape
    np.testing.assert_array_equal(read(view, base), array)


@given(SHAPES, st.data())
def test_only_the_base_as_it_is_is_whole(shape, data):
    base = np.arange(math.prod(shape)).reshape(shape)
    view, array = moved(data, base)
    assert is_whole(view, shape) == (array.shape == shape and np.array_equal(array, base))


@given(SHAPES, st.data())
def test_rows_that_are_covered_may_be_worked_on_in_the_base(shape, data):
    base = np.arange(math.prod(shape)).reshape(shape)
    view, array = moved(data, base)
    if not array.ndim or not covers_rows(view, shape):
        return  # a number has no rows; and it may be careful
    assert sorted(map(tuple, array.reshape(-1, array.shape[-1]))) == sorted(map(tuple, base.reshape(-1, shape[-1])))
    weight = np.arange(shape[-1] * 5).reshape(shape[-1], 5)
    np.testing.assert_array_equal(read(with_rows_of(view, "y", shape[-1], 5), base @ weight), array @ weight)


def test_heads_apart_and_together_again_are_whole():
    view = whole("x", (2, 72, 32))
    heads = reshaped(view, (2, 72, 4, 8))
    assert heads is not None
    there = transposed(heads, (0, 2, 1, 3))
    assert not is_whole(there, (2, 72, 32))
    back = reshaped(transposed(there, (0, 2, 1, 3)), (2, 72, 32))
    assert back is not None
    assert is_whole(back, (2, 72, 32))


def test_a_row_that_is_read_again_in_the_place_of_another_is_not_all_of_them():
    first = sliced(whole("x", (2, 1)), 0, 0, 1)
    assert first is not None
    again = repeated(first, 0, 2)
    assert again is not None
    assert not covers_rows(again, (2, 1))


def test_rows_in_another_order_are_covered():
    assert covers_rows(transposed(whole("x", (2, 3, 4)), (1, 0, 2)), (2, 3, 4))


def test_part_of_the_rows_or_of_each_row_is_not_covering():
    base = whole("x", (2, 3, 4))
    for axis in (1, 2):
        part = sliced(base, axis, 0, 2)
        assert part is not None
        assert not covers_rows(part, (2, 3, 4))


def test_what_factors_cannot_say_is_no_view():
    turned = transposed(whole("x", (2, 3)), (1, 0))
    assert reshaped(turned, (2, 3)) is None
    assert reshaped(whole("x", (4,)), (3,)) is None


def test_nothing_of_no_elements_is_reshaped():
    assert reshaped(whole("x", (2, 0, 4)), (0, 8)) is None
    assert not covers_rows(whole("x", (2, 3, 0)), (2, 3, 0))
