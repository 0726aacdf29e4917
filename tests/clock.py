"""Timing inside a suite: what other tests left on the heap is not collected again on the clock of the one that runs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def fresh_heap() -> Iterator[None]:
    """Collections go on, over what is made from here."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
