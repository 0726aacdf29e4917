"""Drawn digits."""

import pytest
import torch

from ampgraph.drawing import draw_digits


@pytest.mark.parametrize("size", [28, 32])
def test_digits_are_drawn_the_same_from_the_same_seed(size: int) -> None:
    first, second = (draw_digits(32, torch.Generator().manual_seed(5), size) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[0].shape == (32, 1, size, size)
    assert 0 <= first[0].min() < first[0].max() <= 255
    assert len(set(first[1].tolist())) > 5
