"""Islands of float32: what belongs together, and which reason is told."""

from dataclasses import replace

from ampgraph.inspection.document import Graph, Node
from ampgraph.inspection.islands import find_islands

PLAIN = Node(
    "", "", "Op", 1, "op", "", 0, "float32", "float32", "taint", "follows", -1, (), "cuda", 0, 0, 1.0, 1.0, {}, (), ()
)


def node(id: str, reads: str = "", makes: str = "", cause: str = "taint", high: float = 1.0, **others: str) -> Node:
    return replace(
        PLAIN, id=id, inputs=(reads,), outputs=(makes,), cause=cause, why=f"of {id}", high=high, **others
    )  # fmt: skip


def graph(*nodes: Node) -> Graph:
    return Graph((), (), nodes, (), ())


def test_neighbours_are_one_island_and_the_dearest_comes_first() -> None:
    found = find_islands(graph(
        node("a", "x", "h"), node("b", "x", "i"), node("low", "h", "j", precision="float16"),
        node("c", "h", "k", high=9.0), node("d", "j", "l"), node("cast", "k", "m", kind="cast"), node("e", "m", "n"),
    ))  # fmt: skip
    assert [island.nodes for island in found] == [("a", "c"), ("b",), ("d",), ("e",)]
    assert [island.time for island in found] == [10, 1, 1, 1]
    assert found[0].types == {"Op": 2}


def test_a_reason_of_its_own_goes_before_what_follows_from_it() -> None:
    (found,) = find_islands(graph(
        node("a", "x", "h", "cost"), node("b", "h", "i"), node("c", "i", "j", "rule"), node("d", "j", "k", "rule"),
    ))  # fmt: skip
    assert (found.cause, found.why) == ("rule", "of c")


def test_what_low_precision_hardly_pays_for_is_told_by_its_dearest_node() -> None:
    (found,) = find_islands(graph(
        node("a", "x", "h", "cost", 40.0), node("b", "h", "i", "cost", 50.0), node("c", "i", "j", "rule", 3.0),
    ))  # fmt: skip
    assert (found.cause, found.why) == ("cost", "of b")


def test_without_float32_there_are_none() -> None:
    assert find_islands(graph(node("a", "x", "h", precision="other"))) == ()
