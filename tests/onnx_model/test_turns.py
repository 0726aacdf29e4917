"""Turns are read back as they were written, and an element is found where it lies."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampgraph.onnx_model.turns import Turn, elements, index_of, read_turns, unlike

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@given(st.lists(st.lists(st.lists(SHAPES, max_size=3), max_size=3), max_size=3))
def test_steps_of_nested_loops_are_counted(loops: list[list[list[tuple[int, ...]]]]) -> None:
    numbers, expected = [], []
    for outer, inner_steps in enumerate(loops):
        numbers.append(-1)
        for inner, shapes in enumerate(inner_steps):
            numbers.append(-2)
            for shape in shapes:
                numbers += [len(shape), *shape]
                expected.append(Turn(shape, (outer, inner)))
    assert read_turns(np.array(numbers, np.int64)) == tuple(expected)


@given(st.lists(SHAPES, max_size=5))
def test_every_element_has_an_index_of_its_own(shapes: list[tuple[int, ...]]) -> None:
    turns = tuple(Turn(shape, (step,)) for step, shape in enumerate(shapes))
    found = [index_of(flat, turns) for flat in range(elements(turns))]
    assert len(set(found)) == len(found) == sum(map(prod, shapes))
    for step, *index in found:
        assert np.zeros(shapes[step])[tuple(index)] == 0
    assert index_of(elements(turns), turns) == ()


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ((Turn((2, 3)),), (Turn((3, 2)),), "shape 3x2 instead of 2x3"),
        ((Turn(()),), (Turn((1,)),), "shape 1 instead of scalar"),
        ((Turn((1,), (0,)),), (), "computed 0 times instead of 1"),
        ((Turn((1,), (0,)),), (Turn((1,), (2,)),), "computed at step 2 instead of 0"),
    ],
)
def test_what_is_unlike_is_said(one: tuple[Turn, ...], other: tuple[Turn, ...], said: str) -> None:
    assert unlike(one, other) == said
