"""Schema: the JSON Schemas (draft 2020-12) of documents and of differences of plans, generated from their dataclasses.

`python -m ampgraph.inspection.schema --write` writes the *.schema.json files; `--check` fails when one is stale.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from importlib import import_module, resources
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ampgraph.inspection import document, plan_diff
from ampgraph.inspection.document import FORMAT, Document
from ampgraph.inspection.plan_diff import PlanDiff

FILE, DIFF_FILE = "document.schema.json", "plan_diff.schema.json"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_BOOLEAN = {"type": "boolean"}


def schema() -> str:
    """The text of the schema file of documents."""
    said = {"title": f"ampgraph inspect --json, format {FORMAT}", "description": inspect.getdoc(document)}
    return _schema(Document, said, {"format": {"const": FORMAT}})


def diff_schema() -> str:
    """The text of the schema file of differences between plans."""
    title, version = f"ampgraph diff --json, format {plan_diff.FORMAT}", {"const": plan_diff.FORMAT}
    same = {**_BOOLEAN, "description": inspect.getdoc(PlanDiff.same)}
    said = {"title": title, "description": inspect.getdoc(plan_diff)}
    return _schema(PlanDiff, said, {"format": version, "same": same})


def shipped(file: str = FILE) -> str:
    """A schema that comes with the package."""
    return resources.files("ampgraph.inspection").joinpath(file).read_text(encoding="utf-8")


def _schema(cls: type, said: dict[str, Any], more: dict[str, Any]) -> str:
    """`more`: properties of the whole that are no plain fields."""
    definitions: dict[str, Any] = {}
    top, whole = _reference(cls, definitions), definitions[cls.__name__]
    whole["properties"] = {**more, **whole["properties"], **more}
    whole["required"] = list(whole["properties"])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", **said, **top}
    return json.dumps({**head, "$defs": dict(sorted(definitions.items()))}, indent=2, ensure_ascii=False) + "\n"


def _reference(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  (a dataclass)
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # before its fields: they may name it
        definitions[cls.__name__] = _record(cls, definitions)
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _record(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    hints, comments = get_type_hints(cls), _comments(cls.__module__)[cls.__name__]
    properties = {}
    for field in dataclasses.fields(cls):
        said = {"description": comments[field.name]} if field.name in comments else {}
        properties[field.name] = {**_type(hints[field.name], definitions), **said}
    return {
        "description": " ".join((inspect.getdoc(cls) or "").split()),
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _type(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  (a type hint)
    origin, inner = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _reference(hint, definitions)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [each.value for each in hint]}
    if origin is tuple:
        return {"type": "array", "items": _type(inner[0], definitions)}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_type(each, definitions) for each in inner]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(inner[1], definitions)}
    raise TypeError(f"no schema for {hint}")


@cache
def _comments(module: str) -> dict[str, dict[str, str]]:
    """Comments behind fields of a module's classes, by class and field: the one place where a field is described."""
    text = inspect.getsource(import_module(module))
    lines = text.splitlines()
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            fields = [
                each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            ]
            remarks = {each.target.id: lines[(each.end_lineno or 1) - 1].partition("  # ")[2] for each in fields}  # type: ignore[union-attr]
            found[node.name] = {name: remark for name, remark in remarks.items() if remark}
    return found


_FILES = {FILE: schema, DIFF_FILE: diff_schema}


def _main(arguments: Sequence[str]) -> int:
    """Write the schema, or say whether it is stale."""
    if list(arguments) == ["--write"]:
        with resources.as_file(resources.files("ampgraph.inspection")) as folder:
            for file, make in _FILES.items():
                (folder / file).write_text(make(), encoding="utf-8")
        return 0
    if list(arguments) == ["--check"]:
        return 0 if all(shipped(file) == make() for file, make in _FILES.items()) else 1
    sys.stderr.write("usage: python -m ampgraph.inspection.schema --write | --check\n")
    return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
