"""Encode: documents and comparisons as JSON and back. Compact, the same bytes every time, every field always there.

What is written is described by `document.schema.json` beside this file (`schema.py`). NaN and infinities, which JSON
has no words for, never appear: they are null where a field may be unknown, and an error elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ampgraph.errors import OptionError
from ampgraph.inspection.document import FORMAT, Document

Made = TypeVar("Made")
Reader = Callable[[Any], Any]


def to_json(document: Document) -> str:
    """A document in one line."""
    return f"{dumps(document)}\n"


def from_json(text: str, place: str = "document") -> Document:
    """A document from what `to_json` wrote. Raises OptionError where it is none; `place` names the file."""
    return loads(Document, text, place, FORMAT)


def dumps(record: Any) -> str:  # noqa: ANN401  (any of our dataclasses)
    """A dataclass as compact JSON. Raises ValueError for a number that JSON cannot hold."""
    return json.dumps(record, default=_fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def loads(cls: type[Made], text: str, place: str, version: int) -> Made:
    """A dataclass from JSON of that format version. Raises OptionError that names the field which is wrong."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise OptionError(place, "is not JSON", "name a file that ampgraph wrote") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != version:
        fact = f"is of format {found if found is not None else 'nothing'}, not {version}"
        raise OptionError(place, fact, "write it anew with this version of ampgraph")
    hint: Any = cls
    try:
        made: Made = _reader(hint)(content)
    except _UnlikeError as error:
        raise OptionError(place, f"is damaged: {error}", "write it anew") from None
    return made


class _UnlikeError(Exception):
    """A part of JSON is not of the type that the field has."""


def _fields(value: Any) -> Any:  # noqa: ANN401
    """What JSON has no type for: our dataclasses, and mappings that are no dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    kind: Any = type(value)
    return {name: getattr(value, name) for name in _names(kind)}


@cache
def _names(cls: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


@cache
def _reader(hint: Any) -> Reader:  # noqa: ANN401  (a type hint)
    """What reads a value of a type hint."""
    origin, inner = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _record_reader(hint)
    if origin is tuple:
        return _tuple_reader(inner)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_reader(_reader(inner[1]))
    if origin in (Union, types.UnionType):
        return _union_reader(tuple(_reader(each) for each in inner))
    if origin is Literal:
        return _checked(lambda value: value in inner, f"one of {', '.join(map(str, inner))}")
    if hint is float:
        return _checked(lambda value: isinstance(value, int | float) and not isinstance(value, bool), "a number", float)
    if hint is int:
        return _checked(lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number")
    if hint is bool:
        return _checked(lambda value: isinstance(value, bool), "true or false")
    return _checked(lambda value: isinstance(value, hint), getattr(hint, "__name__", str(hint)))


def _checked(fits: Callable[[Any], bool], what: str, make: Reader = lambda value: value) -> Reader:
    def read(value: Any) -> Any:  # noqa: ANN401
        if not fits(value):
            raise _UnlikeError(f"{str(value)[:40]!r} is not {what}")
        return make(value)

    return read


def _record_reader(cls: Any) -> Reader:  # noqa: ANN401
    hints = get_type_hints(cls)
    fields = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(cls)}

    def read(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, dict) or value.keys() != fields.keys():
            odd = sorted(fields.keys() ^ value.keys()) if isinstance(value, dict) else []
            raise _UnlikeError(f"no {cls.__name__}" + (f" (field {odd[0]})" if odd else ""))
        return cls(**{name: reader(value[name]) for name, reader in fields.items()})

    return read


def _tuple_reader(inner: tuple[Any, ...]) -> Reader:
    if len(inner) != 2 or inner[1] is not Ellipsis:
        raise TypeError(f"tuples of fixed length are not read: {inner}")
    one = _reader(inner[0])

    def read(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, list):
            raise _UnlikeError(f"{str(value)[:40]!r} is no list")
        return tuple([one(each) for each in value])

    return read


def _mapping_reader(one: Reader) -> Reader:
    def read(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, dict):
            raise _UnlikeError(f"{str(value)[:40]!r} is no object")
        return {name: one(each) for name, each in value.items()}

    return read


def _union_reader(readers: tuple[Reader, ...]) -> Reader:
    """The first reader that takes the value: `int` stands before `float` in hints, and keeps whole numbers whole."""

    def read(value: Any) -> Any:  # noqa: ANN401
        for reader in readers:
            try:
                return reader(value)
            except _UnlikeError:
                continue
        raise _UnlikeError(f"{str(value)[:40]!r} is of no type that this field may have")

    return read
