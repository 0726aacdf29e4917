"""A page whose layout fails says so in one line, and is as useful as it can be without a new picture."""

import base64
import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ampgraph.inspection.document import Document
from ampgraph.inspection.page import page_html
from benchmarks.synthetic_documents import RULES, flat, transformer

MODEL = transformer(300)
Opener = Callable[..., Any]

# Questions larger than the first come broken to the layout, which then fails by itself.
_LIMIT = """
;(() => {
  const real = self.onmessage;
  let first = 0;
  self.onmessage = (event) => {
    if (!event.data.request) return real(event);
    const size = JSON.stringify(event.data.request).length;
    first ||= size;
    return real({data: size > first ? {...event.data, request: {}} : event.data});
  };
})();
"""


def changed(html: str, id: str, change: Callable[[bytes], bytes]) -> str:
    """A page with other data in one of its elements."""

    def repacked(match: re.Match[str]) -> str:
        data = change(gzip.decompress(base64.b64decode(match[2])))
        return match[1] + base64.b64encode(gzip.compress(data)).decode("ascii")

    return re.sub(rf'(id="{id}">)([^<]*)', repacked, html)


@pytest.fixture
def broken(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    """Opens a page that was changed."""
    pages = []

    def opener(id: str, change: Callable[[bytes], bytes], model: Document = MODEL) -> Any:
        path = tmp_path / "page.html"
        path.write_text(changed(page_html(model), id, change), encoding="utf-8")
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        pages.append(page)
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        return page

    yield opener
    for page in pages:
        page.close()


def failure(page: Any) -> str:
    """What the page says of the failure, on one line, once it is no longer busy."""
    page.wait_for_selector("#count.failure")
    assert page.locator("#graph[aria-busy]").count() == 0
    assert page.locator("#count").bounding_box()["height"] < 30
    return str(page.locator("#count").inner_text())


@pytest.mark.parametrize(
    ("id", "change"),
    [("engine", lambda data: data[: len(data) // 2]), ("layout", lambda data: b"throw new Error('no layout')")],
)
def test_without_a_layout_reasons_and_lists_are_there(broken: Opener, id: str, change: Any) -> None:
    page = broken(id, change)
    assert failure(page).startswith("There is no picture; reasons and lists are whole: the layout failed: ")
    assert RULES[1].why in page.locator("#details").inner_text()
    page.keyboard.press("i")
    page.locator("#panel .rows .head .link").first.click()
    page.wait_for_selector("#details .why")
    assert "Softmax" in page.locator("#details h2").inner_text()
    failure(page)


def test_a_layout_that_fails_leaves_the_picture_and_the_next_one_is_drawn(broken: Opener) -> None:
    page = broken("layout", lambda data: data + _LIMIT.encode())
    before = page.locator(".box").count()
    assert before > 0
    page.click("#open-all")
    assert failure(page).startswith("The picture stays as it was: the layout failed: ")
    assert page.locator(".box").count() == before
    page.keyboard.press("0")
    page.wait_for_selector("#count:not(.failure)")
    assert page.locator("#graph[aria-busy]").count() == 0
    assert page.locator(".box").count() == before


def test_what_was_chosen_is_told_where_its_picture_fails(broken: Opener) -> None:
    page = broken("layout", lambda data: data + _LIMIT.encode())
    page.fill("#search", "op:Softmax")
    page.locator("#panel .rows .link").nth(3).click()
    failure(page)
    assert "Softmax" in page.locator("#details h2").inner_text()
    assert page.locator(".box.selected").count() == 0


def test_a_side_whose_picture_fails_is_not_gone_to(broken: Opener) -> None:
    small = flat(3)
    page = broken("layout", lambda data: data + _LIMIT.encode(), replace(small, source=flat(30).graph))
    before = page.locator(".box").count()
    page.click("#toggle")
    failure(page)
    assert page.locator("#toggle").inner_text() == "After"
    assert page.locator("#toggle").get_attribute("aria-pressed") == "false"
    assert page.locator(".box").count() == before
