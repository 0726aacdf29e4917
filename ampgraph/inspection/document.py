"""Document: everything there is to see of a model, as plain data. `inspect --json` writes it, every view reads it.

Invariants:
- ids are unique within a `Graph`; `inputs` and `outputs` of a node name values of its graph, "" for an empty optional;
- every node has a reason: `why` is never empty;
- a boundary is a value that is read in another precision than it is made in; its `cast` is the node that converts it,
  "" where there is none (a plan that is not written yet has its casts as nodes too);
- indices (`module`, `rule`) point into `Graph.modules` and `Document.rules`; -1 is none;
- counts of bytes, operations and time are of one run of the model at `shapes`, bodies times how often they run; None is
  unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FORMAT = 2

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]
NodeKind = Literal["op", "cast", "input", "output"]
State = Literal["converted", "planned", "found"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that settled a decision: its text and where that is known from."""

    name: str
    category: str  # allow, infer, clear, deny
    why: str
    source: str
    place: str  # file of rules
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """A graph body: "" is the main graph. `frequency` is how often it runs for one run of the model."""

    id: str
    parent: str | None
    owner: str  # node whose body this is, "" for the main graph
    frequency: float


@dataclass(frozen=True, slots=True)
class Module:
    """A place in the tree of the exporter's name scopes. The root is the first, named "" and of parent -1."""

    name: str  # last part of its path: "layer", "0"
    path: str  # "encoder.layer.0"
    parent: int
    type: str = ""  # "BertLayer" where the exporter says so


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one type variable of a node. `low` and `high` are its price by itself, in the document's unit."""

    variable: str
    precision: str
    cause: str
    why: str
    rule: int = -1
    low: float | None = None
    high: float | None = None
    bonds: tuple[str, ...] = ()  # decisions that it shares its precision with, as sentences


@dataclass(frozen=True, slots=True)
class Node:
    """An operator, a cast of ours (kind "cast"), a graph input or a graph output.

    `precision` is "float16", "bfloat16", "float32", ...; "other" without floats. `before` is the same in the source;
    "" for a node that the source does not have.
    """

    id: str
    name: str
    type: str  # "Conv", "com.microsoft.Gelu", "aten.addmm"
    version: int
    kind: NodeKind
    body: str
    module: int
    precision: str
    before: str
    cause: str  # rule, range, kernel, cost, pin, ... as `explain` says it; "source" where nobody decided
    why: str
    rule: int
    choices: tuple[Choice, ...]
    kernel: str  # what runs it: "cuda", "cpu", "" unknown
    operations: int | None
    bytes: int | None
    low: float | None  # price in low precision, in the document's unit
    high: float | None  # price in float32
    attributes: Mapping[str, Attribute]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    bodies: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()  # names in the source of what a fused operator stands for


@dataclass(frozen=True, slots=True)
class Initializer:
    """Facts about a constant's data; extremes over finite elements. `sample`: its first elements."""

    elements: int
    lowest: float | None
    highest: float | None
    kept: tuple[str, ...]  # precisions that it is held in
    error: float | None  # relative L2 error that rounding makes
    overflowed: int
    flushed: int
    sample: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor, sequence, optional or map. `shape` with names for free dimensions, None where unknown."""

    id: str
    name: str
    dtype: str
    kind: str
    shape: tuple[int | str, ...] | None
    bytes: int | None
    lowest: float | None  # of the interval that it is proved to stay in, None where there is none
    highest: float | None
    initializer: Initializer | None = None


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place where precisions meet, dearest first in a graph, largest first where the unit is points.

    `bytes` read and written; `cost` in the unit.
    """

    value: str
    maker: str  # node id, "" for an initializer
    readers: tuple[str, ...]  # node ids
    cast: str
    source: str  # precision
    target: str
    bytes: int | None
    cost: float | None
    why: str


@dataclass(frozen=True)
class Graph:
    """One picture. Nodes in topological order, a node before those of its bodies."""

    bodies: tuple[Body, ...]
    modules: tuple[Module, ...]
    nodes: tuple[Node, ...]
    values: tuple[Value, ...]
    boundaries: tuple[Boundary, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """How much of a model is in one precision."""

    precision: str
    nodes: int
    operations: int
    bytes: int
    parameter_bytes: int
    time: float  # modelled, in the document's unit


@dataclass(frozen=True, slots=True)
class Hold:
    """What holds nodes of an island in float32 by itself. `why` is the first one's where the sentences differ."""

    cause: str
    rule: int
    why: str
    nodes: int  # how many


@dataclass(frozen=True, slots=True)
class Island:
    """Nodes next to each other that stay in float32.

    The reason is its first node's that has one of its own; its dearest node's where low precision hardly pays for any.
    `holds` has it and all others, those that hold most nodes first after it; not what only follows from a neighbour.
    """

    nodes: tuple[str, ...]
    types: Mapping[str, int]
    cause: str
    rule: int
    why: str
    time: float
    holds: tuple[Hold, ...]


@dataclass(frozen=True, slots=True)
class KeptParameter:
    """A parameter that stays float32, alone or beside a low copy."""

    value: str
    bytes: int
    reader: str  # node id
    cause: str
    why: str


@dataclass(frozen=True)
class Summary:
    """The first screen. `before` and `after` are modelled times of one run, in the unit."""

    shares: tuple[Share, ...]
    casts: int
    cast_bytes: int
    cast_time: float
    islands: tuple[Island, ...]
    kept_parameters: tuple[KeptParameter, ...]
    cpu_nodes: tuple[str, ...]
    before: float
    after: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A model to look at. `state`: converted by ampgraph, planned now (what `convert` would do), or as it was found.

    `source` is the model before, where it was given and its nodes are others (operators were fused); else the view of
    before is `graph` without its casts, each node at its `before`.
    """

    format: int
    generator: str  # "ampgraph 0.1.0"
    name: str  # file name, or the module's class
    dialect: Literal["onnx", "torch.fx"]
    state: State
    opsets: Mapping[str, int]
    producer: str
    precision: str
    target: str
    device: str
    objective: str
    unit: str
    shapes: Mapping[str, tuple[int, ...]]
    rules: tuple[Rule, ...]
    summary: Summary
    graph: Graph
    source: Graph | None = None
