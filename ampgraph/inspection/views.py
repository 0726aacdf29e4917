"""Views: a document as HTML, in a browser and in a notebook. The page itself is `ampgraph.inspection.page`."""

from __future__ import annotations

from html import escape
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from ampgraph.errors import OptionError
from ampgraph.inspection.comparison import Comparison
from ampgraph.inspection.document import Document
from ampgraph.inspection.table import document_table

PAGE = "ampgraph.inspection.page"
HEIGHT = 640  # pixels of a page inside a notebook
MOST_INLINE = 6 << 20  # characters of a page that a notebook is given; larger ones are written to a file


def has_page() -> bool:
    """Whether this installation has the page."""
    return find_spec(PAGE) is not None


def require_page() -> None:
    """Raise OptionError where the installation lacks the page."""
    if not has_page():
        raise OptionError("--html", "the page is not part of this installation", "install ampgraph from its wheel")


def read_comparison(path: Path) -> Comparison:
    """What `ampgraph compare --json` wrote. Raises OptionError for what is none."""
    found = import_module("ampgraph.inspection.comparison_json").read(path)
    assert isinstance(found, Comparison)  # what it reads
    return found


def html_of(document: Document, comparison: Comparison | None = None) -> str:
    """The page of a document. Raises OptionError where the installation lacks it."""
    require_page()
    return str(import_module(PAGE).page_html(document, comparison))


def notebook_html(document: Document) -> str:
    """A compact table, and the page beneath it in a frame that can reach neither the notebook nor the network."""
    table = document_table(document)
    page = html_of(document) if has_page() else ""
    if not page or len(page) > MOST_INLINE:
        return table
    style = f"width:100%;height:{HEIGHT}px;border:1px solid #8884;border-radius:6px"
    return f'{table}<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(page)}"></iframe>'
