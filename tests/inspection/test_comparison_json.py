"""What `compare --json` writes is JSON, keeps to its schema, and is read back as it was."""

import json
import math
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

from ampgraph.errors import OptionError
from ampgraph.inspection.comparison import FORMAT, Advice, Comparison, Difference
from ampgraph.inspection.comparison_json import from_json, read, schema, to_json
from tests.inspection.comparisons import comparison


def strictly(text: str) -> dict[str, object]:
    """JSON as the standard has it: no NaN, no infinities."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


def test_it_is_json_of_the_schema() -> None:
    content = strictly(to_json(comparison()))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(content)
    assert content["values"][3]["relative"] == "Infinity"
    assert content["values"][3]["found"] == "-Infinity"
    assert content["values"][3]["reference"] == "NaN"


def test_the_schema_names_every_field_and_refuses_others() -> None:
    described = schema()
    kinds = {Comparison: described, Difference: described["$defs"]["difference"], Advice: described["$defs"]["advice"]}
    for kind, part in kinds.items():
        names = {field.name for field in fields(kind)}
        assert set(part["required"]) == names == set(part["properties"])
        assert part["additionalProperties"] is False
    assert described["properties"]["format"] == {"const": FORMAT}
    content = strictly(to_json(comparison()))
    for key, wrong in (
        ("format", 1),
        ("ran", "tpu"),
        ("unmatched", -1),
        ("worst", ["v"] * 11),
        ("more", 1),
        ("shapes", {"x": "1x3"}),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**content, key: wrong}, schema())


def test_it_is_read_back() -> None:
    given = comparison()
    found = from_json(to_json(given), "c.json")
    assert math.isnan(found.values[3].reference)
    assert repr(found) == repr(given)  # NaN equals nothing
    whole = comparison(values=given.values[:3], worst=("big",))
    assert from_json(to_json(whole), "c.json") == whole


def test_what_is_no_comparison_is_refused_in_one_line(tmp_path: Path) -> None:
    for text in ("", "[]", "{}", "3", '{"format": 2}', "{" * 100_000, to_json(comparison()).replace('"at"', '"it"')):
        with pytest.raises(OptionError, match="is no comparison that can be read"):
            from_json(text, "c.json")
    with pytest.raises(OptionError, match="of format 7, not 2"):
        from_json(to_json(comparison(format=7)), "c.json")
    with pytest.raises(OptionError, match="cannot be read"):
        read(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="is not text"):
        read(tmp_path / "binary.json")
    (tmp_path / "c.json").write_text(to_json(comparison()), encoding="utf-8")
    assert read(tmp_path / "c.json").first_overflow == "big"
