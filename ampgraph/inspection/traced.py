"""Traced: a traced torch module, in its present modes, to a document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ampgraph.fx_module.capture import held_tensors, rule_book
from ampgraph.fx_module.facets import read_facets
from ampgraph.fx_module.lift import is_number
from ampgraph.inspection.build import Heading, build
from ampgraph.inspection.document import Document
from ampgraph.inspection.view import View
from ampgraph.ranges import propagate

if TYPE_CHECKING:
    from ampgraph.fx_module.capture import Capture
    from ampgraph.fx_module.module import TracedModule


def document_of(traced: TracedModule) -> Document:
    """The document of a traced module. Parameters' casts are no nodes of it: they happen once a step."""
    found = traced.captured
    policy = found.policy
    view = View(
        found.graph,
        found.judgement,
        found.costs,
        found.plan,
        propagate(found.graph),
        rule_book(policy),
        None,
        read_facets(found.prepared.graph, found.graph, held_tensors(found.prepared, traced.original)),
        "converted",
    )
    shapes = {
        value.name: value.shape
        for value in found.graph.values.values()
        if not (value.op or value.constant) and value.shape is not None
    }
    heading = Heading(
        type(traced.original).__name__,
        f"torch {torch.__version__}",
        "torch",
        policy.device,
        policy.objective,
        shapes,
        (*found.notes, *_copies(found)),
    )
    return build(view, heading)


def _copies(found: Capture) -> tuple[str, ...]:
    plan = found.plan
    copies = sum(plan.precision in kept and not is_number(id) for id, kept in plan.parameters.items())
    return (f"{copies} parameters are cast to {plan.precision} once a step",) if copies else ()
