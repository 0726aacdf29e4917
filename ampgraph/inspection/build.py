"""Build: a view of a model to a document. Pure; the dialects hand in what the view holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ampgraph import __version__
from ampgraph.inspection.boundaries import find_boundaries
from ampgraph.inspection.causes import Causes
from ampgraph.inspection.document import FORMAT, Body, Document, Graph, Module, Rule
from ampgraph.inspection.facets import Place
from ampgraph.inspection.modules import Leaf, arrange
from ampgraph.inspection.nodes import Nodes
from ampgraph.inspection.summary import summarize
from ampgraph.inspection.values import list_values
from ampgraph.inspection.view import View
from ampgraph.inspection.wiring import Stop, Wiring, wire
from ampgraph.rulebook import RuleBook, conditions


@dataclass(frozen=True)
class Heading:
    """What a document says of the whole model. `shapes`: of inputs, that costs are modelled at."""

    name: str
    producer: str
    target: str
    device: str
    objective: str
    shapes: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()


def build(view: View, heading: Heading, source: Graph | None = None) -> Document:
    """The document of a model. `source`: the picture of the model before, where its nodes are others."""
    graph = build_graph(view)
    return Document(
        FORMAT,
        f"ampgraph {__version__}",
        heading.name,
        view.graph.dialect,
        view.state,
        dict(view.graph.opsets),
        heading.producer,
        view.plan.precision.value,
        heading.target,
        heading.device,
        heading.objective,
        view.plan.unit,
        dict(heading.shapes),
        _rules(view.book),
        summarize(view, graph, heading.notes),
        graph,
        source,
    )


def build_graph(view: View) -> Graph:
    """The picture of a model."""
    wiring = wire(view)
    modules, homes = _modules(view, wiring)
    nodes = Nodes(view, wiring, homes, Causes(view)).all()
    scopes = view.graph.scopes.values()
    bodies = tuple(Body(scope.id, scope.parent, scope.owner, scope.frequency) for scope in scopes)
    values = tuple(list_values(view, wiring))
    return Graph(bodies, modules, tuple(nodes), values, find_boundaries(view, wiring))


def precisions(graph: Graph) -> Mapping[str, str]:
    """Precisions by node id, casts of ours left out: what a later picture shows as before."""
    return {node.id: node.precision for node in graph.nodes if node.kind != "cast"}


def same_nodes(first: Graph, second: Graph) -> bool:
    """Whether two pictures have the same nodes but for casts of ours."""
    types = [{node.id: node.type for node in graph.nodes if node.kind != "cast"} for graph in (first, second)]
    return types[0] == types[1]


def _rules(book: RuleBook) -> tuple[Rule, ...]:
    return tuple(
        Rule(rule.name, rule.category.value, rule.why, rule.source, rule.place, conditions(rule)) for rule in book.rules
    )


def _modules(view: View, wiring: Wiring) -> tuple[tuple[Module, ...], Mapping[str, int]]:
    return arrange([_leaf(view, wiring, stop) for stop in wiring.stops])


def _leaf(view: View, wiring: Wiring, stop: Stop) -> Leaf:
    owner = view.graph.scopes[stop.body].owner
    label = f"{_short(view.op_name(owner))} {stop.body.removeprefix(f'{owner}/')}" if owner else ""
    type = stop.op.type if stop.op else "Cast" if stop.cast else stop.kind
    sources = (wiring.makers[value].id for value in stop.inputs if value in wiring.makers)
    return Leaf(stop.id, type, stop.body, owner, label, _place(view, stop), tuple(dict.fromkeys(sources)))


def _short(name: str) -> str:
    """The last part of a path."""
    return name.rstrip("/").rpartition("/")[2] or name


def _place(view: View, stop: Stop) -> Place | None:
    """The interface stands at the root; casts go where their readers are."""
    if stop.kind in ("input", "output"):
        return Place(())
    return view.facets.places.get(stop.op.id) if stop.op and stop.kind == "op" else None
