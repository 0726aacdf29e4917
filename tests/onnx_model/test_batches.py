"""Batches cover all values in order and stay within their bounds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ampgraph.onnx_model.batches import batches


@given(st.lists(st.integers(0, 100)), st.integers(1, 200), st.integers(1, 8))
def test_batches_are_bounded_and_complete(sizes: list[int], most_bytes: int, most_values: int) -> None:
    found = list(batches(sizes, most_bytes, most_values))
    assert [index for batch in found for index in batch] == list(range(len(sizes)))
    for batch in found:
        assert 0 < len(batch) <= most_values
        assert len(batch) == 1 or sum(sizes[index] for index in batch) <= most_bytes


@given(st.lists(st.integers(1, 100), min_size=1), st.integers(1, 200))
def test_no_two_neighbours_would_fit_together(sizes: list[int], most_bytes: int) -> None:
    found = list(batches(sizes, most_bytes))
    for one, other in pairwise(found):
        assert sum(sizes[index] for index in one) + sizes[other[0]] > most_bytes
