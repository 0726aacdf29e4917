"""Reads rule files: TOML into rules. A mistake is reported with file, line, key and the nearest thing that is right."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from ampgraph.errors import RuleError
from ampgraph.judgement import Category
from ampgraph.precision import Precision
from ampgraph.rule import Example, Match, Operand, Rule, Scalar, Step, Within

DIALECTS = ("onnx", "torch.fx")
CATEGORIES = tuple(category.value for category in Category if category is not Category.UNKNOWN)
FLOATS = ("float64", "float32", "float16", "bfloat16")
EIGHT_BIT_FLOATS = ("float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1")
INTEGERS = ("int64", "int32", "int16", "int8", "int4", "int2", "uint64", "uint32", "uint16", "uint8", "uint4", "uint2")
DTYPES = (*FLOATS, *EIGHT_BIT_FLOATS, *INTEGERS, "bool", "string", "complex64", "complex128")
REQUIRED = ("name", "category", "why", "source")


class _MistakeError(Exception):
    """What is wrong with the value of a key; the reader of the file adds where."""

    def __init__(self, key: str, fact: str, remedy: str = "") -> None:
        super().__init__(fact)
        self.key, self.fact, self.remedy = key, fact, remedy


def parse(text: str, place: str, *, user: bool = False, known_ops: frozenset[str] | None = None) -> tuple[Rule, ...]:
    """Rules of one file. `place` is its name for messages.

    Where `known_ops` is given, op names are checked: those without a domain, which ONNX itself must have.
    """
    document = _document(text, place)
    lines = _block_lines(text)
    rules: list[Rule] = []
    seen: dict[str, int] = {}
    for index, table in enumerate(document["rule"]):
        start, block = lines[index] if index < len(lines) else (1, text.splitlines())
        try:
            rule = _rule(table, place=f"{place}:{start}", user=user)
            _check_names(rule, seen, known_ops)
        except _MistakeError as mistake:
            line = start + _key_offset(block, mistake.key, mistake.fact)
            where = f"{place}, line {line}, key '{mistake.key}'"
            raise RuleError(where, mistake.fact, mistake.remedy) from None
        seen[rule.name] = start
        rules.append(rule)
    return tuple(rules)


def _document(text: str, place: str) -> dict[str, Any]:
    """The TOML document, which holds nothing but an array of rules."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = re.search(r"line (\d+)", message)
        where = f"{place}, line {line.group(1)}" if line else place
        raise RuleError(where, f"not TOML: {message}", "mend the line") from None
    for key in document:
        if key != "rule":
            line_number = 1 + _key_offset(text.splitlines(), key, "")
            where = f"{place}, line {line_number}, key '{key}'"
            raise RuleError(where, "unknown key outside of a rule", "begin every rule with [[rule]]")
    rules = document.setdefault("rule", [])
    if not isinstance(rules, list):
        raise RuleError(f"{place}, key 'rule'", "not an array of tables", "write [[rule]], with two brackets")
    return document


def _block_lines(text: str) -> list[tuple[int, list[str]]]:
    """First line number and lines of each [[rule]] block; headers inside multi-line strings do not count."""
    lines = text.splitlines()
    starts: list[int] = []
    quote = ""
    for number, line in enumerate(lines):
        if not quote and re.match(r"\s*\[\[\s*rule\s*\]\]", line):
            starts.append(number)
        for found in re.findall(r"\"\"\"|'''", line):
            quote = found if not quote else "" if quote == found else quote
    return [(start + 1, lines[start:end]) for start, end in pairwise([*starts, len(lines)])]


def _key_offset(block: list[str], key: str, fact: str) -> int:
    """Offset of the line where `key` is set: where the offending word stands too, if some line has both."""
    word = re.search(r"'([^']+)'", fact)
    setting = re.compile(rf"(^|[\s{{,]){re.escape(key)}\s*=")
    offsets = [offset for offset, line in enumerate(block) if setting.search(line)]
    if word:
        quoted = f'"{word.group(1)}"'
        holding = [o for o, line in enumerate(block) if quoted in line and offsets and o >= offsets[0]]
        offsets = holding or offsets
    return offsets[0] if offsets else 0


def _rule(table: Mapping[str, Any], *, place: str, user: bool) -> Rule:
    """One rule from its TOML table."""
    for key in table:
        if key not in _READERS:
            raise _MistakeError(key, "unknown key", _nearest(key, _READERS))
    for key in REQUIRED:
        if key not in table:
            raise _MistakeError(key, "missing", f"every rule needs {', '.join(REQUIRED)}, and ops or chain")
    if ("ops" in table) == ("chain" in table):
        raise _MistakeError("ops", "a rule has either ops or a chain", "write one of the two")
    fields = {_FIELD_OF.get(key, key): _READERS[key](key, value) for key, value in table.items()}
    if fields.get("only_after") and fields["category"] is not Category.INFER:
        raise _MistakeError("only_after", "only an infer rule can have it", 'set category = "infer"')
    return Rule(**fields, place=place, user=user)


def _check_names(rule: Rule, seen: Mapping[str, int], known_ops: frozenset[str] | None) -> None:
    """A rule's name is new, and its ops exist; of other domains and of torch nobody knows all of them."""
    if rule.name in seen:
        raise _MistakeError(
            "name", f"'{rule.name}' is the name of the rule on line {seen[rule.name]} too", "rename one"
        )
    if known_ops is None or rule.dialect == "torch.fx":
        return
    for op in rule.named_ops:
        if "." not in op and op not in known_ops:
            key = "ops" if op in rule.ops else "chain"
            raise _MistakeError(key, f"'{op}' is no operator", _nearest_op(op, known_ops))


def _nearest_op(op: str, known_ops: Iterable[str]) -> str:
    """The remedy for an operator's name: the same one in another case or domain, else one that is spelt alike."""
    same = sorted(known for known in known_ops if known.rpartition(".")[2].lower() == op.lower())
    return f"did you mean '{same[0]}'?" if same else _nearest(op, known_ops)


def _nearest(word: str, options: Iterable[str]) -> str:
    """The remedy for a misspelt word."""
    known = sorted(options)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"use one of {', '.join(known)}" if len(known) <= 30 else "look up its name and domain"


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _MistakeError(key, "not a text", f'write {key} = "..."')
    return " ".join(value.split())


def _name(key: str, value: object) -> str:
    name = _text(key, value)
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise _MistakeError(key, f"'{name}' is not in kebab-case", "write lower-case words joined by hyphens")
    return name


def _one_of(options: Iterable[str]) -> Callable[[str, object], str]:
    def read(key: str, value: object) -> str:
        word = _text(key, value)
        if word not in options:
            raise _MistakeError(key, f"'{word}' is not a {key}", _nearest(word, options))
        return word

    return read


def _category(key: str, value: object) -> Category:
    return Category(_one_of(CATEGORIES)(key, value))


def _words(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _MistakeError(key, "not a list of texts", f'write {key} = ["..."]')
    words = tuple(_text(key, word) for word in value)
    for word in words:
        if words.count(word) > 1:
            raise _MistakeError(key, f"'{word}' is listed twice", "remove one")
    return words


def _dtypes(key: str, value: object) -> tuple[str, ...]:
    return tuple(_one_of(DTYPES)(key, word) for word in _words(key, value))


def _integer(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _MistakeError(key, "not a whole number", f"write {key} = 1")
    return value


def _integers(key: str, value: object) -> tuple[int, ...]:
    return tuple(_integer(key, item) for item in (value if isinstance(value, list) else [value]))


def _number(key: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _MistakeError(key, "not a number", f"write {key} = 1.0")
    return float(value)


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _MistakeError(key, "neither true nor false", f"write {key} = true")
    return value


def _within(key: str, value: object) -> Within:
    if value == "exact-integers":
        return "exact-integers"
    if not isinstance(value, list) or len(value) != 2:
        raise _MistakeError(key, "not a range", f'write {key} = [-8, 8] or {key} = "exact-integers"')
    lo, hi = (_number(key, end) for end in value)
    if lo > hi:
        raise _MistakeError(key, "the range is empty", "put the lower end first")
    return lo, hi


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise _MistakeError(key, "not a table", f"write {key} = {{ ... }}")
    return value


def _matches(key: str, value: object) -> tuple[Match, ...]:
    return tuple(Match(attribute, _match_values(key, wanted)) for attribute, wanted in _table(key, value).items())


def _match_values(key: str, wanted: object) -> tuple[Scalar, ...]:
    if wanted == {"present": True}:
        return ()
    values = wanted if isinstance(wanted, list) else [wanted]
    if not values or not all(isinstance(item, (int, float, str)) for item in values):
        raise _MistakeError(key, "an attribute's value is a number, a text or a list of them", "or { present = true }")
    return tuple(values)


def _operands(key: str, value: object) -> tuple[Operand, ...]:
    return tuple(_operand(key, slot, wanted) for slot, wanted in _table(key, value).items())


def _operand(key: str, slot: str, wanted: object) -> Operand:
    if not slot.isdigit():
        raise _MistakeError(key, f"'{slot}' is not an input's index", f"write {key} = {{ 1 = [2.0] }}")
    values = wanted if isinstance(wanted, list) else [wanted]
    return Operand(int(slot), tuple(_number(key, item) for item in values))


def _steps(key: str, value: object) -> tuple[Step, ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise _MistakeError(key, "not a list of two or more steps", f'write {key} = [{{ ops = ["Exp"] }}, ...]')
    return tuple(_step(key, item) for item in value)


def _step(key: str, value: object) -> Step:
    table = _table(key, value)
    for name in table:
        if name not in _STEP_READERS:
            raise _MistakeError(name, "unknown key of a chain's step", _nearest(name, _STEP_READERS))
    if "ops" not in table:
        raise _MistakeError(key, "a step has no ops", 'write { ops = ["..."] }')
    return Step(**{name: _STEP_READERS[name](name, item) for name, item in table.items()})


def _examples(key: str, value: object) -> tuple[Example, ...]:
    if not isinstance(value, list):
        raise _MistakeError(key, "not an array of tables", "write [[rule.example]]")
    return tuple(_example(key, _table(key, item)) for item in value)


def _example(key: str, table: Mapping[str, Any]) -> Example:
    for name in table:
        if name not in ("graph", "expect"):
            raise _MistakeError(name, "unknown key of an example", _nearest(name, ("graph", "expect")))
    graph, expect = table.get("graph"), _table("expect", table.get("expect"))
    if not isinstance(graph, str):
        raise _MistakeError(key, "an example has no graph", 'write graph = """..."""')
    return Example(graph, dict(_expectations(expect)))


def _expectations(expect: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for value, precision in expect.items():
        yield value, _one_of([precision.value for precision in Precision])("expect", precision)


_READERS: dict[str, Callable[[str, object], Any]] = {
    "name": _name,
    "category": _category,
    "why": _text,
    "source": _text,
    "ops": _words,
    "chain": _steps,
    "dialect": _one_of(DIALECTS),
    "min_version": _integer,
    "max_version": _integer,
    "variables": _words,
    "attributes": _matches,
    "constants": _operands,
    "input_dtype": _dtypes,
    "outputs": _integers,
    "unless_within": _within,
    "only_after": _category,
    "small": _number,
    "saturates": _flag,
    "precise_slots": _integers,
    "large_constants": _flag,
    "constant_error": _number,
    "summands": _words,
    "example": _examples,
}
_STEP_READERS: dict[str, Callable[[str, object], Any]] = {
    "ops": _words,
    "slot": _integer,
    "squares": _flag,
    "constant_at_most": _number,
    "attributes": _matches,
    "marks": _flag,
}
_FIELD_OF = {"example": "examples"}
