"""Kinship: whether two things that are to be shown together are of one model, by the names that both have.

As in `plan_diff`, half of the names must be shared: a conversion adds casts and may fuse, but renames little.
"""

from __future__ import annotations

from collections.abc import Set

from ampgraph.errors import OptionError
from ampgraph.inspection.comparison import Comparison
from ampgraph.inspection.document import Document, Graph

LEAST_SHARED = 0.5


def require_comparison_of(document: Document, comparison: Comparison, place: str) -> None:
    """Raise OptionError, naming `place`, where most values of a comparison are not in the document."""
    compared = {one.value for one in (*comparison.values, *comparison.outputs)}
    shared = len(compared & {value.id for value in document.graph.values})
    if shared < LEAST_SHARED * len(compared):
        fact = f"compares {comparison.candidate}: {shared} of its {len(compared)} values are in {document.name}"
        raise OptionError(place, fact, f"compare {document.name} with its source, or inspect {comparison.candidate}")


def require_source(graph: Graph, source: Graph, name: str, place: str) -> None:
    """Raise OptionError, naming `place`, where a source shares few names with what is said to be made from it.

    Names of nodes and of computed values are asked apart, and one of them is enough: what fuses renames nodes and keeps
    the values between them. Names that a fused node stands for count as its own.
    """
    kinds = ((_nodes(graph), _nodes(source)), (_values(graph), _values(source)))
    counted = [(len(made & given), min(len(made), len(given))) for made, given in kinds]
    if not any(shared >= LEAST_SHARED * least and shared for shared, least in counted):
        (nodes, all_nodes), (values, all_values) = counted
        fact = f"shares {nodes} of {all_nodes} nodes and {values} of {all_values} values with {name}"
        raise OptionError(place, f"{fact}: they are of different models", f"name the model that {name} was made from")


def _nodes(graph: Graph) -> Set[str]:
    return {name for node in graph.nodes if node.kind == "op" for name in node.origins or (node.name,) if name}


def _values(graph: Graph) -> Set[str]:
    made = {value for node in graph.nodes if node.kind == "op" for value in node.outputs}
    return {value.name for value in graph.values if value.id in made}
