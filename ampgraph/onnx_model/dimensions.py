"""Dimensions: what their names stand for, in given shapes, and where one follows from others.

A mask over the tokens of a key-value cache and the new ones is named "past_sequence_length + sequence_length" by
Optimum, and "total_sequence_length" by onnxruntime-genai.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from onnx import ModelProto

if TYPE_CHECKING:
    from onnx_ir import SymbolicDim

_OPERATOR = re.compile(r"[-+*/(]")
_ALL, _PAST = "total_", "past_"


def formulas_of(model: ModelProto) -> dict[str, str]:
    """Names of free dimensions of a model's inputs that follow from others', each with its formula."""
    dims = [dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim]
    return formulas_among({dim.dim_param for dim in dims if dim.dim_param})


def formulas_among(names: Iterable[str]) -> dict[str, str]:
    """Those among names that are formulas of others, which are none."""
    given = set(names)
    written = {name: dim for name in given if _OPERATOR.search(name) and (dim := _parsed(name)) is not None}
    plain = given - written.keys()
    formulas = {name: name for name, dim in written.items() if dim.free_symbols() and dim.free_symbols() <= plain}
    return {**formulas, **dict(_totals(plain))}


def completed(sizes: Mapping[str, int], formulas: Mapping[str, str]) -> dict[str, int]:
    """The sizes of symbols, with those that follow from them."""
    following = {}
    for name, formula in formulas.items():
        dim = _parsed(formula)
        size = dim.evaluate(sizes) if dim is not None else None
        if isinstance(size, int) and size > 0:
            following[name] = size
    return {**sizes, **following}


def sizes_by_symbol(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, set[int]]:
    """The sizes that symbols of free dimensions stand for in these shapes."""
    found: dict[str, set[int]] = {}
    for value in model.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            if dim.dim_param:
                found.setdefault(dim.dim_param, set()).add(size)
    return found


def symbol_sizes(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """What the symbols of free dimensions stand for in these shapes; one of several sizes is none (exporters' "?")."""
    return {symbol: min(sizes) for symbol, sizes in sizes_by_symbol(model, shapes).items() if len(sizes) == 1}


def _totals(names: set[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        rest = name.removeprefix(_ALL)
        if name.startswith(_ALL) and {rest, _PAST + rest} <= names:
            yield name, f"{_PAST}{rest} + {rest}"


@cache
def _parsed(text: str) -> SymbolicDim | None:
    """A name as a formula; None where it is none."""
    from onnx_ir import SymbolicDim  # slow to import, and few names are formulas

    dim = SymbolicDim(text)
    try:
        dim.free_symbols()
    except ValueError:
        return None
    return dim
