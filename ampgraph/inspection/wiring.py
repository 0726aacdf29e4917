"""Wiring: the nodes of a picture in order, each with the values that it reads and makes; planned casts among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ampgraph.graph import Op, Use
from ampgraph.inspection.document import NodeKind
from ampgraph.inspection.view import Names, View
from ampgraph.plan import Cast, source_of


@dataclass(frozen=True, slots=True)
class Stop:
    """A node before anything is said of it. `op` is None for a planned cast and for the interface."""

    id: str
    name: str
    kind: NodeKind
    body: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    op: Op | None = None
    cast: Cast | None = None
    decision: str = ""  # of a graph input or output that carries a float


@dataclass(frozen=True)
class Wiring:
    """All nodes in topological order, and the value that each planned cast makes."""

    stops: tuple[Stop, ...]
    copies: Mapping[Cast, str]

    @cached_property
    def makers(self) -> Mapping[str, Stop]:
        """Who makes a value; none for initializers and inputs of bodies."""
        return {value: stop for stop in self.stops for value in stop.outputs if value}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Stop, ...]]:
        """Who reads a value, each reader once."""
        found: dict[str, dict[str, Stop]] = {}
        for stop in self.stops:
            for value in stop.inputs:
                if value:
                    found.setdefault(value, {})[stop.id] = stop
        return {value: tuple(stops.values()) for value, stops in found.items()}


def wire(view: View) -> Wiring:
    """The nodes of a model as it is decided."""
    return _Wirer(view).wiring()


class _Wirer:
    """What is looked up while nodes are put in order; gone when `wire` returns."""

    def __init__(self, view: View) -> None:
        self.view, self.graph = view, view.graph
        self.ids = Names(self.graph.ops)
        values = Names(self.graph.values)
        self.copies = {cast: values.make(f"{cast.value}_{cast.to}") for cast in view.plan.casts}
        self.after: dict[str, list[Cast]] = {}  # by op
        self.heads: dict[str, list[Cast]] = {}  # by body
        for cast in view.plan.casts:
            value = self.graph.values[cast.value]
            behind = value.op and value.scope == cast.scope
            (self.after if behind else self.heads).setdefault(value.op if behind else cast.scope, []).append(cast)
        self.uses = {(use.op, use.slot, use.scope): use for use in self.graph.uses}

    def wiring(self) -> Wiring:
        """Inputs, the casts of the main graph's head, ops with their casts, outputs."""
        stops = [*self.inputs(), *map(self.cast, self.heads.get("", ()))]
        for op in self.graph.ops.values():
            stops.append(self.op(op))
            stops.extend(self.cast(cast) for body in op.bodies for cast in self.heads.get(body, ()))
            stops.extend(map(self.cast, self.after.get(op.id, ())))
        return Wiring((*stops, *self.outputs()), self.copies)

    def inputs(self) -> Iterator[Stop]:
        """Graph inputs: values of the main graph that nothing makes and that are no constants."""
        for value in self.graph.values.values():
            if not (value.scope or value.op or value.constant or value.kind == "sparse"):
                key = f"input:{value.name}"
                decision = key if key in self.graph.decisions else ""
                yield Stop(self.ids.make(key), value.name, "input", "", (), (value.id,), decision=decision)

    def outputs(self) -> Iterator[Stop]:
        """Graph outputs, each reading what it gives out."""
        for index, (name, value) in enumerate(self.view.facets.outputs):
            key, use = f"output:{name}", self.uses.get(("", index, ""))
            read = self.read(use) if use else value
            decision = key if key in self.graph.decisions else ""
            yield Stop(self.ids.make(key), name, "output", "", (read,), (), decision=decision)

    def op(self, op: Op) -> Stop:
        """An op, reading casts where the plan has them."""
        inputs = []
        for index, slot in enumerate(op.inputs):
            use = self.uses.get((op.id, index, op.scope)) if slot.decision else None
            inputs.append(self.read(use) if use else slot.value)
        kind: NodeKind = "cast" if op.id in self.view.facets.casts else "op"
        outputs = tuple(slot.value for slot in op.outputs)
        return Stop(op.id, op.name, kind, op.scope, tuple(inputs), outputs, op)

    def cast(self, cast: Cast) -> Stop:
        """A planned cast. It reads the value as it is made: casts are never chained."""
        id = f"cast:{cast.value}:{cast.to}" + (f":{cast.scope}" if cast.scope else "")
        name = f"Cast_{self.view.value_name(cast.value)}_to_{cast.to}"
        return Stop(self.ids.make(id), name, "cast", cast.scope, (cast.value,), (self.copies[cast],), cast=cast)

    def read(self, use: Use) -> str:
        """The value that a use reads: its own, or the cast of it."""
        cast = source_of(self.view.plan, self.graph, use)
        return self.copies[cast] if cast else use.value
