"""The page in a real browser: it opens, folds, searches, tells reasons, and asks nothing of anyone."""

import re
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ampgraph.inspection import text as terminal
from ampgraph.inspection.document import Body, Share
from ampgraph.inspection.page import page_html
from ampgraph.reasons import format_amount
from benchmarks.browser import watched
from benchmarks.synthetic_documents import HIGH, LOW, RULES, SHAPE, Sketch, comparison, document, flat, transformer

MODEL = transformer(300)
HOSTILE = (
    "<img src=x onerror=window.__pwned=1>",
    "</script><script>window.__pwned=2</script>",
    "\"'`><svg onload=alert(1)>&lt;${window.__pwned=3}",
    "x" * 10_000,
    "\u202eesrever\u202c \u05d0\u05d1\u05d2 \u0627\u0644\u0639",
    "a\nb\tc\u0000d\u2028e",
    "javascript:alert(1)",
    "__proto__",
)


Opener = Any  # opens the page of a document


def boxes(page: Any) -> int:
    return page.locator(".box").count()


def settled(page: Any, act: str = "") -> None:
    """Waits until the page has drawn what it was asked for."""
    if act:
        page.keyboard.press(act)
    page.wait_for_selector("#graph:not([aria-busy])")
    page.wait_for_timeout(250)


def test_groups_open_and_close_by_mouse_and_keyboard(show: Opener) -> None:
    page = show(MODEL)
    before = boxes(page)
    page.locator(".box.group").first.dblclick()
    settled(page)
    opened = boxes(page)
    assert opened > before
    settled(page, "Enter")
    assert boxes(page) == before
    page.locator(".box.group .sign").first.click()
    settled(page)
    assert boxes(page) == opened


def test_a_node_tells_its_reason_rule_cost_and_neighbours(show: Opener) -> None:
    page = show(MODEL)
    page.keyboard.press("/")
    page.keyboard.type("op:Softmax")
    settled(page)
    page.locator("#panel .rows .link").first.click()
    settled(page)
    text = page.locator("#details").inner_text()
    shape = "\N{MULTIPLICATION SIGN}".join(map(str, SHAPE))
    for words in (*RULES[1].conditions, RULES[1].why, RULES[1].source, "1.2 ns", "2.4 ns", shape, "cuda"):
        assert words in text
    assert page.locator(".box.selected").count() == 1
    page.locator("#details .value .link").first.click()
    settled(page)
    assert "Cast" in page.locator("#details h2").inner_text()
    assert "Boundaries" in page.locator("#details").inner_text()


@pytest.mark.parametrize(
    ("query", "first"),
    [("op:softmax", "Softmax"), ("rule:softmax", "Softmax"), ("precision:f32 op:layer", "LayerNormalization"),
     ("is:cast", "Cast"), ("is:island", "Softmax"), ('module:"layer.1" Erf', "Erf"), ("is:boundary -is:cast", "")],
)  # fmt: skip
def test_searches_find_by_word_and_by_prefix(show: Opener, query: str, first: str) -> None:
    page = show(MODEL)
    page.fill("#search", query)
    assert first in page.locator("#panel .rows li").first.inner_text()
    assert page.locator(".box.hit").count() > 0


def test_a_search_without_results_says_so(show: Opener) -> None:
    page = show(MODEL)
    page.fill("#search", "op:NoSuchOperator")
    assert "Nothing found" in page.locator("#panel").inner_text()


def test_boundaries_and_islands_are_listed_and_jump(show: Opener) -> None:
    page = show(MODEL)
    for key, count in (("b", len(MODEL.graph.boundaries)), ("i", len(MODEL.summary.islands))):
        settled(page, key)
        assert page.locator("#panel p").first.inner_text().startswith(str(count))
        page.locator("#panel .rows .link").first.click()
        settled(page)
        assert page.locator(".box.selected").count() == 1


def test_before_has_no_casts_and_keeps_what_is_selected(show: Opener) -> None:
    page = show(MODEL)
    page.fill("#search", "op:Softmax")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator(".box.cast").count() > 0
    name = page.locator("#details .path").inner_text()
    page.click("#toggle")
    settled(page)
    assert page.locator(".box.cast").count() == 0
    assert page.locator("#details .path").inner_text() == name
    assert page.locator("#details h2 .chip").inner_text() == "f32"
    page.click("#toggle")
    settled(page)
    assert page.locator(".box.cast").count() > 0


def test_before_is_the_source_where_one_is_given(show: Opener) -> None:
    sketch = Sketch()
    first = sketch.node("Input", "", (), HIGH, "input")
    sketch.node("TheSourceOnly", "", first.outputs, HIGH)
    page = show(replace(MODEL, source=sketch.graph()))
    page.click("#toggle")
    settled(page)
    assert page.locator(".box .title", has_text="TheSourceOnly").count() == 1


def test_arrow_keys_follow_edges(show: Opener) -> None:
    page = show(MODEL)
    page.focus("#graph")
    settled(page, "ArrowDown")
    first = page.locator(".box.selected").get_attribute("id")
    settled(page, "ArrowDown")
    second = page.locator(".box.selected").get_attribute("id")
    assert first != second
    assert page.locator("#graph").get_attribute("aria-activedescendant") == second
    settled(page, "ArrowUp")
    assert page.locator(".box.selected").get_attribute("id") != second
    settled(page, "Escape")
    assert page.locator(".box.selected").count() == 0


def of_points(model: Any) -> Any:
    """The same model as it is planned by `--objective coverage`."""
    return replace(model, objective="coverage", unit="points")


def saying(model: Any, text: str) -> tuple[Any, Any]:
    """A model whose first Softmax has this reason, and that node."""
    node = next(each for each in model.graph.nodes if each.type == "Softmax")
    told = replace(node, why=text)
    nodes = tuple(told if each is node else each for each in model.graph.nodes)
    return replace(model, graph=replace(model.graph, nodes=nodes)), told


@pytest.mark.parametrize(
    ("text", "named"),
    [("follows Erf '{erf}', which stays float32", "Erf"), ("bound to {erf}:T: it may grow", "Erf"),
     ("has the precision of {erf}:T", "Erf"), ("made in float16 by Erf {erf}, read in float32 by Div {div}", "Div"),
     ("made in float32 by the graph's input {input}, read in float16 by Erf {erf}", "Input"),
     ("'{value}' can reach 3.4e+38", "Erf")],
)  # fmt: skip
def test_nodes_named_in_a_reason_are_links_to_them(show: Opener, text: str, named: str) -> None:
    first = {each.type: each for each in reversed(MODEL.graph.nodes)}
    names = {"erf": first["Erf"].name, "div": first["Div"].name, "input": first["Input"].name}
    model, node = saying(MODEL, text.format(**names, value=first["Erf"].outputs[0]))
    page = show(model, None, f"#n={node.id}")
    links = page.locator("#details .why .link")
    shown = [first["Erf"].outputs[0]] if "value" in text else [names[named.lower()]]
    assert node.why in page.locator("#details .why").inner_text()
    links.filter(has_text=re.compile(f"^{re.escape(shown[0])}$")).click()
    settled(page)
    assert page.locator("#details .path").inner_text() == first[named].name


def test_words_of_a_reason_that_are_names_of_nodes_by_chance_are_no_links(show: Opener) -> None:
    model, node = saying(MODEL, "the kernel of Softmax adds up in float32, and reads Erf twice")
    nodes = tuple(replace(each, name="adds") if each.type == "Erf" else each for each in model.graph.nodes)
    page = show(replace(model, graph=replace(model.graph, nodes=nodes)), None, f"#n={node.id}")
    assert page.locator("#details .why .link").count() == 0


def test_hostile_names_in_reasons_are_links_that_run_nothing(show: Opener) -> None:
    made = transformer(80, HOSTILE)
    mask = next(each for each in made.graph.nodes if each.type == "Erf")
    model, node = saying(made, f"follows Erf '{mask.name}', which stays float32")
    page = show(model, None, f"#n={node.id}")
    page.locator("#details .why .link").click()
    settled(page)
    assert page.locator("#details h2").inner_text().endswith("Erf")
    assert page.evaluate("window.__pwned") is None


def test_a_rule_is_a_link_to_its_text_and_all_nodes_that_it_settled(show: Opener) -> None:
    page = show(MODEL)
    settled(page, "i")
    page.locator("#panel .quiet .link", has_text="softmax").first.click()
    text = page.locator("#panel").inner_text()
    for words in (RULES[1].why, RULES[1].source, RULES[1].place, *RULES[1].conditions):
        assert words in text
    found = [node for node in MODEL.graph.nodes if node.rule == 1 and node.kind == "op"]
    assert page.locator("#panel .rows li").count() == len(found)
    page.locator("#panel .rows .link").first.click()
    settled(page)
    page.fill("#search", "")
    page.locator("#details .rule .link").click()
    assert page.locator("#search").input_value() == 'rule:"softmax"'


def test_a_reason_that_is_its_rule_s_text_is_said_once(show: Opener) -> None:
    model, node = saying(MODEL, RULES[1].why)
    page = show(model, None, f"#n={node.id}")
    assert page.locator("#details").inner_text().count(RULES[1].why) == 2  # as the reason, and of its type variable


def test_the_first_screen_tells_why_and_what_boundaries_cost(show: Opener) -> None:
    page = show(MODEL)
    text = page.locator("#details").inner_text()
    for words in (RULES[1].why, "Dearest boundaries", "made in float16, read in float32", "800 ps"):
        assert words in text
    page.get_by_text(f"all {len(MODEL.graph.boundaries)} boundaries").click()
    assert page.locator("[data-tab=boundaries]").get_attribute("aria-selected") == "true"
    page.get_by_text(f"all {len(MODEL.summary.islands)} islands").click()
    assert page.locator("[data-tab=islands]").get_attribute("aria-selected") == "true"
    page.locator("#details .rows .head > .link").first.click()
    settled(page)
    assert page.locator(".box.selected").count() == 1
    assert "Cast" in page.locator("#details h2").inner_text()


@pytest.mark.parametrize(
    ("unit", "islands", "boundaries"),
    [("picoseconds", "by time", "by time"), ("bytes", "by bytes", "by bytes"),
     ("points", "by number of nodes", "by bytes")],
)  # fmt: skip
def test_lists_say_what_they_are_ordered_by(show: Opener, unit: str, islands: str, boundaries: str) -> None:
    page = show(replace(MODEL, unit=unit))
    for key, order in (("i", islands), ("b", boundaries)):
        settled(page, key)
        assert page.locator("#panel p").first.inner_text().endswith(order)


def test_points_are_no_price(show: Opener) -> None:
    page = show(of_points(MODEL))
    page.locator("#details .rows .head > .link").first.click()
    settled(page)
    for key in ("s", "b", "i"):
        settled(page, key)
        assert "points" not in page.locator("#panel").inner_text()
    assert "points" not in page.locator("#details").inner_text()


def test_figures_are_those_of_the_terminal(show: Opener) -> None:
    amounts = (0, 1, 904, 1023, 1024, 80_640, 1_048_575, 1_708_032, 685_244_416, 5_368_709_120, 700_000_000_000)
    shares = tuple(Share(f"p{n}", n, n, n, n, float(n)) for n in amounts)
    page = show(replace(MODEL, summary=replace(MODEL.summary, shares=shares)))
    rows = page.locator(".figures tbody tr").all()[: len(amounts)]
    for row, n in zip(rows, amounts, strict=True):
        cells = row.locator("td").all_inner_texts()
        assert cells[1] == terminal.count(n)
        assert cells[2:] == [format_amount(n, "bytes")] * 2 + [terminal.amount(n, MODEL)]


# All of the picture, without what is chosen or found in it; attributes in order of their names.
_PICTURE = """
() => {
  const told = (element) => {
    const passing = ["selected", "lit", "hit"];
    const attributes = [...element.attributes].map(({name, value}) => {
      if (name === "class") value = value.split(/ +/).filter((word) => !passing.includes(word)).join(" ").trim();
      return `${name}=${value}`;
    });
    return [element.tagName, attributes.sort(), [...element.childNodes].map(
      (child) => child.nodeType === Node.TEXT_NODE ? child.data : told(child),
    )];
  };
  return JSON.stringify(told(document.querySelector("#graph > g > g")));
}
"""


@pytest.mark.parametrize("make", [transformer, flat])
def test_a_picture_changed_step_by_step_is_the_one_drawn_at_once(show: Opener, make: Any) -> None:
    """Boxes that stay are not drawn again: they must stand and look as if they were."""
    model = make(1200)
    page = show(model, comparison(model))
    row = page.locator("#panel .rows .link").nth
    steps = (
        lambda: page.fill("#search", "op:softmax"),
        row(0).click, row(9).click, row(25).click,
        lambda: page.keyboard.press("c"),
        lambda: page.locator(".box.open .sign").last.dispatch_event("click"),
        row(9).click,
        lambda: page.keyboard.press("t"),
        row(3).click,
        lambda: page.keyboard.press("t"),
    )  # fmt: skip
    seen = set()
    for step in steps:
        step()
        page.focus("#graph")
        settled(page)
        again = show(model, comparison(model), page.evaluate("location.hash"))
        if page.get_attribute("#colour", "aria-pressed") == "false":
            settled(again, "c")
        seen.add(picture := page.evaluate(_PICTURE))
        assert picture == again.evaluate(_PICTURE)
    assert len(seen) > 5


def test_a_jump_leaves_the_boxes_that_were_there_alone(show: Opener) -> None:
    page = show(transformer(1200))
    page.evaluate("for (const box of document.querySelectorAll('.box')) box.known = true")
    before = boxes(page)
    page.fill("#search", "op:softmax")
    page.locator("#panel .rows .link").nth(20).click()
    settled(page)
    assert boxes(page) > before
    assert page.evaluate("[...document.querySelectorAll('.box')].filter((box) => box.known).length") >= before - 3


def test_the_start_shows_all_of_the_picture_and_nothing_covers_it(show: Opener) -> None:
    page = show(MODEL)
    frame = page.locator("#graph").bounding_box()
    for at in range(boxes(page)):
        box = page.locator(".box").nth(at).bounding_box()
        assert frame["x"] <= box["x"]
        assert box["x"] + box["width"] <= frame["x"] + frame["width"]
        assert frame["y"] <= box["y"]
        assert box["y"] + box["height"] <= frame["y"] + frame["height"]
    foot = page.locator("#foot").bounding_box()
    assert foot["y"] >= frame["y"] + frame["height"] - 1
    assert page.locator("#foot #legend").inner_text()


@pytest.mark.parametrize("word", ["id", "name"])
def test_a_link_to_a_node_shows_it_large_enough_to_read(show: Opener, word: str) -> None:
    node = [each for each in transformer(1200).graph.nodes if each.type == "Softmax"][20]
    page = show(transformer(1200), None, f"#n={quote(getattr(node, word), safe='')}")
    settled(page)
    assert page.locator("#details .path").inner_text() == node.name
    box, frame = page.locator(".box.selected").bounding_box(), page.locator("#graph").bounding_box()
    assert box["height"] >= 0.7 * 39
    assert abs(box["y"] + box["height"] / 2 - frame["y"] - frame["height"] / 2) < frame["height"] / 2 - 20
    assert abs(box["x"] + box["width"] / 2 - frame["x"] - frame["width"] / 2) < frame["width"] / 2 - 20


def test_a_link_opens_at_its_node(show: Opener) -> None:
    page = show(MODEL)
    page.fill("#search", "op:Erf")
    page.keyboard.press("Enter")
    settled(page)
    fragment = page.evaluate("location.hash")
    again = show(MODEL, None, fragment)
    assert again.locator("#details").inner_text() == page.locator("#details").inner_text()
    assert boxes(again) == boxes(page)


def test_constants_are_shown_on_demand(show: Opener) -> None:
    page = show(MODEL)
    assert page.locator(".constant").count() == 0
    page.fill("#search", "op:LayerNorm")
    page.keyboard.press("Enter")
    settled(page)
    page.focus("#graph")
    settled(page, "w")
    assert page.locator(".constant").count() > 0
    settled(page, "w")
    page.fill("#search", "op:MatMul")
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_text("show constants in the picture").click()
    settled(page)
    assert page.locator(".constant").count() == 1


def test_errors_of_a_comparison_colour_the_graph_and_jump(show: Opener, shots: Path) -> None:
    page = show(MODEL, comparison(MODEL))
    assert page.locator(".e-7").count() > 0
    assert "beyond tolerance" in page.locator("#panel").inner_text()
    assert page.locator("#panel .point").count() > 50
    page.locator("#panel .link").first.click()
    settled(page)
    assert "1 became ∞" in page.locator("#details").inner_text()
    page.screenshot(path=shots / "errors.png")
    settled(page, "c")
    assert page.locator(".e-7").count() == 0


# Of each kind of box, in each step of the scale: the least contrast of its texts with its fill, by WCAG 2.
_CONTRASTS = """
(steps) => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 1, height: 1});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const luminance = (colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const parts = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
    const linear = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const found = {};
  const kinds = ["leaf", "cast", "group", "end"];
  const boxes = kinds.map((kind) => [kind, document.querySelector(`.box.${kind}.err`)]);
  for (const step of steps) {
    for (const [kind, box] of boxes) {
      box.setAttribute("class", `box ${kind} err ${step}`);
      const fill = getComputedStyle(box.querySelector(":scope > .body")).fill;
      const inks = [...box.querySelectorAll(":scope > text")].map((text) => getComputedStyle(text).fill);
      found[`${kind} ${step}`] = Math.min(...inks.map((ink) => contrast(ink, fill)));
    }
    const chip = document.querySelector(`#legend .${step}`), style = getComputedStyle(chip);
    found[`legend ${step}`] = contrast(style.color, style.backgroundColor);
  }
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_on_every_colour_of_an_error(show: Opener, shots: Path, scheme: str) -> None:
    page = show(MODEL, comparison(MODEL), color_scheme=scheme)
    page.locator(".box.group .sign").first.click()
    settled(page)
    page.screenshot(path=shots / f"errors_{scheme}.png")
    found = page.evaluate(_CONTRASTS, [*(f"e-{step}" for step in range(8)), "e-none"])
    assert len(found) == 5 * 9
    assert {what: contrast for what, contrast in found.items() if not contrast >= 4.5} == {}


def test_bodies_are_inside_their_owner(show: Opener) -> None:
    sketch = Sketch()
    first = sketch.node("Input", "", (), HIGH, "input")
    owner = sketch.node("If", "", first.outputs, LOW)
    inner = [sketch.node("Relu", "", first.outputs, LOW, body=name) for name in ("then", "else")]
    sketch.bodies += [Body("then", "", owner.id, 0.5), Body("else", "", owner.id, 0.5)]
    graph = sketch.graph()
    nodes = tuple(replace(node, bodies=("then", "else")) if node.id == owner.id else node for node in graph.nodes)
    page = show(document(replace(graph, nodes=nodes), "nested"))
    for node in inner:
        page.fill("#search", f"name:Relu_{node.id[1:]}")
        page.keyboard.press("Enter")
        settled(page)
        assert page.locator(".box.open .box.leaf.selected").count() == 1


def test_hostile_names_are_text_and_run_nothing(show: Opener, shots: Path) -> None:
    made = transformer(80, HOSTILE)
    page = show(replace(made, name=HOSTILE[1]))
    page.click("#open-all")
    settled(page)
    for key in ("b", "i", "s", "w"):
        settled(page, key)
    shown = ""
    for text in ("onerror", "__pwned=2", "onload=alert", "xxxx", "esrever", "proto"):
        page.fill("#search", text)
        page.keyboard.press("Enter")
        settled(page)
        shown += page.locator("#details").inner_text()
    page.screenshot(path=shots / "hostile.png")
    for name in HOSTILE[:3]:
        assert name in shown
    assert "⟨202E⟩esrever" in shown
    assert "10000 characters" in shown
    assert page.evaluate("window.__pwned") is None
    assert page.locator("img, #details script").count() == 0


def test_a_name_of_ten_thousand_characters_is_clipped_and_whole_on_demand(show: Opener) -> None:
    page = show(transformer(40, HOSTILE))
    page.fill("#search", "xxxx")
    page.keyboard.press("Enter")
    settled(page)
    path = page.locator("#details .path")
    assert len(path.inner_text()) < 300
    path.locator("button").click()
    assert len(path.inner_text()) >= 10_000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [(1440, 900), (1000, 700), (420, 800)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_any_window_shows_the_graph(show: Opener, shots: Path, size: tuple[int, int], scheme: str) -> None:
    page = show(MODEL, viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.locator(".box").first.click()
    settled(page)
    frame = page.locator("#graph").bounding_box()
    assert frame["width"] > 250
    assert frame["height"] > 200
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=shots / f"{size[0]}_{scheme}.png")


def test_it_prints_with_picture_and_panels(show: Opener) -> None:
    page = show(MODEL)
    page.emulate_media(media="print")
    assert page.locator("#search").is_hidden()
    assert page.locator("#graph").is_visible()
    assert page.locator("#panel").is_visible()
    assert len(page.pdf()) > 10_000


def test_it_works_in_a_frame_that_may_only_run_scripts(browser: Any, tmp_path: Path) -> None:
    """As a notebook shows it."""
    path = tmp_path / "notebook.html"
    frame = f'<iframe sandbox="allow-scripts" width=900 height=600 srcdoc="{escape(page_html(MODEL))}"></iframe>'
    path.write_text(frame)
    page = browser.new_page()
    troubles = watched(page)
    page.goto(path.as_uri())
    frame = page.frames[1]
    frame.wait_for_selector("html[data-ready]", state="attached")
    assert frame.locator(".box").count() > 5
    assert not troubles
    page.close()


@pytest.mark.parametrize("make", [transformer, flat])
def test_a_large_graph_never_draws_more_than_it_can(show: Opener, make: Any) -> None:
    page = show(make(3000))
    assert 5 < boxes(page) < 90
    page.click("#open-all")
    page.wait_for_timeout(1500)
    assert 90 < boxes(page) <= 320
    page.fill("#search", "is:op")
    assert "more of" in page.locator("#panel .more").inner_text()
