"""What holds nodes in float32, on the page: every reason of an island, parameters kept; a click away from the nodes."""

from dataclasses import replace
from typing import Any

from ampgraph.inspection.document import Document, KeptParameter, Node
from ampgraph.inspection.islands import find_islands
from benchmarks.synthetic_documents import HIGH, LOW, RULES, Sketch, document

Opener = Any  # opens the page of a document

REASONS = (
    ("range", -1, "'n1_out' can reach 3e+5, beyond float16"),
    ("rule", 1, RULES[1].why),
    ("kernel", -1, "no kernel of Softmax takes float16"),
    ("pin", -1, "kept by --keep '<b>n4</b>'"),
    ("rule", 1, RULES[1].why),
    ("rule", 0, RULES[0].why),
)


def held(*reasons: tuple[str, int, str]) -> Document:
    """A chain of float32 nodes held by these reasons in turn, before one in float16 and another in float32."""
    sketch = Sketch()
    last = sketch.node("Input", "", (), HIGH, "input")
    for cause, rule, why in reasons:
        last = sketch.node("Softmax", "", last.outputs, HIGH)
        sketch.nodes[-1] = last = replace(last, cause=cause, rule=rule, why=why)
    low = sketch.node("Relu", "", (sketch.read(last.outputs[0], last, LOW),), LOW)
    weight = sketch.value("weight", HIGH, weight=True)
    sketch.node("MatMul", "", (sketch.read(low.outputs[0], low, HIGH), weight), HIGH)
    graph = sketch.graph()
    made = document(graph, "held")
    return replace(made, summary=replace(made.summary, islands=find_islands(graph)))


def chosen(page: Any) -> str:
    """Name of the node that is selected, once the picture has it."""
    page.wait_for_selector(".box.selected")
    return str(page.locator("#details .path").inner_text())


def ops(model: Document) -> list[Node]:
    return [node for node in model.graph.nodes if node.kind == "op"]


def test_an_island_lists_its_first_holds_and_a_click_shows_the_rest(show: Opener) -> None:
    model = held(*REASONS)
    island = model.summary.islands[0]
    page = show(model)
    page.keyboard.press("i")
    row = page.locator("#panel > div > div > .rows > li").first
    holds = row.locator(".holds li")
    assert f"{len(island.nodes)} nodes" in row.inner_text()
    assert len(island.holds) == 5
    assert holds.count() == 3
    assert row.locator(".more").inner_text() == "2 more of 2 left out"
    row.locator(".more").click()
    assert row.locator(".more").is_hidden()
    for shown, hold in zip(holds.all(), island.holds, strict=True):
        assert shown.inner_text().startswith(f"{hold.nodes} node")
        assert hold.cause in shown.inner_text()
        assert hold.why in shown.inner_text()


def test_an_island_with_one_reason_says_it_without_a_list(show: Opener) -> None:
    page = show(held(REASONS[1], REASONS[1]))
    page.keyboard.press("i")
    row = page.locator("#panel > div > div > .rows > li").first
    assert row.locator(".holds").count() == 0
    assert "2 nodes · rule softmax" in row.inner_text()
    assert row.inner_text().count(RULES[1].why) == 1


def test_a_hold_leads_to_the_first_node_that_it_holds_and_to_its_rule(show: Opener) -> None:
    model = held(*REASONS)
    page = show(model)
    page.keyboard.press("i")
    kernel = page.locator("#panel .holds li", has_text="no kernel of Softmax")
    kernel.locator(".link", has_text="1 node").click()
    assert chosen(page) == ops(model)[2].name
    page.locator("#panel .holds .quiet .link", has_text="softmax").click()
    assert page.locator("#search").input_value() == 'rule:"softmax"'


def test_a_node_named_by_a_hold_is_a_link(show: Opener) -> None:
    model = held(*reversed(REASONS))
    page = show(model)
    page.keyboard.press("i")
    page.locator("#panel .holds .more").click()
    page.locator("#panel .holds .sentence .link", has_text="n1_out").click()
    assert chosen(page) == ops(model)[0].name


def test_the_first_screen_tells_what_else_holds_islands(show: Opener) -> None:
    model = held(*REASONS)
    page = show(model)
    told = page.locator("#details .overview .holds")
    assert told.locator("li").count() == 3
    told.locator(".more").click()
    others = model.summary.islands[0].holds[1:]
    assert told.locator("li").count() == len(others) == 4
    for hold in others:
        assert hold.why in told.inner_text()


def test_reasons_of_kept_parameters_are_links(show: Opener) -> None:
    model = held(REASONS[1])
    softmax, _, reader = ops(model)
    kept = KeptParameter("weight", 3072, reader.id, reader.cause, f"follows Softmax '{softmax.name}'")
    page = show(replace(model, summary=replace(model.summary, kept_parameters=(kept,))))
    page.locator("#panel .fold summary").click()
    row = page.locator("#panel .fold li")
    assert kept.why in row.inner_text()
    row.locator(".sentence .link").click()
    assert chosen(page) == softmax.name
    row.locator(".quiet .link", has_text=RULES[reader.rule].name).click()
    assert page.locator("#search").input_value() == f'rule:"{RULES[reader.rule].name}"'
