"""What links settle without a price."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ampgraph.bounds import find_bounds, tied_groups
from ampgraph.errors import PlanError
from tests.random_graphs import FORCED
from tests.test_decide import star, with_verdicts


def test_circles_of_implications_are_ties() -> None:
    groups = tied_groups([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("e", "a")])
    assert groups["a"] == groups["b"] == groups["c"]
    assert len({groups[id] for id in "ade"}) == 3
    assert tied_groups([]) == {}


def test_bounds_follow_links_both_ways_and_say_from_where() -> None:
    problem = with_verdicts(star(5, up=1, down=1), c0=FORCED)
    links = {"implications": (("c0:T", "c1:T"), ("c2:T", "p:T")), "ties": (("c1:T", "c3:T"),)}
    bounds = find_bounds(problem.graph, replace(problem.judgement, **links))
    assert bounds.must == {"c0:T": "c0:T", "c1:T": "c0:T", "c3:T": "c0:T"}
    assert bounds.never == {"p:T": "p:T", "c2:T": "p:T"}


def test_a_forced_decision_that_may_not_be_low_is_refused() -> None:
    problem = with_verdicts(star(1, up=1, down=1), c0=replace(FORCED, legal=False))
    with pytest.raises(PlanError, match="c0:T: has to be float16 but may not be: --low asks for it"):
        find_bounds(problem.graph, problem.judgement)
