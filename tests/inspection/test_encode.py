"""Documents as JSON: there and back, the schema, and what is refused."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import jsonschema
import pytest

from ampgraph.errors import OptionError
from ampgraph.inspection.document import FORMAT, Document
from ampgraph.inspection.encode import from_json, to_json
from ampgraph.inspection.inspect import inspect
from ampgraph.inspection.schema import schema, shipped
from tests.inspection.soundness import validator
from tests.small_models import classifier


@pytest.fixture(scope="module")
def document() -> Document:
    return inspect(classifier(), objective="memory").document


def test_the_same_model_gives_the_same_bytes(document: Document) -> None:
    text = to_json(document)
    assert text == to_json(inspect(classifier(), objective="memory").document)
    assert text.count("\n") == 1
    assert list(json.loads(text)) == [field.name for field in fields(Document)]
    assert from_json(text) == document


def test_the_shipped_schema_is_that_of_the_dataclasses() -> None:
    assert shipped() == schema(), "run `python -m ampgraph.inspection.schema --write`"
    command = [sys.executable, "-m", "ampgraph.inspection.schema"]
    assert subprocess.run([*command, "--check"], check=False).returncode == 0
    assert subprocess.run([*command, "--sketch"], check=False, capture_output=True).returncode == 2


def test_the_schema_describes_fields_and_refuses_others(document: Document) -> None:
    content = json.loads(to_json(document))
    definitions = json.loads(shipped())["$defs"]
    assert definitions["Module"]["properties"]["path"]["description"] == '"encoder.layer.0"'
    assert definitions["Document"]["properties"]["format"] == {"const": FORMAT}
    validator().validate(content)
    for broken in ({**content, "more": 1}, {**content, "format": 1}, {**content, "graph": None}):
        with pytest.raises(jsonschema.ValidationError):
            validator().validate(broken)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 1}, "is of format 1, not 2; write it anew"),
        ({"state": "lost"}, "is damaged: 'lost' is not one of converted, planned, found"),
        ({"more": 1}, "is damaged: no Document \\(field more\\)"),
        ({"opsets": {"": "x"}}, "is damaged: 'x' is not a whole number"),
        ({"rules": {}}, "is no list"),
        ({"source": 1}, "is of no type that this field may have"),
    ],
)
def test_what_is_no_document_is_refused_in_a_line(document: Document, change: dict[str, object], said: str) -> None:
    text = json.dumps({**json.loads(to_json(document)), **change})
    with pytest.raises(OptionError, match=f"^d.json: .*{said}"):
        from_json(text, "d.json")
    for other in ("", "[]", "{}", "[" * 100_000):
        with pytest.raises(OptionError, match=r"^d\.json: is "):
            from_json(other, "d.json")


def test_numbers_that_json_has_no_words_for_are_an_error(document: Document) -> None:
    broken = replace(document, summary=replace(document.summary, before=float("nan")))
    with pytest.raises(ValueError, match="JSON"):
        to_json(broken)
