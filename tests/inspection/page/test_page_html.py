"""The file itself: one piece, the same every time, nothing of a document in it as HTML."""

import base64
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ampgraph.inspection.encode import to_json
from ampgraph.inspection.page import page_html, write_page
from benchmarks.synthetic_documents import comparison, transformer

SMALL = transformer(40)
HOSTILE = "</script><script>window.__pwned=1</script><img src=x onerror=window.__pwned=1>\"'`&"


def embedded(text: str, name: str) -> str:
    """What an element of data holds."""
    found = re.search(rf'<script type="application/octet-stream" id="{name}">([^<]*)</script>', text)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode() if found[1] else ""


def test_the_page_carries_the_very_json_of_its_document() -> None:
    assert embedded(page_html(SMALL), "document") == to_json(SMALL)


def test_the_same_document_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(SMALL, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == page_html(SMALL).encode()


def test_infinite_errors_of_a_comparison_become_words() -> None:
    found = json.loads(embedded(page_html(SMALL, comparison(SMALL)), "comparison"))
    assert "inf" in {each["relative"] for each in found["values"]}
    assert embedded(page_html(SMALL), "comparison") == ""


def test_the_policy_allows_nothing_but_the_page_itself() -> None:
    text = page_html(SMALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy[1]
    assert "'unsafe-eval'" not in policy[1]
    assert not re.search(r"""(src|href)=["']?http""", text)


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60).map(lambda text: HOSTILE + text))
def test_no_name_reaches_the_page_as_markup(name: str) -> None:
    document = replace(SMALL, name=name, graph=replace(SMALL.graph, nodes=(replace(SMALL.graph.nodes[0], name=name),)))
    text = page_html(document)
    title = re.search(r"<title>(.*?)</title>", text, re.DOTALL)
    assert title
    assert "<" not in title[1]
    assert text.count("</script>") == page_html(SMALL).count("</script>")
    assert HOSTILE not in text


def test_surrogates_alone_do_not_stop_a_page() -> None:
    assert page_html(replace(SMALL, name="a\ud800b"))


@pytest.mark.parametrize("size", [10_000])
def test_a_page_of_ten_thousand_nodes_is_small(size: int) -> None:
    assert len(page_html(transformer(size)).encode()) < 6e6
