"""What the training sweep counts: distances of losses, and the part of their fall that is missed."""

import pytest

from benchmarks.training_sweep import distance, missed


def test_distance_is_the_largest_of_all_steps():
    assert distance([2.0, 1.1, 1.0], [2.0, 1.0, 1.0]) == pytest.approx(0.1)


@pytest.mark.parametrize(("last", "part"), [(2.0, 1.0), (1.98, 0.5), (1.96, 0.0), (1.94, 0.5), (2.04, 2.0)])
def test_a_loss_that_does_not_fall_misses_all_of_it_however_near_it_is(last, part):
    expected, found = [2.0, 1.97, 1.96], [2.0, 1.99, last]
    assert distance(found, expected) < 0.05
    assert missed(found, expected) == pytest.approx(part)
