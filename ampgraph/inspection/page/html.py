"""A document as one HTML file that needs nothing else: style, code, layout and data are all in it.

Nothing of a document is ever HTML: it goes in as base64 of gzip, and the page's code makes text nodes of it. Code and
Graphviz' binary go in so too, and a few lines of script inflate them. The policy in the head allows this file's own
scripts and style by their hashes, a worker from memory, and no request at all.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
from dataclasses import asdict
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from ampgraph.inspection.comparison import Comparison
from ampgraph.inspection.document import Document
from ampgraph.inspection.encode import to_json

TITLE = 200  # characters of a title at most


def page_html(document: Document, comparison: Comparison | None = None) -> str:
    """The page of a document, coloured by a comparison's errors where one is given. ids of both must be the same."""
    style, script, boot = _bundled("page.css"), _bundled("page.js"), _bundled("boot.js")
    compared = "" if comparison is None else _packed(_comparison_json(comparison))
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script, boot)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{html.escape(_title(document.name))} - ampgraph</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            "<noscript>This page draws a graph and needs JavaScript, which it brings along.</noscript>",
            _data("page", _packed_file("page.js")),
            _data("layout", _packed_file("layout.js")),
            _data("engine", _packed_file("layout.wasm")),
            _data("document", _packed(to_json(document))),
            _data("comparison", compared),
            f"<script>{boot}</script>",
            "</body>",
            "</html>",
            "",
        ]
    )


def write_page(document: Document, path: str | Path, comparison: Comparison | None = None) -> None:
    """Writes `page_html` to a file. Raises OSError where that cannot be written."""
    Path(path).write_text(page_html(document, comparison), encoding="utf-8", newline="\n")


@cache
def _bundled(name: str) -> str:
    """A text of the bundle. Raises ValueError for one that could end its own element."""
    text = _read(name).decode("utf-8")
    if any(mark in text.lower() for mark in ("</script", "</style", "<!--")):
        raise ValueError(f"{name} must not hold markup")
    return text


def _read(name: str) -> bytes:
    return resources.files(__package__).joinpath("bundle", name).read_bytes()


@cache
def _packed_file(name: str) -> str:
    return _packed(_read(name))


def _packed(data: str | bytes) -> str:
    """The same data give the same characters: no time is noted."""
    found = data if isinstance(data, bytes) else data.encode("utf-8", "replace")
    return base64.b64encode(gzip.compress(found, 9, mtime=0)).decode("ascii")


def _data(name: str, packed: str) -> str:
    return f'<script type="application/octet-stream" id="{name}">{packed}</script>'


def _policy(style: str, script: str, boot: str) -> str:
    return (
        f"default-src 'none'; script-src {_hash(boot)} {_hash(script)} 'wasm-unsafe-eval'; style-src {_hash(style)}; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _title(name: str) -> str:
    return "".join(character if character.isprintable() else " " for character in name[:TITLE])


def _comparison_json(comparison: Comparison) -> str:
    """As JSON that has words for what is no number: "inf", "-inf" and "nan"."""
    return json.dumps(_worded(asdict(comparison)), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _worded(value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, dict):
        return {name: _worded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_worded(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
