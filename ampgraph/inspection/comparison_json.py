"""A comparison as JSON and back. The layout is `comparison.schema.json`, of version `comparison.FORMAT`.

JSON has no word for infinities and NaN: they are the strings "Infinity", "-Infinity" and "NaN", which Python's `float`
and JavaScript's `Number` read.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from ampgraph.errors import OptionError
from ampgraph.inspection.comparison import FORMAT, Advice, Comparison, Difference

_FLOATS = ("relative", "largest", "reference", "found", "magnitude")
_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def to_json(comparison: Comparison) -> str:
    """The comparison as a JSON document, valid by the standard."""
    return json.dumps(_spelled(asdict(comparison)), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def from_json(text: str, place: str) -> Comparison:
    """Read a comparison back. `place` names the file in errors. Raises OptionError for what is none."""
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            fact = f"is a comparison of format {content['format']}, not {FORMAT}"
            raise OptionError(place, fact, "write it anew with `ampgraph compare --json`")
        return _comparison(content)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        remedy = "write one with `ampgraph compare A.onnx B.onnx --json FILE`"
        raise OptionError(place, "is no comparison that can be read", remedy) from None


def read(path: Path) -> Comparison:
    """Read a file that `compare --json` wrote. Raises OptionError where it cannot be read, or is none."""
    try:
        return from_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise OptionError(str(path), f"cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise OptionError(str(path), "is not text", "name a file that `ampgraph compare --json` wrote") from None


def schema() -> dict[str, Any]:
    """The JSON schema of the layout."""
    text = files("ampgraph.inspection").joinpath("comparison.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _spelled(value: Any) -> Any:  # noqa: ANN401  (JSON's own types)
    if isinstance(value, float) and not math.isfinite(value):
        return _NAMES.get(value, "NaN")
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    return value


def _comparison(content: dict[str, Any]) -> Comparison:
    given = {field.name: content[field.name] for field in fields(Comparison)}
    differences = {name: tuple(map(_difference, content[name])) for name in ("outputs", "values")}
    advice = tuple(Advice(**{**each, "keep": tuple(each["keep"])}) for each in content["advice"])
    shapes = {str(name): tuple(map(int, shape)) for name, shape in content["shapes"].items()}
    listed = {"shapes": shapes, "worst": tuple(content["worst"]), "notes": tuple(content["notes"])}
    return Comparison(**{**given, **differences, **listed, "advice": advice, "tolerance": float(content["tolerance"])})


def _difference(content: dict[str, Any]) -> Difference:
    numbers = {name: float(content[name]) for name in _FLOATS}
    places = {name: tuple(content[name]) for name in ("at", "flushed_at")}
    return Difference(**{**content, **numbers, **places})
