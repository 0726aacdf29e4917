"""One headless browser for all tests of the page, and pages that fail on what they must never do."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ampgraph.inspection.comparison import Comparison
from ampgraph.inspection.document import Document
from ampgraph.inspection.page import write_page
from benchmarks.browser import find, opened, watched

Opener = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, or a skipped test where there is none and nobody asked for one."""
    required = os.environ.get("AMPGRAPH_REQUIRE_BROWSER") == "1"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        if required:
            raise
        pytest.skip("playwright is not installed")
    with sync_playwright() as playwright:
        path = find(playwright)
    if not path:
        assert not required, "AMPGRAPH_REQUIRE_BROWSER is 1, and there is no Chromium"
        pytest.skip("no Chromium: set AMPGRAPH_CHROMIUM")
    with opened(path) as found:
        yield found


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Folder of screenshots: AMPGRAPH_SCREENSHOTS where it is set."""
    folder = Path(os.environ.get("AMPGRAPH_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    """Opens the page of a document; at the end no page may have had an error, a dialog or a request."""
    pages = []

    def opener(document: Document, comparison: Comparison | None = None, fragment: str = "", **options: Any) -> Any:
        path = tmp_path / f"{len(pages)}.html"
        write_page(document, path, comparison)
        page = browser.new_page(**{"viewport": {"width": 1440, "height": 900}, **options})
        pages.append((page, watched(page)))
        page.goto(path.as_uri() + fragment)
        page.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
        return page

    yield opener
    for page, troubles in pages:
        page.close()
        assert not troubles
