"""Kinship: whether two things that are to be shown together are of one model.

Names alone do not tell: exporters number them, and two networks of one family share most. What reads what tells them
apart. Of PP-OCRv4's detection and recognition 76 % of node names are the same and 6 % of connections; a source and what
was converted from it share all connections, and 46 % or more where most of it was fused (ViT-B/16, UNet, MiniLM).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set

from ampgraph.errors import OptionError
from ampgraph.inspection.comparison import Comparison
from ampgraph.inspection.document import Document, Graph, Node

LEAST_SHARED = 0.5  # of names: a conversion adds casts and may fuse, but renames little
LEAST_CONNECTED = 0.25  # of connections
LEAST_COMPARED = 0.6  # of a comparison's values: of one with another of the family 0.45, fused and not 0.8
FEW = 16  # connections that say too little
CASTS = frozenset({"Cast", "CastLike"})
Step = tuple[str, Sequence[str], Sequence[str]]  # operator, names that it reads and makes
Connections = frozenset[tuple[str, str]]


def connections(steps: Iterable[Step]) -> Connections:
    """Which value is read to make which, by name; casts are seen through."""
    steps = list(steps)
    cast = {made[0]: read[0] for type, read, made in steps if type in CASTS and read and made}

    def source(name: str) -> str:
        seen: set[str] = set()
        while name in cast and name not in seen:
            seen.add(name)
            name = cast[name]
        return name

    return frozenset(
        (source(name), made[0]) for type, read, made in steps if type not in CASTS and made for name in read if name
    )


def are_strangers(first: Connections, second: Connections) -> bool:
    """Whether two models share so few connections that equal names mean nothing."""
    least = min(len(first), len(second))
    return least >= FEW and len(first & second) < LEAST_CONNECTED * least


def require_comparison_of(document: Document, comparison: Comparison, place: str) -> None:
    """Raise OptionError, naming `place`, where most values of a comparison are not made so in the document."""
    compared = {(one.value, one.node, one.type) for one in (*comparison.values, *comparison.outputs)}
    shared = len(compared & set(_makers(document.graph.nodes)))
    if shared < LEAST_COMPARED * len(compared):
        fact = f"compares {comparison.candidate}: {shared} of its {len(compared)} values are in {document.name}"
        raise OptionError(place, fact, f"compare {document.name} with its source, or inspect {comparison.candidate}")


def _makers(nodes: Iterable[Node]) -> Iterator[tuple[str, str, str]]:
    return ((value, node.id, node.type) for node in nodes for value in node.outputs)


def require_source(graph: Graph, source: Graph, name: str, place: str) -> None:
    """Raise OptionError, naming `place`, where a source shares little with what is said to be made from it.

    Names of nodes and of computed values are asked apart, and one of them is enough: what fuses renames nodes and keeps
    the values between them. Names that a fused node stands for count as its own. Connections are asked too, those of
    fused nodes aside.
    """
    kinds = ((_nodes(graph), _nodes(source)), (_values(graph), _values(source)))
    counted = [(len(made & given), min(len(made), len(given))) for made, given in kinds]
    remedy = f"name the model that {name} was made from"
    if not any(shared >= LEAST_SHARED * least and shared for shared, least in counted):
        (nodes, all_nodes), (values, all_values) = counted
        fact = f"shares {nodes} of {all_nodes} nodes and {values} of {all_values} values with {name}"
        raise OptionError(place, f"{fact}: they are of different models", remedy)
    first, second = connections(_steps(graph)), connections(_steps(source))
    if are_strangers(first, second):
        fact = f"shares {len(first & second)} of {min(len(first), len(second))} connections with {name}"
        raise OptionError(place, f"{fact}, though names are alike: they are of different models", remedy)


def _steps(graph: Graph) -> Iterator[Step]:
    names = {value.id: value.name for value in graph.values}
    for node in graph.nodes:
        if node.kind in ("op", "cast") and not node.origins:
            type = "Cast" if node.kind == "cast" else node.type
            yield type, [names.get(each, "") for each in node.inputs], [names.get(each, "") for each in node.outputs]


def _nodes(graph: Graph) -> Set[str]:
    return {name for node in graph.nodes if node.kind == "op" for name in node.origins or (node.name,) if name}


def _values(graph: Graph) -> Set[str]:
    made = {value for node in graph.nodes if node.kind == "op" for value in node.outputs}
    return {value.name for value in graph.values if value.id in made}
