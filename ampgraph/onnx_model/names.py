"""Plan ids of nodes: their names where those are unique, else made from type and position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto

from ampgraph.onnx_model.types import bodies

ID_KEY = "ampgraph.id"  # node metadata: the plan id
INTERFACE = ("input", "output")  # decisions of graph inputs and outputs begin with these
CAST_KEY = "ampgraph.cast"  # node metadata of a cast of ours: the id of the value it casts
WHY_KEY = "ampgraph.why"  # node metadata: precision and reason, for people who look at the file
CAUSE_KEY = "ampgraph.cause"  # node metadata: what settled it, in a word
RULE_KEY = "ampgraph.rule"  # node metadata: the rule that the reason rests on, where there is one


def walk(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, a node before those of its bodies."""
    for node in graph.node:
        yield node
        for _, body in bodies(node):
            yield from walk(body)


def metadata_of(node: NodeProto, key: str) -> str:
    """A node's metadata entry, "" when it has none."""
    for entry in node.metadata_props:
        if entry.key == key:
            return str(entry.value)
    return ""


def node_ids(graph: GraphProto) -> Mapping[int, str]:
    """The id of each node by its position in `walk`: recorded in metadata, else the unique name, else type#position."""
    nodes = list(walk(graph))
    recorded = [metadata_of(node, ID_KEY) for node in nodes]
    counted = Counter(node.name for node in nodes)
    written = {*recorded, *INTERFACE}
    reserved = {*written, *counted}
    taken = set(INTERFACE)
    ids: dict[int, str] = {}
    for position, node in enumerate(nodes):
        key = recorded[position] or (node.name if counted[node.name] == 1 and node.name not in written else "")
        if not key or key in taken:
            key = f"{node.op_type}#{position}"
            while key in taken or key in reserved:
                key += "'"
        taken.add(key)
        ids[position] = key
    return ids


def all_value_names(model: ModelProto) -> set[str]:
    """Every value name in the model, bodies included: a new name must avoid them all."""
    names: set[str] = set()
    _collect(model.graph, names)
    return names


def _collect(graph: GraphProto, names: set[str]) -> None:
    names.update(value.name for value in graph.input)
    names.update(value.name for value in graph.output)
    names.update(tensor.name for tensor in graph.initializer)
    names.update(sparse.values.name for sparse in graph.sparse_initializer)
    for node in graph.node:
        names.update(node.input)
        names.update(node.output)
        for _, body in bodies(node):
            _collect(body, names)
