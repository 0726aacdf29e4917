"""`ampgraph.inspect` and what notebooks show."""

import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import ampgraph
from ampgraph.errors import OptionError
from ampgraph.inspection import views
from ampgraph.inspection.encode import from_json
from ampgraph.inspection.table import document_table, plan_table
from tests.fx_module.torch_models import Convolutional, mlp
from tests.inspection.soundness import assert_sound, look, renamed
from tests.small_models import classifier, saved


class Tags(HTMLParser):
    """Tags in order, checked to be balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_every_kind_of_source_is_looked_at(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "model.onnx")
    for source in (path, str(path), classifier(), ampgraph.convert(path)):
        assert look(source).graph.nodes
    exported = ampgraph.inspect(mlp(), example_args=(torch.randn(2, 12),)).document
    assert_sound(exported)
    assert exported.name == "Sequential"
    assert len(exported.graph.modules) > 1
    with pytest.raises(OptionError, match="source of type int: is no model"):
        ampgraph.inspect(1)
    for source in (path, ampgraph.convert(path)):
        with pytest.raises(TypeError, match=r"^inspect\(\) got an unexpected keyword argument 'nope'$"):
            ampgraph.inspect(source, nope=1)


def test_an_inspection_is_a_document_with_views(tmp_path: Path) -> None:
    found = ampgraph.inspect(classifier(), objective="memory")
    assert isinstance(found, ampgraph.Inspection)
    assert repr(found) == "<Inspection of classifier: 12 nodes, planned>"
    assert from_json(found.to_json()) == found.document
    assert found.to_dot().startswith("digraph")
    if find_spec(views.PAGE) is None:
        with pytest.raises(OptionError, match="the page is not part of this installation"):
            found.write_html(tmp_path / "page.html")
        return
    found.write_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().lower().startswith("<!doctype html>")
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(OptionError, match="exists already"):
        found.write_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "mine"
    found.write_html(str(tmp_path / "page.html"), force=True)
    assert (tmp_path / "page.html").read_text() != "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(OptionError, match="has no folder"):
        found.write_html(tmp_path / "none" / "page.html")


def test_traced_modules_are_looked_at() -> None:
    traced = ampgraph.trace(Convolutional(), torch.randn(2, 3, 8, 8))
    document = look(traced)
    nodes = {node.type: node for node in document.graph.nodes if node.kind == "op"}
    assert (document.dialect, document.state, document.name) == ("torch.fx", "converted", "Convolutional")
    assert document.objective == "training"
    assert nodes["aten.conv2d"].precision == "float16"
    assert document.graph.modules[nodes["aten.conv2d"].module].type == "Conv2d"
    assert any("cast to float16 once a step" in note for note in document.summary.notes)
    weight = next(value for value in document.graph.values if value.name.endswith("stem_weight"))
    first = traced.get_parameter("stem.weight").detach().reshape(-1)[:3]
    assert weight.initializer.sample[:3] == tuple(first.double().tolist())
    with pytest.raises(OptionError, match="is settled in a traced module"):
        ampgraph.inspect(traced, objective="memory")


def test_notebooks_show_tables_of_results_plans_and_traced_modules() -> None:
    result = ampgraph.convert(classifier(), objective="memory")
    traced = ampgraph.trace(mlp(), torch.randn(2, 12))
    for shown in (result, result.plan, ampgraph.inspect(classifier()), traced, traced.plan):
        html = shown._repr_html_()
        assert "<table" in html
        assert "float16" in html
        assert "<script" not in html
        tags = Tags(html)
        assert ("iframe" in tags.seen) == ("srcdoc" in html)
    assert "sum-of-exponentials" not in plan_table(result.plan)
    assert "Exponentials of one sum" in plan_table(result.plan)


def test_tables_escape_what_models_say() -> None:
    document = look(renamed(classifier(), "<script>alert('x')</script>&\"\u202e"), objective="coverage")
    html = document_table(document)
    assert "<script" not in html
    assert set(Tags(html).seen) <= {"div", "b", "bdi", "table", "thead", "tbody", "tr", "th", "td", "span"}


def test_a_page_that_is_too_large_for_a_notebook_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    document = look(classifier())
    monkeypatch.setattr(views, "has_page", lambda: True)
    monkeypatch.setattr(views, "html_of", lambda _: '<p title="a">\'')
    shown = views.notebook_html(document)
    assert 'sandbox="allow-scripts"' in shown
    assert 'srcdoc="&lt;p title=&quot;a&quot;&gt;&#x27;"' in shown
    monkeypatch.setattr(views, "html_of", lambda _: "x" * (views.MOST_INLINE + 1))
    assert "iframe" not in views.notebook_html(document)


def test_files_are_looked_at_without_torch(tmp_path: Path) -> None:
    path = saved(classifier(), tmp_path / "model.onnx")
    script = f"import sys, ampgraph; ampgraph.inspect({str(path)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
