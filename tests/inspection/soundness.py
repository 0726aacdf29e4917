"""What every document must keep to, and documents for tests."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import jsonschema
import onnx

from ampgraph.inspection.document import Document, Graph
from ampgraph.inspection.encode import from_json, to_json
from ampgraph.inspection.inspect import inspect
from ampgraph.inspection.schema import shipped

BRANCHES = """g (float[1,8] x, bool c) => (float[1,4] y) {
    [choice] y = If (c) <
        then_branch = t () => (float[1,4] a) { [inner] a = MatMul(x, w) },
        else_branch = f () => (float[1,4] b) { [other] b = MatMul(x, w) }>
}"""


def look(model: Any, **options: Any) -> Document:
    """The document of a model, found sound."""
    document = inspect(model, **options).document
    assert_sound(document)
    return document


@cache
def validator() -> jsonschema.Draft202012Validator:
    """Validates documents by the schema that the package ships."""
    schema = json.loads(shipped())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def assert_sound(document: Document) -> None:
    """The invariants that document.py states, in JSON too."""
    for graph in filter(None, (document.graph, document.source)):
        _assert_graph(graph, len(document.rules))
        figures = [(each.bytes if document.unit == "points" else each.cost) or 0 for each in graph.boundaries]
        assert figures == sorted(figures, reverse=True)
    assert sum(share.nodes for share in document.summary.shares) == len(_ops(document.graph))
    text = to_json(document)
    assert from_json(text) == document
    validator().validate(json.loads(text, parse_constant=_no_number))


def _no_number(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


def _ops(graph: Graph) -> list[str]:
    return [node.id for node in graph.nodes if node.kind == "op"]


def _assert_graph(graph: Graph, rules: int) -> None:
    values, nodes = {value.id for value in graph.values}, {node.id: node for node in graph.nodes}
    assert len(nodes) == len(graph.nodes)
    assert len(values) == len(graph.values)
    bodies = {body.id: body for body in graph.bodies}
    seen, read = set[str](), set[str]()
    for node in graph.nodes:
        assert node.why, node.id
        assert all(choice.why for choice in node.choices), node.id
        assert {value for value in (*node.inputs, *node.outputs) if value} <= values
        assert -1 <= node.rule < rules
        assert 0 <= node.module < len(graph.modules)
        assert node.body in bodies
        owner = bodies[node.body].owner
        assert not owner or owner in seen
        read |= set(node.inputs) - {""}
        assert not read & set(node.outputs), "made before it is read"
        seen.add(node.id)
    _assert_modules(graph)
    for boundary in graph.boundaries:
        assert boundary.value in values
        assert {boundary.cast, *boundary.readers, boundary.maker} - {""} <= nodes.keys()
        assert boundary.source != boundary.target
        assert boundary.why


def _assert_modules(graph: Graph) -> None:
    """Parents come first, no module holds nodes of two bodies, and none has too many children."""
    modules = graph.modules
    assert (modules[0].name, modules[0].parent) == ("", -1)
    assert all(0 <= module.parent < place for place, module in enumerate(modules) if place)
    bodies: dict[int, set[str]] = {}
    for node in graph.nodes:
        bodies.setdefault(node.module, set()).add(node.body)
    assert all(len(each) == 1 for each in bodies.values())
    children = Counter(module.parent for module in modules) + Counter(node.module for node in graph.nodes)
    assert max(children.values()) <= 61


def renamed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy whose nodes and inner values all have a name made of `name`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = {value.name for value in (*copy.graph.input, *copy.graph.output)}
    kept |= {tensor.name for tensor in copy.graph.initializer}
    for number, node in enumerate(copy.graph.node):
        node.name = f"{name}{number}" if name else ""
        for field in (node.input, node.output):
            for index, value in enumerate(field):
                if value not in kept:
                    field[index] = f"{name}{value}"
    return copy
