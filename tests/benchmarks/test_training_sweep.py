"""What the training sweep counts: distances of losses, the part of their fall that is missed; and how it is shared."""

from itertools import chain

import pytest

from benchmarks.training_sweep import add_row, chosen, distance, kept, missed


def test_distance_is_the_largest_of_all_steps():
    assert distance([2.0, 1.1, 1.0], [2.0, 1.0, 1.0]) == pytest.approx(0.1)


@pytest.mark.parametrize(("last", "part"), [(2.0, 1.0), (1.98, 0.5), (1.96, 0.0), (1.94, 0.5), (2.04, 2.0)])
def test_a_loss_that_does_not_fall_misses_all_of_it_however_near_it_is(last, part):
    expected, found = [2.0, 1.97, 1.96], [2.0, 1.99, last]
    assert distance(found, expected) < 0.05
    assert missed(found, expected) == pytest.approx(part)


def test_parts_together_are_all():
    names = [f"model {index}" for index in range(7)]
    parts = [chosen(names, [], (first, 3)) for first in (1, 2, 3)]
    assert sorted(chain(*parts)) == names
    assert chosen(names, ["2", "5"], (1, 1)) == ["model 2", "model 5"]


def test_rows_are_added_to_those_of_the_same_settings(tmp_path):
    file, settings = tmp_path / "rows.json", {"steps": 10}
    assert kept(file, settings) == {}
    add_row(file, settings, "first", {"distance": 0.5})
    add_row(file, settings, "second", {"error": "no"})
    add_row(file, settings, "first", {"distance": 0.25})
    assert kept(file, settings) == {"first": {"distance": 0.25}, "second": {"error": "no"}}
    assert kept(file, {"steps": 11}) == {}
    add_row(file, {"steps": 11}, "third", {})
    assert kept(file, {"steps": 11}) == {"third": {}}
