"""What is known of torch's operators: names, formals, which of them share a type (rules/targets/torch_types.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from torch import fx
from torch._ops import OpOverload


@dataclass(frozen=True)
class TypeTable:
    """The table of types as sets; `fixed` and `float32` map an op to what is said of it."""

    fixed: Mapping[str, tuple[frozenset[str], str]]
    float32: Mapping[str, str]
    casts: frozenset[str]
    promoted: frozenset[str]
    promoted_formals: frozenset[str]
    operands: frozenset[str]
    may_alias: frozenset[str]
    may_alias_alone: frozenset[str]
    generators: frozenset[str]
    clamped: frozenset[str]


@cache
def type_table() -> TypeTable:
    """The table that ships with ampgraph."""
    text = resources.files("ampgraph.rules.targets").joinpath("torch_types.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return TypeTable(
        {op: (frozenset(row["formals"]), row["why"]) for op, row in data["fixed"].items()},
        {op: row["why"] for op, row in data["float32"].items()},
        frozenset(data["casts"]["ops"]),
        frozenset(data["promoted"]["ops"]),
        frozenset(data["promoted"]["formals"]),
        frozenset(data["operands"]["formals"]),
        frozenset(data["may_alias"]["ops"]),
        frozenset(data["may_alias_alone"]["ops"]),
        frozenset(data["generators"]["ops"]),
        frozenset(data["clamped"]["formals"]),
    )


def op_type(node: fx.Node) -> str:
    """The name rules know an op by: "aten.linear" for every overload; other callables by their own name."""
    if isinstance(node.target, OpOverload):
        return str(node.target._schema.name).replace("::", ".")
    name = getattr(node.target, "__name__", str(node.target))
    return f"{getattr(node.target, '__module__', '') or ''}.{name}".removeprefix(".")


def arguments(node: fx.Node) -> Iterator[tuple[str, Any]]:
    """Every argument given to an op with its formal's name."""
    if not isinstance(node.target, OpOverload):
        yield from ((str(place), given) for place, given in enumerate(node.args))
        yield from node.kwargs.items()
        return
    formals = node.target._schema.arguments
    yield from ((formal.name, given) for formal, given in zip(formals, node.args, strict=False))
    yield from node.kwargs.items()


def written(node: fx.Node) -> tuple[fx.Node, ...]:
    """The tensors that an op writes in place."""
    if not isinstance(node.target, OpOverload) or not node.target._schema.is_mutable:
        return ()
    writes = {each.name for each in node.target._schema.arguments if each.alias_info and each.alias_info.is_write}
    given = (found for name, found in arguments(node) if name in writes)
    return tuple(each for found in given for each in tensors_in(found))


def tensors_in(given: object) -> tuple[fx.Node, ...]:
    """The nodes of one argument: itself, or those in a list."""
    if isinstance(given, fx.Node):
        return (given,)
    if isinstance(given, list | tuple):
        return tuple(each for each in given if isinstance(each, fx.Node))
    return ()


def shared(node: fx.Node) -> Iterator[fx.Node]:
    """The arguments that a result may share memory with."""
    if node.op != "call_function":
        return
    if not isinstance(node.target, OpOverload):
        yield from node.all_input_nodes
        return
    schema, table, kind = node.target._schema, type_table(), op_type(node)
    if any(each.alias_info is not None for each in schema.returns):
        named = {formal.name for formal in schema.arguments if formal.alias_info is not None}
        yield from (each for name, given in arguments(node) if name in named for each in tensors_in(given))
        return
    tensors = next((found for _, given in arguments(node) if (found := tensors_in(given))), ())
    if kind in table.may_alias or (kind in table.may_alias_alone and len(tensors) == 1):
        yield from tensors


def generates(node: fx.Node) -> bool:
    """Whether an op makes its result of sizes and numbers, in the type that its dtype argument names."""
    if not isinstance(node.target, OpOverload) or op_type(node) not in type_table().generators:
        return False
    return any(formal.name == "dtype" for formal in node.target._schema.arguments)
