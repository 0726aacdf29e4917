"""Ids of nodes: the name where it says which node, else type and position, always one each."""

import pytest
from onnx import ModelProto

from ampgraph.onnx_model.names import ID_KEY, all_value_names, metadata_of, node_ids, walk
from tests.models import parse

BODY = """g (float[4] x, bool c) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { [first] h = Add(x, w) [if] y = If (c) <
    then_branch = t () => (float[4] a) <float[4] v = {1, 2, 3, 4}> { [inner] a = Add(h, v) },
    else_branch = e () => (float[4] b) { b = Clip(h, , far) }> }"""


def named(*names: str, recorded: dict[int, str] | None = None) -> ModelProto:
    """A chain of Relus with these names, some with an id in their metadata."""
    lines = " ".join(f"v{index + 1} = Relu(v{index})" for index in range(len(names)))
    model = parse(f"g (float v0) => (float v{len(names)}) {{ {lines} }}")
    for index, (node, name) in enumerate(zip(model.graph.node, names, strict=True)):
        node.name = name
        if recorded and index in recorded:
            node.metadata_props.add(key=ID_KEY, value=recorded[index])
    return model


@pytest.mark.parametrize(
    ("names", "recorded", "expected"),
    [
        (("a", "b"), {}, ["a", "b"]),
        (("", "b"), {}, ["Relu#0", "b"]),
        (("a", "a", "b"), {}, ["Relu#0", "Relu#1", "b"]),
        (("", "Relu#0"), {}, ["Relu#0'", "Relu#0"]),
        (("input", "output"), {}, ["Relu#0", "Relu#1"]),
        (("a", "b"), {1: "before"}, ["a", "before"]),
        (("a", "b"), {1: "a"}, ["Relu#0", "a"]),
        (("", ""), {0: "Relu#1"}, ["Relu#1", "Relu#1'"]),
        (("", ""), {0: "same", 1: "same"}, ["same", "Relu#1"]),
    ],
)
def test_ids(names: tuple[str, ...], recorded: dict[int, str], expected: list[str]) -> None:
    found = node_ids(named(*names, recorded=recorded).graph)
    assert list(found.values()) == expected
    assert len(set(found.values())) == len(expected)


def test_an_id_that_is_recorded_survives_other_nodes_before_it() -> None:
    model = named("", "", recorded={1: "Relu#1"})
    model.graph.node.insert(0, model.graph.node[0])
    assert list(node_ids(model.graph).values())[2] == "Relu#1"


def test_nodes_are_walked_before_those_of_their_bodies() -> None:
    graph = parse(BODY).graph
    assert [node.op_type for node in walk(graph)] == ["Add", "If", "Add", "Clip"]
    assert list(node_ids(graph).values()) == ["first", "if", "inner", "Clip#3"]


def test_every_name_of_a_value_is_known() -> None:
    model = parse(BODY)
    model.graph.sparse_initializer.add().values.name = "sparse"
    assert all_value_names(model) == set("xcywhavb") | {"", "far", "sparse"}


def test_metadata() -> None:
    (node,) = named("a", recorded={0: "me"}).graph.node
    assert (metadata_of(node, ID_KEY), metadata_of(node, "none")) == ("me", "")
