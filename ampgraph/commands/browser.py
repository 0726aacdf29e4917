"""The browser that a page opens in, where this machine has one."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

import click

SHOWS_WINDOWS = ("win32", "darwin", "cygwin")
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # by any of them a browser is found elsewhere


def open_page(path: Path) -> None:
    """Open a page; where nothing can show it, say in a line what to do instead."""
    page = path.resolve()
    if not (_has_display() and webbrowser.open(page.as_uri())):
        click.echo(
            f"no browser opens on this machine: copy {page} to one that has a display, and open it there", err=True
        )


def _has_display() -> bool:
    """Without one Python would start a browser for terminals, which cannot draw the page."""
    return sys.platform in SHOWS_WINDOWS or any(os.environ.get(name) for name in DISPLAYS)
