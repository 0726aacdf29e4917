"""Groups of casts are looked up once, and again when a parameter is another or wants otherwise."""

import torch
from torch import nn

from ampgraph.fx_module.grouping import Grouping

LOW = torch.float16


def parameters(count: int = 3) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)) for _ in range(count)]


def test_the_same_parameters_are_looked_up_once() -> None:
    given, grouping = parameters(), Grouping([LOW] * 3)
    assert grouping.of(given) is grouping.of(given)
    assert [group.places for group in grouping.of(given)] == [(0, 1, 2)]


def test_a_frozen_a_hooked_and_another_one_are_noticed() -> None:
    given, grouping = parameters(), Grouping([LOW] * 3)
    grouping.of(given)
    given[0].requires_grad_(False)
    assert {group.places for group in grouping.of(given)} == {(0,), (1, 2)}
    given[0].requires_grad_(True)
    handle = given[2].register_hook(lambda gradient: None)
    assert {group.places for group in grouping.of(given)} == {(2,), (0, 1)}
    handle.remove()
    before = grouping.of(given)
    assert {group.places for group in before} == {(0, 1, 2)}
    given[1] = nn.Parameter(torch.ones(2, dtype=torch.float64))
    assert {group.places for group in grouping.of(given)} == {(1,), (0, 2)}


def test_nothing_to_cast_is_no_group() -> None:
    assert Grouping([]).of([]) == ()
