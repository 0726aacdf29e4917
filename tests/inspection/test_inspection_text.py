"""What a terminal shows: 80 columns, plain, everything there; and the Graphviz text."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampgraph.inspection.document import Document
from ampgraph.inspection.dot import quoted, to_dot
from ampgraph.inspection.inspect import Inspection, inspect
from ampgraph.inspection.text import short
from ampgraph.inspection.tree import Tally, bar
from tests.inspection.soundness import BRANCHES, look, renamed
from tests.small_models import classifier, parse, random

SHAPES = {"image": (2, 8, 16, 16)}


@pytest.fixture(scope="module")
def inspection() -> Inspection:
    return inspect(classifier(), objective="memory", shapes=SHAPES)


def test_the_summary_says_how_much_is_where_and_why(inspection: Inspection) -> None:
    said = str(inspection)
    assert "not converted yet: what `ampgraph convert` would do" in said
    assert "modelled at image=2x8x16x16" in said
    assert re.search(r"float16 +5 +590 k +41\.27 KiB", said)
    assert re.search(r"casts: 2 move 24\.\d+ KiB a run", said)
    assert "rule sum-of-exponentials: 1 island, 1 Exp, 1 ReduceSum, 1 Div, from Exp exp" in said
    assert "image: float32 -> float16, moves 24 KiB, costs 8 KiB" in said
    assert "made in float32 by the graph's input image, read in float16 by Conv conv" in said


def test_lists_are_cut_and_say_so() -> None:
    lines = " ".join(f"[n{n}] t{n} = Atan(x)  [m{n}] u{n} = custom.F{n}(x)" for n in range(12))
    outs = ", ".join(f"float[4] u{n}" for n in range(12))
    said = str(inspect(parse(f"g (float[4] x) => ({outs}) {{ {lines} }}")))
    assert "more reasons (--json has them)" in said
    assert "on the CPU provider: 12 Atan" in said


def test_all_rules_that_hold_an_island_are_named_with_their_nodes() -> None:
    text = """g (float[4,64] x) => (float[4,64] y) {
        [exp] e = Exp(x)  [square] s = Mul(e, e)  [sum] t = ReduceSum<keepdims = 1>(s)  [share] y = Div(e, t) }"""
    said = " ".join(str(inspect(parse(text), objective="coverage")).split())
    assert "float32 islands: 1 rule " in said
    assert "rule exponential: 1 island, 1 Exp, 1 Mul, 1 ReduceSum, 1 more type, from Exp exp" in said
    assert "2 nodes by rule mean-of-squares: Squares leave the range of float16" in said


def test_nothing_is_said_of_what_is_not_there() -> None:
    said = str(inspect(parse("g (int64[4] x) => (int64[4] y) { y = Add(x, x) }")))
    assert "casts: 0" in said
    assert "islands" not in said
    assert "boundaries" not in said


def test_coverage_has_points_and_shows_no_times(inspection: Inspection) -> None:
    said = str(inspect(classifier(), objective="coverage"))
    assert "points" not in said.partition("float32 islands")[0]
    assert "modelled time" not in said
    assert "modelled time" in str(inspect(classifier()))


def test_the_tree_has_a_bar_for_each_module() -> None:
    found = inspect(parse(BRANCHES, w=random(8, 4)), objective="coverage")
    lines = found.tree().splitlines()
    assert lines[0].startswith("█ float16, ▒ float32, · no floats, by nodes")
    assert [line.split()[0] for line in lines[2:]] == ["g", "choice", "choice"]
    assert "████████████████" in lines[3]
    assert len(found.tree(0).splitlines()) == 3


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=4))
def test_bars_are_as_wide_as_all_others_and_leave_out_no_precision(weights: list[float]) -> None:
    names = ("float16", "float32", "other", "float64")[: len(weights)]
    tally = Tally(dict(zip(names, weights, strict=True)), dict.fromkeys(names, 1), 0, 0.0)
    cells = bar(tally).plain
    assert len(cells) == 16
    letters = {"float16": "█", "float32": "▒", "other": "·", "float64": "█"}
    assert set(cells) == {letters[name] for name in names}


@pytest.mark.parametrize("name", ["\u202eturned", "a\x1b[31mred", "x" * 10_000, "[bold]markup[/bold]", "two\nlines"])
def test_no_name_breaks_the_lines_or_the_terminal(name: str) -> None:
    model = renamed(classifier(), name)
    document = look(model, objective="memory", shapes=SHAPES)
    found = Inspection(replace(document, name=name))
    for text in (str(found), found.tree()):
        assert max(map(len, text.splitlines())) <= 80
        assert not {"\x1b", "\u202e"} & set(text)
    assert ("[bold]markup[/bold]" in str(found)) == (name == "[bold]markup[/bold]")


def test_a_deep_tree_stays_within_its_lines() -> None:
    model = classifier()
    for number, node in enumerate(model.graph.node):
        node.name = "/".join(["encoder"] * (3 * number) + ["op"])
    tree = Inspection(look(model, objective="memory", shapes=SHAPES)).tree(99)
    assert max(map(len, tree.splitlines())) <= 80


def test_short_names_stay_as_they_are() -> None:
    assert short("encoder.layer.0") == "encoder.layer.0"
    assert short("ключ 鍵") == "ключ 鍵"
    assert short("x" * 100, 10) == "xxxxxxx..."


# Graphviz


def test_dot_has_every_node_and_edge_in_clusters(inspection: Inspection) -> None:
    document = inspection.document
    text = inspection.to_dot()
    assert text.startswith('digraph "classifier" {')
    assert text.count("{") == text.count("}")
    assert text.count("shape=") == len(document.graph.nodes)
    assert 'label="Conv conv" tooltip="float16:' in text
    nested = to_dot(look(parse(BRANCHES, w=random(8, 4))))
    assert 'subgraph "cluster_1" { label="choice then_branch";' in nested


@given(st.text(max_size=200))
def test_dot_strings_cannot_be_left(text: str) -> None:
    inside = quoted(text)[1:-1]
    assert not re.sub(r'\\["\\]', "", inside).count('"')
    assert not re.sub(r'\\["\\]', "", inside).endswith("\\")
    assert "\n" not in inside


def test_graphviz_of_hostile_names_is_balanced() -> None:
    document = look(renamed(classifier(), '"];evil[label="<b>\\'), objective="coverage")
    lines = to_dot(document).splitlines()
    assert all(re.sub(r'"(\\.|[^"\\])*"', "", line).count('"') == 0 for line in lines)
    assert not any("evil" in re.sub(r'"(\\.|[^"\\])*"', "", line) for line in lines)


def test_documents_know_their_state() -> None:
    document: Document = inspect(classifier(), as_is=True).document
    assert "as it was found; onnxruntime-cuda on h100" in str(Inspection(document))
