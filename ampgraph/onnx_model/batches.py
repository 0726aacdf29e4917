"""Batches: how many values are fetched from a model at once, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MOST_BYTES = 256 << 20  # fetched from both models together
MOST_VALUES = 512  # each is one more output that the runtime plans for


def batches(sizes: Sequence[int], most_bytes: int = MOST_BYTES, most_values: int = MOST_VALUES) -> Iterator[range]:
    """Positions of values that go together, in order. A value larger than `most_bytes` goes alone."""
    start = total = 0
    for position, size in enumerate(sizes):
        if position > start and (total + size > most_bytes or position - start >= most_values):
            yield range(start, position)
            start, total = position, 0
        total += size
    if start < len(sizes):
        yield range(start, len(sizes))
