"""What the page believes that it is given is what it is given: its TypeScript names every field, as Python has it."""

import dataclasses
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

import ampgraph.inspection.page as package
from ampgraph.inspection import comparison, document

CONTRACT = Path(package.__file__).parent / "web" / "src" / "contract.ts"
NAMED = {document.Attribute: "Attribute"}
PLAIN = {str: "string", bool: "boolean", int: "number"}
RECORDS = tuple(
    each
    for module in (document, comparison)
    for each in vars(module).values()
    if dataclasses.is_dataclass(each) and each.__module__ == module.__name__
)


def interfaces() -> dict[str, dict[str, str]]:
    """Fields and their types of every interface."""
    text = CONTRACT.read_text(encoding="utf-8")
    found = re.findall(r"^export interface (\w+) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return {name: dict(re.findall(r"^  readonly (\w+): (.+);", body, re.MULTILINE)) for name, body in found}


def written(hint: Any) -> str:
    """A type hint as the contract writes it. A float may be a word, where JSON has no number for it."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in NAMED:
        return NAMED[hint]
    if origin is tuple:
        one = written(inner[0])
        return f"readonly ({one})[]" if " | " in one else f"readonly {one}[]"
    if origin is Mapping:
        return f"Readonly<Record<string, {written(inner[1])}>>"
    if origin in (Union, types.UnionType):
        return " | ".join(sorted(map(written, inner), key=lambda each: each == "null"))
    if origin is Literal:
        return " | ".join(f'"{each}"' for each in inner)
    if hint is type(None):
        return "null"
    return PLAIN.get(hint) or ("Figure" if hint is float else hint.__name__)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_the_page_names_all_fields_of_a_record_with_their_types(record: Any) -> None:
    hints = get_type_hints(record)
    fields = {field.name: written(hints[field.name]) for field in dataclasses.fields(record)}
    assert interfaces()[record.__name__] == fields


def test_the_page_names_no_other_records() -> None:
    assert set(interfaces()) == {record.__name__ for record in RECORDS}
