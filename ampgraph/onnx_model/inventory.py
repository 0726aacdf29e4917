"""Inventory: every value that a model computes, with its id, where it stands, and what another model may call it.

A converted model keeps its source's value names, with two exceptions that `apply` records: casts, and values that gave
their name to the cast which makes a graph output. Both are known by the source's name here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from ampgraph.graph import Op, PrecisionGraph, Value
from ampgraph.onnx_model.io import Loaded, with_operands
from ampgraph.onnx_model.lift import lift
from ampgraph.onnx_model.names import CAST_KEY, metadata_of, node_ids, walk
from ampgraph.onnx_model.prepare import prepare

LOOPS = ("Loop", "Scan")
Step = tuple[int, int]  # a body: which of the nodes that have bodies, and which of its bodies
Path = tuple[Step, ...]
Key = tuple[tuple[str, ...], str]  # owners' outputs down to a body, and a name there


@dataclass(frozen=True, slots=True)
class Entry:
    """A value. `order` counts along the graph, a body's values before what its owner makes of them.

    `key` is how the other model is asked for it; `is_cast`: made by a cast of ours, whose key is that of what it casts.
    """

    value: Value
    node: str
    type: str
    path: Path
    key: Key
    order: int
    is_cast: bool = False
    in_loop: bool = False  # in the body of a loop, not in a branch there


@dataclass(frozen=True)
class Inventory:
    """A prepared model with its values. `made`: by nodes, in order. `given`: inputs of the graph and of its bodies."""

    model: ModelProto
    graph: PrecisionGraph
    nodes: Mapping[str, NodeProto]  # by plan id
    made: tuple[Entry, ...]
    given: tuple[Entry, ...]


def take_inventory(loaded: Loaded) -> Inventory:
    """Prepare a model and list its values. Raises ModelError where it does not type-check."""
    model = prepare(loaded.model)
    graph = lift(with_operands(model, loaded.folder), None, None, loaded.folder)
    nodes = dict(zip(node_ids(model.graph).values(), walk(model.graph), strict=True))
    places = _Places(graph, nodes)
    made = [
        Entry(
            value,
            op.id,
            op.type,
            places.paths[value.scope],
            places.key(value),
            order,
            _is_ours(nodes[op.id]),
            in_loop=_is_in_loop(graph, value),
        )
        for order, (op, value) in enumerate(_products(graph))
    ]
    given = [
        Entry(value, "", "", places.paths[value.scope], places.key(value), -1, in_loop=_is_in_loop(graph, value))
        for value in graph.values.values()
        if not value.op and value.constant is None
    ]
    return Inventory(model, graph, nodes, tuple(made), tuple(given))


def _is_in_loop(graph: PrecisionGraph, value: Value) -> bool:
    owner = graph.scopes[value.scope].owner
    return bool(owner) and graph.ops[owner].type in LOOPS


def _is_ours(node: NodeProto) -> bool:
    return bool(metadata_of(node, CAST_KEY))


def _products(graph: PrecisionGraph) -> Iterator[tuple[Op, Value]]:
    """Ops with what they make; an op that has bodies comes after the ops in them."""
    inside: dict[str, list[Op]] = {}
    for each in graph.ops.values():
        inside.setdefault(each.scope, []).append(each)
    waiting = [iter(inside.get("", ()))]
    pending: list[Op] = []
    while waiting:
        op = next(waiting[-1], None)
        if op is None:
            waiting.pop()
            if pending:
                yield from _outputs(graph, pending.pop())
        elif op.bodies:
            pending.append(op)
            waiting.append(each for body in op.bodies for each in inside.get(body, ()))
        else:
            yield from _outputs(graph, op)


def _outputs(graph: PrecisionGraph, op: Op) -> Iterator[tuple[Op, Value]]:
    return ((op, graph.values[slot.value]) for slot in op.outputs if slot.value)


class _Places:
    """Where bodies are: by position, to find them again in a rewritten model, and by their owners' outputs."""

    def __init__(self, graph: PrecisionGraph, nodes: Mapping[str, NodeProto]) -> None:
        self._names: dict[str, str] = {}  # by value id, the source's name where it is another
        self._read: dict[str, Value] = {}  # by value id of a cast of ours, what it casts
        self.paths: dict[str, Path] = {"": ()}
        self._owners: dict[str, tuple[str, ...]] = {"": ()}
        for op in graph.ops.values():
            recorded = metadata_of(nodes[op.id], CAST_KEY)
            if recorded and op.inputs[0].value:
                self._read[op.outputs[0].value] = read = graph.values[op.inputs[0].value]
                self._names[read.id] = recorded.removeprefix(f"{read.scope}:") if read.scope else recorded
        self._find_bodies(graph)

    def _find_bodies(self, graph: PrecisionGraph) -> None:
        counts: dict[str, int] = {}
        for op in graph.ops.values():
            if not op.bodies:
                continue
            position = counts[op.scope] = counts.get(op.scope, -1) + 1
            owner = next((self.key(graph.values[slot.value])[1] for slot in op.outputs if slot.value), op.id)
            for index, body in enumerate(op.bodies):
                self.paths[body] = (*self.paths[op.scope], (position, index))
                self._owners[body] = (*self._owners[op.scope], owner, body.removeprefix(f"{op.id}/"))

    def key(self, value: Value) -> Key:
        """What the other model is asked for."""
        source = self._read.get(value.id, value)
        return self._owners[source.scope], self._names.get(source.id, source.name)
