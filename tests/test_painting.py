"""Painting follows grappler's lists and never breaks a law of decisions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings

from ampgraph.graph import PrecisionGraph, Scope, Use, Value
from ampgraph.judgement import Category, Cause, Judgement, Verdict
from ampgraph.painting import paint
from tests.random_graphs import FLOAT16, FREE, Problem, decision, lawful_assignments, problems

A, BETWEEN, C = (
    Verdict(True, category, Cause.RULE, "") for category in (Category.ALLOW, Category.INFER, Category.CLEAR)
)
D = Verdict(False, Category.DENY, Cause.RULE, "")


def painted(*verdicts: Verdict, ties: tuple[tuple[str, str], ...] = ()) -> str:
    """A chain of ops; L where painting has one low."""
    ids = [f"n{number}:T" for number in range(len(verdicts))]
    values = {id: Value(id, id, "", "float32", producer=id) for id in ids}
    uses = tuple(Use(before, after, after, 0, "") for before, after in pairwise(ids))
    scopes = {"": Scope("", None, "", 1.0)}
    graph = PrecisionGraph("onnx", {"": 21}, scopes, values, {}, {id: decision(id) for id in ids}, uses)
    low = paint(graph, Judgement(FLOAT16, dict(zip(ids, verdicts, strict=True)), ties))
    return "".join("L" if id in low else "-" for id in ids)


def test_infer_ops_are_low_between_allowed_ones() -> None:
    assert painted(A, BETWEEN, A) == "LLL"
    assert painted(A, BETWEEN, C, BETWEEN, A) == "LLLLL"
    assert painted(A, BETWEEN, D, BETWEEN, A) == "L---L"
    assert painted(BETWEEN, A, BETWEEN) == "-L-"


def test_clear_ops_are_low_beside_low_ones() -> None:
    assert painted(C, A, C, C) == "LLLL"
    assert painted(C, BETWEEN, A) == "--L"
    assert painted(A, C, D, C) == "LL--"


def test_what_breaks_a_link_is_taken_back() -> None:
    assert painted(A, BETWEEN, BETWEEN, ties=(("n0:T", "n2:T"),)) == "---"


def test_forced_decisions_stay() -> None:
    assert painted(BETWEEN, replace(FREE, forced=True), D) == "-L-"


@settings(max_examples=150, deadline=None)
@given(problems())
def test_every_painting_is_lawful(problem: Problem) -> None:
    assert paint(problem.graph, problem.judgement) in lawful_assignments(problem)
