"""How fast a large graph's page is: `python -m benchmarks.page_speed`. Needs Chromium and Playwright.

Of each document: size of the file in MB; milliseconds from opening it to the first picture, and from a click or a key
to the frame that shows what it did: the worst of several clicks, each the median of what it took in several sessions.
No GPU is used. `work` is processor time of the page's two threads for the same: what a click takes at least, on a
machine that does nothing else. `load` is how many processes wanted a core meanwhile, by the system's count of the last
minute: more than there are cores makes all times longer.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ampgraph.inspection.document import Document
from ampgraph.inspection.page import page_html
from benchmarks.browser import find, opened, watched
from benchmarks.record import keep, table
from benchmarks.synthetic_documents import flat, transformer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BAR_SIZE, BAR_FIRST, BAR_ACT = 6.0, 3000.0, 100.0  # MB, ms, ms; bars are for 10,000 nodes
REPEATS, SESSIONS = 6, 5
ACTS = ("select", "search", "jump", "expand")
TASK, THREADS = "ThreadControllerImpl::RunTask", ("CrRendererMain", "DedicatedWorker thread")
DOCUMENTS: tuple[tuple[Callable[[int], Document], int], ...] = (
    (transformer, 10_000),
    (flat, 10_000),
    (transformer, 50_000),
    (flat, 50_000),
)

# Acts, then waits until the picture or a list has changed and the frame with it is out.
_TIMED = """
async ([what, at]) => {
  const changed = (target, kinds) => new Promise((done) => {
    const watch = new MutationObserver(() => { watch.disconnect(); done(); });
    watch.observe(target, kinds);
  });
  const graph = document.querySelector("#graph > g"), panel = document.querySelector("#panel");
  const click = (what) => document.querySelectorAll(what)[at].dispatchEvent(new MouseEvent("click", {bubbles: true}));
  const acts = {
    expand: [graph, () => click(".box.group .sign")],
    select: [document.querySelector("#details"), () => click(".box.leaf, .box.group")],
    search: [panel, () => {
      const field = document.querySelector("#search");
      field.value = "softmax".slice(0, 1 + at);
      field.dispatchEvent(new Event("input", {bubbles: true}));
    }],
    jump: [graph, () => document.querySelectorAll("#panel .rows .link")[at * 7].click()],
  };
  const [target, act] = acts[what];
  const start = performance.now();
  const wait = changed(target, {childList: true, subtree: true});
  act();
  await wait;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  return performance.now() - start;
}
"""


def measure(document: Document, browser_path: str, folder: Path) -> dict[str, Any]:
    """Figures of one document."""
    start = time.perf_counter()
    text = page_html(document)
    written = time.perf_counter() - start
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    sessions = [_session(browser_path, path) for _ in range(SESSIONS)]
    first = median(each.first for each in sessions)
    worst = {what: _worst([each.acts[what] for each in sessions]) for what in ACTS}
    size = len(text.encode()) / 1e6
    met = size < BAR_SIZE and first < BAR_FIRST and max(wall for wall, _ in worst.values()) < BAR_ACT
    return {
        "document": document.name, "nodes": len(document.graph.nodes), "MB": round(size, 2),
        "write s": round(written, 2), "first ms": round(first), "boxes": sessions[0].boxes,
        **{f"{what} ms": wall for what, (wall, _) in worst.items()},
        **{f"{what} work": work for what, (_, work) in worst.items()}, "load": round(os.getloadavg()[0], 1),
        "met": ("yes" if met else "no") if len(document.graph.nodes) < 20_000 else "",
    }  # fmt: skip


@dataclass(frozen=True)
class _Session:
    """One opening of a page: milliseconds to its first picture, boxes in that, and (ms, work) of each act."""

    first: float
    boxes: int
    acts: dict[str, list[tuple[float, float]]]


def _session(browser_path: str, path: Path) -> _Session:
    with opened(browser_path) as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        troubles = watched(page)
        begun = time.perf_counter()
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000, state="attached")
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        first = (time.perf_counter() - begun) * 1000
        boxes = page.locator(".box").count()
        acts = {what: [_act(browser, page, what, at) for at in range(REPEATS)] for what in ACTS}
        assert not troubles, troubles
        return _Session(first, boxes, acts)


def _worst(sessions: list[list[tuple[float, float]]]) -> tuple[int, int]:
    """(ms, work) of the act that takes longest, each act by its median over the sessions."""
    acts = list(zip(*sessions, strict=True))
    walls, works = ([median(each[figure] for each in act) for act in acts] for figure in (0, 1))
    return round(max(walls)), round(max(works))


def _act(browser: Browser, page: Page, what: str, at: int) -> tuple[float, float]:
    """Milliseconds of one act by the clock, and of work of the two threads that it waits for, one after the other."""
    if what == "expand" and at == 0:
        page.click("#reset")
        page.wait_for_timeout(600)
    browser.start_tracing(page=page, categories=["toplevel"])
    wall = page.evaluate(_TIMED, [what, at])
    events = json.loads(browser.stop_tracing())["traceEvents"]
    page.wait_for_timeout(150)
    names = {(each["pid"], each["tid"]): each["args"]["name"] for each in events if each["name"] == "thread_name"}
    tasks = [each for each in events if each["name"] == TASK and names.get((each["pid"], each["tid"])) in THREADS]
    return wall, sum(each.get("tdur", 0) for each in tasks) / 1000


def main() -> None:
    """Measures all and keeps the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/page_speed.json")
    keeping = parser.parse_args().keep
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = find(playwright)
    if not path:
        raise SystemExit("no Chromium: set AMPGRAPH_CHROMIUM")
    with tempfile.TemporaryDirectory() as folder:
        figures = [measure(make(nodes), path, Path(folder)) for make, nodes in DOCUMENTS]
    print(table(list(figures[0]), [list(row.values()) for row in figures]))
    if keeping:
        keep("page_speed", figures)


if __name__ == "__main__":
    main()
