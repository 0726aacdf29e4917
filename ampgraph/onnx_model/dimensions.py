"""Dimensions: free ones whose size follows from others, as names of exporters say.

A mask over the tokens of a key-value cache and the new ones is "past_sequence_length + sequence_length" long, or "+ 1",
by Optimum and by torch; onnxruntime-genai names it "total_sequence_length".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from onnx import ModelProto

_TERM = re.compile(r"\s*([+-])\s*(?:(\d+)\s*\*\s*)?(?:([A-Za-z_][\w.]*)|(\d+))\s*(?:\*\s*(\d+)\s*)?")
_ALL, _PAST = "total_", "past_"


@dataclass(frozen=True)
class Sum:
    """A size that is a sum: of symbols, each so many times, and of a number."""

    terms: tuple[tuple[int, str], ...]
    number: int = 0

    def size(self, sizes: Mapping[str, int]) -> int | None:
        """The size, where those of all symbols are known and it is one."""
        if not all(symbol in sizes for _, symbol in self.terms):
            return None
        found = self.number + sum(times * sizes[symbol] for times, symbol in self.terms)
        return found if found > 0 else None


def sums_of(model: ModelProto) -> dict[str, Sum]:
    """Names of free dimensions of a model's inputs that are sums of others', with what they are sums of."""
    dims = [dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    return sums_among({dim.dim_param for dim in dims if dim.dim_param})


def sums_among(names: Iterable[str]) -> dict[str, Sum]:
    """The sums among names: those that are written as such, of names that are not."""
    given = set(names)
    read = {name: each for name in given if (each := _read(name)) is not None}
    plain = given - read.keys()
    sums = {name: each for name, each in read.items() if all(symbol in plain for _, symbol in each.terms)}
    return {**sums, **dict(_totals(plain))}


def completed(sizes: Mapping[str, int], sums: Mapping[str, Sum]) -> dict[str, int]:
    """The sizes of symbols, with those of the sums that follow from them."""
    following = {name: size for name, each in sums.items() if (size := each.size(sizes)) is not None}
    return {**sizes, **following}


def _totals(names: set[str]) -> Iterator[tuple[str, Sum]]:
    for name in names:
        rest = name.removeprefix(_ALL)
        if name.startswith(_ALL) and {rest, _PAST + rest} <= names:
            yield name, Sum(((1, _PAST + rest), (1, rest)))


def _read(name: str) -> Sum | None:
    """A name as a sum; None where it is none, or one symbol alone."""
    text = name.strip()
    text = text if text[:1] in ("+", "-") else f"+{text}"
    terms, number, place = list[tuple[int, str]](), 0, 0
    while place < len(text):
        term = _TERM.match(text, place)
        if term is None:
            return None
        sign, before, symbol, digits, after = term.groups()
        times = (-1 if sign == "-" else 1) * int(before or 1) * int(after or 1)
        if symbol:
            terms.append((times, symbol))
        else:
            number += times * int(digits)
        place = term.end()
    is_one = len(terms) == 1 and terms[0][0] == 1 and not number
    return None if is_one or not terms else Sum(tuple(terms), number)
