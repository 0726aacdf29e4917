"""Wishes of the user, by name: nodes that stay float32 or become low, inputs and outputs that become low."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ampgraph.errors import OptionError
from ampgraph.graph import Op, PrecisionGraph
from ampgraph.options import Patterns, each_of


@dataclass(frozen=True)
class Wishes:
    """What the user asked for by name: regular expressions searched in node names, and interface names.

    `origins`: names that an op stands for, by its id; an op that stands for a kept one is kept. `found`: expressions
    that match a node of the user's file, whether or not it is in the graph.
    """

    keep: Patterns = ""
    low: Patterns = ""
    low_interface: frozenset[str] = field(default_factory=frozenset)
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    found: frozenset[str] = field(default_factory=frozenset)

    def reason(self, option: str, op: Op) -> str:
        """Why an option speaks of an op; "" where it does not."""
        if option == "--low" and op.id in self.origins and self.reason("--keep", op):
            return ""
        patterns = each_of(self.keep if option == "--keep" else self.low)
        return next(filter(None, (self.reason_of(option, pattern, op) for pattern in patterns)), "")

    def reason_of(self, option: str, pattern: str, op: Op) -> str:
        """Why one expression of an option speaks of an op; "" where it does not."""
        if re.search(pattern, op.name or op.id):
            return option
        stands = next((name for name in self.origins.get(op.id, ()) if re.search(pattern, name)), "")
        return f"{option} names {stands!r}, which is part of it" if stands else ""

    def require_possible(self, graph: PrecisionGraph) -> None:
        """Raise OptionError for an expression that names no node, and for a node that is wished both ways."""
        ops = graph.ops.values()
        for option, asked in (("--keep", self.keep), ("--low", self.low)):
            for pattern in each_of(asked):
                if pattern not in self.found and not any(self.reason_of(option, pattern, op) for op in ops):
                    raise OptionError(f"{option} {pattern!r}", "matches no node", _such_names(graph))
        for op in ops:
            if op.id in graph.decisions_of and self.reason("--keep", op) and self.reason("--low", op):
                fact = f"both name {op.name or op.id!r}"
                raise OptionError("--keep and --low", fact, "narrow one of the expressions")


def _such_names(graph: PrecisionGraph) -> str:
    names = [op.name or op.id for op in graph.ops.values()]
    return f"names are such as {', '.join(names[:3])}" if names else "the model has no nodes"
