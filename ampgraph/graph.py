"""PrecisionGraph: what lift produces. Scopes, values, ops and the decisions between them; no decision is taken here.

Invariants:
- every floating-point slot of every op, graph input and graph output belongs to exactly one `Decision`;
- a `Value` has a producing decision unless it is a constant or not a float (then `producer` is "");
- a `Use` is one consumer slot: `Mul(x, x)` is two uses of `x`;
- `ops` is in topological order, an op before the ops of the bodies it owns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import networkx as nx

from ampgraph.precision import Precision

if TYPE_CHECKING:
    from ampgraph.numbering import Numbering

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
Kind = Literal["op", "input", "output"]


@dataclass(frozen=True, slots=True)
class Scope:
    """A graph body. `frequency` is how often it runs for one run of the model; the main graph is the scope "" at 1."""

    id: str
    parent: str | None
    owner: str  # id of the op whose body this is, "" for the main graph
    frequency: float


@dataclass(frozen=True, slots=True)
class Conversion:
    """What becomes of a constant's finite non-zero elements when each is rounded to the nearest of a low precision."""

    overflowed: int  # magnitude beyond the largest finite value
    flushed: int  # magnitude that rounds to zero
    subnormal: int  # magnitude under the smallest normal, flushed ones included
    error: float  # relative L2 error over the elements that do not overflow


@dataclass(frozen=True, slots=True)
class Constant:
    """Facts about the data of an initializer or Constant node; extremes are over finite elements."""

    elements: int
    lowest: float
    highest: float
    smallest: float  # smallest non-zero magnitude; 0 when all are zero
    has_infinity: bool = False
    has_nan: bool = False
    conversions: Mapping[Precision, Conversion] = field(default_factory=dict)

    @property
    def magnitude(self) -> float:
        """Largest finite absolute value."""
        return max(abs(self.lowest), abs(self.highest))

    @property
    def scalar(self) -> float | None:
        """The value when all elements are the same finite number."""
        uniform = self.elements > 0 and self.lowest == self.highest and not (self.has_infinity or self.has_nan)
        return self.lowest if uniform else None


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor, sequence, optional or map that flows between ops."""

    id: str  # unique in the model: the name, prefixed with the scope where that is not the main graph
    name: str
    scope: str
    dtype: str  # "float32", "int64", ...; "" when unknown
    kind: str = "tensor"  # "tensor", "sequence", "optional", "map", "sparse"
    shape: tuple[int, ...] | None = None  # as modelled: free dimensions already filled in
    producer: str = ""  # id of the decision that sets its precision
    op: str = ""  # id of the op that produces it; "" for inputs, initializers and body inputs
    constant: Constant | None = None

    @property
    def elements(self) -> int | None:
        """Number of elements, None when the shape is unknown."""
        if self.shape is None:
            return None
        total = 1
        for size in self.shape:
            total *= size
        return total


@dataclass(frozen=True, slots=True)
class Slot:
    """One input or output of an op. `formal` is the schema's parameter name."""

    value: str  # value id; "" for an empty optional
    formal: str
    decision: str = ""  # "" when the slot carries no float


@dataclass(frozen=True, slots=True)
class Op:
    """An operator instance. `type` is "Conv", "com.microsoft.Gelu" or "aten.addmm"; ai.onnx has no prefix."""

    id: str
    name: str  # the user's name, may be empty
    type: str
    version: int  # the schema's since_version; 0 when there is no schema
    scope: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    bodies: tuple[str, ...] = ()  # scope ids


@dataclass(frozen=True, slots=True)
class Decision:
    """One (op, type variable), or a graph input or output, and what its schema lets it be."""

    id: str  # "<op id>:<variable>", "input:<name>", "output:<name>"
    op: str  # op id, or the interface name
    variable: str
    kind: Kind
    present: Precision
    admits: frozenset[Precision]  # by the schema, `present` included
    pin: str = ""  # why it cannot move, whatever the rules say; "" when it can
    principal: bool = False  # carries the op's time

    def is_open(self, low: Precision) -> bool:
        """Whether there is anything to decide: float32 now, not pinned, and the schema admits `low`."""
        return self.present is Precision.FLOAT32 and not self.pin and low in self.admits


@dataclass(frozen=True, slots=True)
class Use:
    """One consumer slot of a value: `slot` is the op's input index, or a body output's index (`scope` is the body)."""

    value: str
    decision: str
    op: str  # id of the op, "" for a graph output
    slot: int
    scope: str


@dataclass(frozen=True)
class PrecisionGraph:
    """A whole model. Mappings keep the order of the source; nothing here is mutated after lift."""

    dialect: Literal["onnx", "torch.fx"]
    opsets: Mapping[str, int]
    scopes: Mapping[str, Scope]
    values: Mapping[str, Value]
    ops: Mapping[str, Op]
    decisions: Mapping[str, Decision]
    uses: tuple[Use, ...]  # float slots only
    ties: tuple[tuple[str, str], ...] = ()  # decisions that must agree
    notes: tuple[str, ...] = ()  # what lift could not see, in the user's names

    @cached_property
    def uses_of(self) -> Mapping[str, tuple[Use, ...]]:
        """Float uses by value id."""
        found: dict[str, list[Use]] = {}
        for use in self.uses:
            found.setdefault(use.value, []).append(use)
        return {value: tuple(uses) for value, uses in found.items()}

    @cached_property
    def decisions_of(self) -> Mapping[str, tuple[Decision, ...]]:
        """Decisions by op id."""
        found: dict[str, list[Decision]] = {}
        for decision in self.decisions.values():
            if decision.kind == "op":
                found.setdefault(decision.op, []).append(decision)
        return {op: tuple(decisions) for op, decisions in found.items()}

    @cached_property
    def products_of(self) -> Mapping[str, tuple[str, ...]]:
        """Value ids by the decision that produces them."""
        found: dict[str, list[str]] = {}
        for value in self.values.values():
            if value.producer:
                found.setdefault(value.producer, []).append(value.id)
        return {decision: tuple(values) for decision, values in found.items()}

    @cached_property
    def numbering(self) -> Numbering:
        """The uses as arrays, for the steps that look at all of them at once."""
        from ampgraph.numbering import number

        return number(self)

    @cached_property
    def flow(self) -> nx.MultiDiGraph:
        """The graph of decisions, whose reachability is data flow.

        An edge per use, keyed (value, op, slot), and one from each input variable of an op to each of its output
        variables, keyed "op".
        """
        graph = nx.MultiDiGraph()
        graph.add_nodes_from(self.decisions)
        for use in self.uses:
            producer = self.values[use.value].producer
            if producer:
                graph.add_edge(producer, use.decision, key=(use.value, use.op, use.slot))
        for op in self.ops.values():
            graph.add_edges_from(_through(op))
        return graph


def _through(op: Op) -> list[tuple[str, str, str]]:
    """Edges (input variable's decision, output variable's decision, "op") of an op, where the two differ."""
    sources = dict.fromkeys(slot.decision for slot in op.inputs if slot.decision)
    targets = dict.fromkeys(slot.decision for slot in op.outputs if slot.decision)
    return [(source, target, "op") for source in sources for target in targets if source != target]
