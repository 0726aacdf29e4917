"""Rows cut into groups: all of the row, few at a time, where little crosses."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ampgraph.inspection.stretches import GROUPS, MOST, Stretch, crossings, group


def leaves(stretches: tuple[Stretch, ...]) -> list[Stretch]:
    return [leaf for each in stretches for leaf in (leaves(each.parts) if each.parts else [each])]


def widest(stretches: tuple[Stretch, ...]) -> int:
    return max([len(stretches), *(widest(each.parts) for each in stretches)], default=0)


@given(st.integers(0, 12_000))
def test_groups_cover_the_row_and_are_small(count: int) -> None:
    found = group(count, ())
    if count <= MOST:
        assert found == ()
        return
    parts = leaves(found)
    assert parts[0].first == 0
    assert parts[-1].end == count
    assert all(one.end == other.first for one, other in pairwise(parts))
    assert all(0 < part.end - part.first <= MOST for part in parts)
    assert widest(found) <= GROUPS


FLOWS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60)


@given(FLOWS)
def test_crossings_count_the_values_that_are_made_before_and_read_later(flows: list[tuple[int, int]]) -> None:
    found = crossings(30, flows)
    for place in range(30):
        assert found[place] == len({made for made, read in flows if made < place <= read})


def test_cuts_go_where_little_crosses() -> None:
    """Blocks whose items all read the block's first one: between blocks a single value crosses, inside of them two."""
    starts = [0, 27, 51, 75]
    blocks = [max(start for start in starts if start <= index) for index in range(96)]
    flows = [(block, index) for index, block in enumerate(blocks)] + [(index, index + 1) for index in range(95)]
    assert [each.first for each in group(96, flows)] == starts
