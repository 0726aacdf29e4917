"""Figures are exact: the price of the plan that differs in one choice, counted anew."""

from __future__ import annotations

from hypothesis import given, settings

from ampgraph.bounds import find_bounds, implications_of, links, reach
from ampgraph.decide import decide
from ampgraph.figures import find_figures
from ampgraph.painting import paint
from ampgraph.placement import assignment_cost
from tests.random_graphs import Problem, problems


def assert_exact(problem: Problem, low: frozenset[str]) -> None:
    graph, judgement, costs = problem.graph, problem.judgement, problem.costs
    bounds, (forward, backward) = find_bounds(graph, judgement), links(implications_of(graph, judgement))
    free = [id for id in graph.decisions if id not in bounds.must and id not in bounds.never]
    for id, figure in find_figures(graph, judgement, costs, low, free).items():
        moving = {other for other in reach([id], backward if id in low else forward) if (other in low) is (id in low)}
        change = assignment_cost(graph, low ^ moving, costs) - assignment_cost(graph, low, costs)
        assert change == (figure.high - figure.low if id in low else figure.low - figure.high)
        assert figure.followers == len(moving) - 1


@settings(max_examples=200, deadline=None)
@given(problems(most=25))
def test_figures_of_any_assignment_are_what_changing_one_choice_costs(problem: Problem) -> None:
    assert_exact(problem, paint(problem.graph, problem.judgement))


@settings(max_examples=100, deadline=None)
@given(problems(most=25))
def test_no_figure_of_a_cut_improves_on_it(problem: Problem) -> None:
    graph, judgement, costs = problem.graph, problem.judgement, problem.costs
    low, bounds = decide(graph, judgement, costs), find_bounds(graph, judgement)
    free = [id for id in graph.decisions if id not in bounds.must and id not in bounds.never]
    for id, figure in find_figures(graph, judgement, costs, low, free).items():
        assert figure.low < figure.high if id in low else figure.high <= figure.low
    assert_exact(problem, low)
