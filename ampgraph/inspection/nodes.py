"""Nodes: each op, cast, input and output with its precision, reason, kernel, work and price."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ampgraph.graph import Op
from ampgraph.inspection.causes import Causes, Reason
from ampgraph.inspection.document import Attribute, Node
from ampgraph.inspection.view import NO_FLOAT, View, bytes_of, finite, listed
from ampgraph.inspection.wiring import Stop, Wiring
from ampgraph.precision import FORMATS, LOW_PRECISIONS, Precision
from ampgraph.report import representative
from ampgraph.work import work_of

MOST_NUMBERS, MOST_TEXT = 64, 4096  # of an attribute that are shown


@dataclass(frozen=True)
class Nodes:
    """The nodes of a picture."""

    view: View
    wiring: Wiring
    modules: Mapping[str, int]
    causes: Causes
    known_kernels: dict[object, str] = field(default_factory=dict)  # layers repeat

    def all(self) -> Iterator[Node]:
        """Every node in order."""
        for stop in self.wiring.stops:
            if stop.kind == "cast":
                yield self._cast(stop)
            elif stop.op is not None:
                yield self._op(stop, stop.op)
            else:
                yield self._interface(stop)

    def _op(self, stop: Stop, op: Op) -> Node:
        view, reason, precision = self.view, self.causes.of_op(op), self.view.precision_of(op)
        operations, moved = self._work(op, precision)
        low, high = self._prices(op)
        return Node(
            stop.id, stop.name, op.type, op.version, "op", stop.body, self.modules[stop.id], precision,
            self._before(stop, precision), reason.cause, reason.why, reason.rule, self.causes.choices(op),
            self._kernel(op), operations, moved, low, high,
            {name: shown(value) for name, value in op.attributes.items()}, stop.inputs, stop.outputs,
            op.bodies, view.facets.origins.get(op.id, ()),
        )  # fmt: skip

    def _before(self, stop: Stop, precision: str) -> str:
        """The precision in the source; "" where the source has no such node."""
        view, op = self.view, stop.op
        if view.before is not None:
            return view.before.get(stop.id, "")
        if op is not None and op.id in view.facets.origins:
            return ""
        if view.state == "found":
            return precision
        if not view.decided:
            return Precision.FLOAT32.value if precision in LOW_PRECISIONS else precision
        decision = representative(view.graph, op) if op else view.graph.decisions.get(stop.decision)
        return decision.present.value if decision else precision

    def _interface(self, stop: Stop) -> Node:
        decision = self.view.graph.decisions.get(stop.decision)
        precision = self.view.plan.choices[decision.id].precision.value if decision else NO_FLOAT
        reason = self.causes.of_interface(stop.decision)
        return self._plain(stop, f"graph {stop.kind}", precision, self._before(stop, precision), reason)

    def _plain(self, stop: Stop, type: str, precision: str, before: str, reason: Reason) -> Node:
        return Node(
            stop.id, stop.name, type, 0, stop.kind, stop.body, self.modules[stop.id], precision, before, reason.cause,
            reason.why, reason.rule, (), "", 0, 0, None, None, {}, stop.inputs, stop.outputs,
        )  # fmt: skip

    def _cast(self, stop: Stop) -> Node:
        """A cast of ours, planned or in the file. Its price is that of the one cast, in either precision the same."""
        crossing = cross(self.view, self.wiring, stop)
        op, version = stop.op, stop.op.version if stop.op else 0
        type = op.type if op else "Cast" if self.view.graph.dialect == "onnx" else "aten._to_copy"
        kernel = self._kernel(op) if op else "cuda" if self.view.table else ""
        reason = Reason("cast", crossing.why)
        return Node(
            stop.id, stop.name, type, version, "cast", stop.body, self.modules[stop.id], crossing.target, "",
            reason.cause, reason.why, -1, (), kernel, 0, crossing.bytes, crossing.cost, crossing.cost,
            {"to": crossing.target}, stop.inputs, stop.outputs,
        )  # fmt: skip

    def _work(self, op: Op, precision: str) -> tuple[int | None, int | None]:
        """Operations and bytes of all runs; None where a shape is unknown."""
        graph, frequency = self.view.raised, self.view.frequency(op.scope)
        tensors = (graph.values[slot.value] for slot in (*op.inputs, *op.outputs) if slot.value)
        if any(value.shape is None and value.kind == "tensor" for value in tensors):
            return None, None
        work = work_of(op, graph)
        size = FORMATS[Precision(precision)].bytes if precision in FORMATS else FORMATS[Precision.FLOAT32].bytes
        return round(work.operations * frequency), round((work.floats * size + work.other_bytes) * frequency)

    def _prices(self, op: Op) -> tuple[float | None, float | None]:
        """Price in low precision and in float32; 0 for what takes no time, None for what nobody reckons."""
        decisions, costs = self.view.graph.decisions_of.get(op.id, ()), self.view.costs
        if not decisions:
            return None, None
        low, high = (sum(prices.get(each.id, 0) for each in decisions) for prices in (costs.low, costs.high))
        return finite(float(low)), finite(float(high))

    def _kernel(self, op: Op) -> str:
        table, choices = self.view.table, self.view.plan.choices
        if table is None:
            return ""
        decisions = self.view.graph.decisions_of.get(op.id, ())
        bound = tuple((each.variable, choices[each.id].precision) for each in decisions)
        key = (op.type, op.version, bound)
        if key not in self.known_kernels:
            self.known_kernels[key] = table.provider_of(op.type, op.version, dict(bound))
        return self.known_kernels[key]


@dataclass(frozen=True, slots=True)
class Crossing:
    """What a node that casts floats does. `bytes` read and written in all runs, `cost` in the plan's unit."""

    source: str
    target: str
    bytes: int | None
    cost: float | None
    why: str


def cross(view: View, wiring: Wiring, stop: Stop) -> Crossing:
    """What a cast does: between which precisions, at what cost, for whom."""
    value = view.graph.values[stop.inputs[0]]
    source = view.dtypes[value.id]
    target = stop.cast.to.value if stop.cast else view.dtypes[stop.outputs[0]]
    frequency = view.frequency(stop.body)
    each = [bytes_of(dtype, value.elements) for dtype in (source, target)]
    moved = None if None in each else round(sum(size for size in each if size is not None) * frequency)
    prices = view.costs.up if target == Precision.FLOAT32 else view.costs.down
    cost = round(prices[value.id] * frequency) if value.id in prices else None
    return Crossing(source, target, moved, cost, _why(wiring, stop, source, target))


def _why(wiring: Wiring, stop: Stop, source: str, target: str) -> str:
    """Who makes the value in one precision, and who reads it in the other."""
    maker = wiring.makers.get(stop.inputs[0])
    readers = wiring.readers.get(stop.outputs[0], ())
    made = f"made in {source} by {described(maker)}" if maker else f"held in {source}"
    read = listed(described(reader) for reader in readers) if readers else "nothing"
    return f"{made}, read in {target} by {read}"


def described(stop: Stop) -> str:
    """A node in a sentence."""
    if stop.kind in ("input", "output"):
        return f"the graph's {stop.kind} {stop.name}"
    return f"{stop.op.type} {stop.name or stop.id}" if stop.op else stop.name


def shown(value: Attribute) -> Attribute:
    """An attribute that JSON can hold and a person can read: no infinities, the head of what is very long."""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    if isinstance(value, str):
        return value if len(value) <= MOST_TEXT else f"{value[:MOST_TEXT]}... ({len(value)} characters)"
    if isinstance(value, tuple) and len(value) > MOST_NUMBERS:
        head = ", ".join(str(shown(each)) for each in value[:MOST_NUMBERS])
        return f"{head}, ... ({len(value)} in all)"
    if isinstance(value, tuple):
        texts = any(isinstance(shown(each), str) for each in value)
        return tuple(str(shown(each)) for each in value) if texts else value
    return value
