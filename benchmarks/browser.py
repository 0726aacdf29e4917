"""A headless Chromium for the page: where it is, and a session that fails on what a page must never do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Playwright, Request

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ALLOWED = ("file:", "blob:", "data:", "about:")
NAMES = ("chromium", "chromium-browser", "google-chrome")


def find(playwright: Playwright) -> str:
    """Path of a browser, "" where there is none: of AMPGRAPH_CHROMIUM, Playwright's own, Debian's, any in PATH."""
    candidates = [os.environ.get("AMPGRAPH_CHROMIUM", ""), playwright.chromium.executable_path, "/usr/bin/chromium"]
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return candidate
    return next((found for name in NAMES if (found := shutil.which(name))), "")


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """The browser at a path."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


def watched(page: Page) -> list[str]:
    """A list that fills with all that a page must not do: errors, dialogs and requests to anywhere but itself."""
    troubles: list[str] = []

    def spoke(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            troubles.append(f"console {message.type}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith(ALLOWED):
            troubles.append(f"request: {request.url[:200]}")

    def stopped(dialog: Dialog) -> None:
        troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", spoke)
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("request", asked)
    page.on("dialog", stopped)
    return troubles
