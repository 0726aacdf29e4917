"""Islands of float32: what belongs together, and which reason is told."""

from dataclasses import replace

from ampgraph.inspection.document import Graph, Hold, Node
from ampgraph.inspection.islands import find_islands

PLAIN = Node(
    "", "", "Op", 1, "op", "", 0, "float32", "float32", "taint", "follows", -1, (), "cuda", 0, 0, 1.0, 1.0, {}, (), ()
)


def node(id: str, reads: str = "", makes: str = "", cause: str = "taint", high: float = 1.0, **others: object) -> Node:
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


def test_all_that_holds_an_island_is_told_what_tells_it_first() -> None:
    (found,) = find_islands(graph(
        node("a", "x", "h", "cost"), node("b", "h", "i", "rule", rule=3), node("c", "i", "j", "cost"),
        node("d", "j", "k", "rule", rule=4), node("e", "k", "l", "rule", rule=4), node("f", "l", "m", rule=5),
    ))  # fmt: skip
    assert found.holds == (
        Hold("rule", 3, "of b", 1), Hold("cost", -1, "of a", 2), Hold("rule", 4, "of d", 2),
    )  # fmt: skip
    assert (found.cause, found.rule, found.why) == ("rule", 3, "of b")


def test_what_only_follows_is_held_by_what_it_follows() -> None:
    (found,) = find_islands(graph(node("a", "x", "h"), node("b", "h", "i")))
    assert found.holds == (Hold("taint", -1, "of a", 1),)


def test_sentences_tell_apart_what_no_rule_does() -> None:
    (found,) = find_islands(
        graph(node("a", "x", "h", "pin"), node("b", "h", "i", "pin"), node("c", "i", "j", "source"))
    )
    assert [hold.why for hold in found.holds] == ["of a", "of b", "of c"]


def test_without_float32_there_are_none() -> None:
    assert find_islands(graph(node("a", "x", "h", precision="other"))) == ()
