"""Documents of any size without a model: what the page is measured and tried with. The same every time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ampgraph.inspection.comparison import FORMAT as COMPARED
from ampgraph.inspection.comparison import Comparison, Difference
from ampgraph.inspection.document import (
    FORMAT,
    Body,
    Boundary,
    Choice,
    Document,
    Graph,
    Hold,
    Initializer,
    Island,
    Module,
    Node,
    NodeKind,
    Rule,
    Share,
    Summary,
    Value,
)

LOW, HIGH = "float16", "float32"
SHAPE = (8, 384, 768)
BYTES = 8 * 384 * 768
RULES = (
    Rule("matmul", "allow", "products of matrices add up in float32 on the GPU", "a manual", "a.toml"),
    Rule("softmax", "deny", "exp of a half overflows above 11", "the format's range", "b.toml", ("axis is last",)),
    Rule("elementwise", "infer", "one operation per element takes the precision around it", "", "c.toml"),
)
_LAYER = (  # module, operator, readers of the results so many steps before, with a weight
    ("attention.query", "MatMul", (1,), True), ("attention.query", "Add", (1,), True),
    ("attention.key", "MatMul", (3,), True), ("attention.key", "Add", (1,), True),
    ("attention.value", "MatMul", (5,), True), ("attention.value", "Add", (1,), True),
    ("attention", "Reshape", (5,), False), ("attention", "Transpose", (1,), False),
    ("attention", "Reshape", (5,), False), ("attention", "Transpose", (1,), False),
    ("attention", "Reshape", (5,), False), ("attention", "Transpose", (1,), False),
    ("attention", "MatMul", (5, 3), False), ("attention", "Div", (1,), True), ("attention", "Add", (1, 0), False),
    ("attention", "Softmax", (1,), False), ("attention", "MatMul", (1, 5), False),
    ("attention", "Transpose", (1,), False), ("attention", "Reshape", (1,), False),
    ("attention.output", "MatMul", (1,), True), ("attention.output", "Add", (1,), True),
    ("", "Add", (1, 22), False), ("norm1", "LayerNormalization", (1,), True),
    ("mlp", "MatMul", (1,), True), ("mlp", "Add", (1,), True),
    ("mlp.act", "Div", (1,), True), ("mlp.act", "Erf", (1,), False),
    ("mlp.act", "Add", (1,), True), ("mlp.act", "Mul", (1, 4), False), ("mlp.act", "Mul", (1,), True),
    ("mlp", "MatMul", (1,), True), ("mlp", "Add", (1,), True), ("", "Add", (1, 10), False),
    ("norm2", "LayerNormalization", (1,), True),
)  # fmt: skip


@dataclass
class Sketch:
    """A graph while it is drawn. `names`: what nodes are called, in turn, where not by their scope."""

    nodes: list[Node] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    modules: list[Module] = field(default_factory=lambda: [Module("", "", -1)])
    bodies: list[Body] = field(default_factory=lambda: [Body("", None, "", 1.0)])
    paths: dict[str, int] = field(default_factory=lambda: {"": 0})
    names: Sequence[str] = ()

    def module(self, path: str) -> int:
        """Index of the module of a path, made where it is new."""
        if path not in self.paths:
            parent, _, name = path.rpartition(".")
            above = self.module(parent)
            self.paths[path] = len(self.modules)
            self.modules.append(Module(name, path, above, name.capitalize() if not name.isdigit() else "Layer"))
        return self.paths[path]

    def value(self, name: str, dtype: str = LOW, weight: bool = False) -> str:
        """A new value."""
        facts = Initializer(768, -0.31, 0.29, (dtype,), 2.1e-4, 0, 3, (0.01, -0.2)) if weight else None
        shape = (768,) if weight else SHAPE
        size = 768 * 2 if weight else BYTES * (2 if dtype == LOW else 4)
        self.values.append(Value(name, self._named(name), dtype, "tensor", shape, size, None, None, facts))
        return name

    def node(
        self, type: str, path: str, inputs: Sequence[str], precision: str, kind: NodeKind = "op", body: str = ""
    ) -> Node:
        """A new node with one output, none for an output of the graph."""
        id = f"n{len(self.nodes)}"
        rule = {"MatMul": 0, "Softmax": 1}.get(type, 2)
        why = f"{RULES[rule].why}, and its neighbours are {precision}"
        output = self.value(f"{id}_out", precision) if kind != "output" else ""
        choice = Choice("T", precision, "rule", why, rule, 1200.0, 2400.0)
        made = Node(
            id=id, name=self._named(f"{_scope(path)}{type}_{len(self.nodes)}"), type=type, version=17, kind=kind,
            body=body, module=self.module(path), precision=precision, before="" if kind == "cast" else HIGH,
            cause="rule", why=why, rule=rule, choices=() if kind != "op" else (choice,), kernel="cuda",
            operations=3 * BYTES, bytes=3 * BYTES,
            low=1200.0, high=2400.0, attributes={"axis": -1} if type == "Softmax" else {},
            inputs=tuple(inputs), outputs=(output,) if output else (),
        )  # fmt: skip
        self.nodes.append(made)
        return made

    def read(self, value: str, maker: Node, precision: str) -> str:
        """A value as it is read in a precision: through a cast where it is made in another."""
        if maker.precision == precision or maker.kind == "input":
            return value
        path = self.modules[maker.module].path
        cast = self.node("Cast", path, (value,), precision, "cast", maker.body)
        why = f"made in {maker.precision}, read in {precision}"
        crossing = Boundary(value, maker.id, (), cast.id, maker.precision, precision, 6 * BYTES, 800.0, why)
        self.boundaries.append(crossing)
        return cast.outputs[0]

    def graph(self) -> Graph:
        """All of it."""
        parts = (self.bodies, self.modules, self.nodes, self.values, self._settled())
        return Graph(*(tuple(part) for part in parts))

    def _settled(self) -> list[Boundary]:
        readers: dict[str, list[str]] = {}
        for node in self.nodes:
            for value in node.inputs:
                readers.setdefault(value, []).append(node.id)
        outputs = {node.id: node.outputs[0] for node in self.nodes if node.kind == "cast"}
        return [replace(each, readers=tuple(readers.get(outputs[each.cast], ()))) for each in self.boundaries]

    def _named(self, name: str) -> str:
        return self.names[len(self.nodes) % len(self.names)] if self.names else name


def _scope(path: str) -> str:
    return f"/{path.replace('.', '/')}/" if path else ""


def transformer(nodes: int, names: Sequence[str] = ()) -> Document:
    """About so many nodes of encoder layers, scoped by module, the softmax of each in float32 between casts."""
    sketch = Sketch(names=names)
    first = sketch.node("Input", "", (), HIGH, "input")
    mask = sketch.node("Input", "", (), HIGH, "input")
    previous = [first]
    layer = 0
    while len(sketch.nodes) < nodes:
        previous = _layer(sketch, previous[-1], mask, f"encoder.layer.{layer}")
        layer += 1
    sketch.node("Output", "", previous[-1].outputs, previous[-1].precision, "output")
    return document(sketch.graph(), f"transformer of {len(sketch.nodes):,}")


def _layer(sketch: Sketch, entry: Node, mask: Node, path: str) -> list[Node]:
    made = [entry]
    for module, type, back, weighted in _LAYER:
        precision = HIGH if type in ("Softmax", "LayerNormalization") else LOW
        sources = [mask if step == 0 else made[-min(step, len(made))] for step in back]
        inputs = [sketch.read(source.outputs[0], source, precision) for source in sources]
        if weighted:
            inputs.append(sketch.value(f"w{len(sketch.values)}", precision, weight=True))
        made.append(sketch.node(type, f"{path}.{module}" if module else path, inputs, precision))
    return made


def flat(nodes: int) -> Document:
    """So many nodes with no scopes at all, each reading near ones and now and then one far back."""
    draw = random.Random(0)
    sketch = Sketch()
    made = [sketch.node("Input", "", (), HIGH, "input")]
    while len(sketch.nodes) < nodes - 1:
        near = made[-1 - min(len(made) - 1, int(draw.expovariate(0.7)))]
        reach = len(made) if draw.random() < 0.03 else min(len(made), 12)
        far = made[-1 - draw.randrange(reach)]
        type = draw.choice(("MatMul", "Add", "Relu", "Softmax", "Mul", "Concat"))
        precision = HIGH if type == "Softmax" else LOW
        inputs = [sketch.read(source.outputs[0], source, precision) for source in {near.id: near, far.id: far}.values()]
        made.append(sketch.node(type, "", inputs, precision))
    sketch.node("Output", "", made[-1].outputs, made[-1].precision, "output")
    return document(sketch.graph(), f"flat of {nodes:,}")


def document(graph: Graph, name: str, source: Graph | None = None) -> Document:
    """The document around a graph."""
    ops = [node for node in graph.nodes if node.kind == "op"]
    shares = tuple(_share(each, [node for node in ops if node.precision == each]) for each in (LOW, HIGH))
    casts = [node for node in graph.nodes if node.kind == "cast"]
    high = [node for node in ops if node.precision == HIGH]
    islands = tuple(_island(node) for node in high)
    summary = Summary(shares, len(casts), 6 * BYTES * len(casts), 800.0 * len(casts), islands, (), (), 9e9, 5e9)
    return Document(
        FORMAT, "ampgraph 0.1.0", name, "onnx", "planned", {"": 17}, "", LOW, "onnxruntime-cuda", "h100", "speed",
        "picoseconds", {"x": SHAPE}, RULES, summary, graph, source,
    )  # fmt: skip


def _island(node: Node) -> Island:
    hold = Hold(node.cause, node.rule, node.why, 1)
    return Island((node.id,), {node.type: 1}, node.cause, node.rule, node.why, 2400.0, (hold,))


def _share(precision: str, nodes: Sequence[Node]) -> Share:
    operations, moved = sum(node.operations or 0 for node in nodes), sum(node.bytes or 0 for node in nodes)
    return Share(precision, len(nodes), operations, moved, 768 * len(nodes), 2e3 * len(nodes))


def comparison(made: Document) -> Comparison:
    """Errors that grow along a document's graph, with one overflow two thirds down."""
    ops = [node for node in made.graph.nodes if node.kind == "op"]
    planted = len(ops) * 2 // 3
    values = tuple(_difference(node, order, order / len(ops), order == planted) for order, node in enumerate(ops))
    worst = sorted(values, key=lambda each: -each.relative)[:10]
    beyond = next((each.value for each in values if not each.within), "")
    return Comparison(
        COMPARED, "ampgraph 0.1.0", "a.onnx", "b.onnx", "evaluator", "float16 evaluator on the CPU", "generated",
        {"x": SHAPE}, 1e-2, values[-1:], values, 3, beyond, values[planted].value, "",
        tuple(each.value for each in worst), False,
    )  # fmt: skip


def _difference(node: Node, order: int, way: float, overflow: bool) -> Difference:
    relative = float("inf") if overflow else 10 ** (-6 + 4.5 * way)
    found = float("inf") if overflow else 1.0 + relative
    return Difference(
        node.outputs[0], node.name, node.id, node.type, order, BYTES, relative, relative, (0, 3), 1.0, found, 2.5,
        int(overflow), 0, relative <= 1e-2,
    )  # fmt: skip
