"""Kernel tables: which operators a runtime computes in which precisions, as type tuples (rules/targets/*.json)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from ampgraph.graph import Decision, Op
from ampgraph.precision import Precision

Row = tuple[int, int | None, Mapping[str, Sequence[str]]]  # since, until (None: only since itself), types by variable
Assignment = tuple[bool, ...]  # per open decision of an op: low or not


@dataclass(frozen=True)
class KernelTable:
    """The kernels of one runtime; an op that has none on the accelerator runs on the CPU there."""

    runtime: str
    version: str
    kernels: Mapping[str, Mapping[str, Sequence[Row]]]

    def rows(self, op: Op, provider: str) -> tuple[Mapping[str, Sequence[str]], ...]:
        """Type tuples of the kernels that serve this op at its version."""
        rows = self.kernels.get(op.type, {}).get(provider, ())
        return tuple(types for since, until, types in rows if _serves(since, until, op.version))


def _serves(since: int, until: int | None, version: int) -> bool:
    """An open-ended kernel serves only the schema version it names (onnxruntime's KernelRegistry)."""
    return since == version if until is None else since <= version <= until


@cache
def onnxruntime_cuda() -> KernelTable:
    """The table of onnxruntime's CUDA provider that ships with ampgraph."""
    text = resources.files("ampgraph.rules.targets").joinpath("onnxruntime_kernels.json").read_text()
    data = json.loads(text)
    return KernelTable(data["runtime"], data["version"], data["kernels"])


@dataclass(frozen=True, slots=True)
class KernelLaw:
    """What the kernels of an op permit among its open decisions."""

    forbidden: Mapping[str, str]  # decision id -> why it cannot be low
    ties: tuple[tuple[str, str], ...] = ()
    implications: tuple[tuple[str, str], ...] = ()


def kernel_law(table: KernelTable, op: Op, decisions: Sequence[Decision], low: Precision) -> KernelLaw:
    """Turn type tuples into what a cut can express: forbidden lows, ties and implications."""
    free = [decision for decision in decisions if decision.is_open(low)]
    if op.bodies or not free:
        return KernelLaw({})
    fixed = {decision.variable: decision.present for decision in decisions if not decision.is_open(low)}
    rows = table.rows(op, "cuda")
    everything = list(itertools.product((False, True), repeat=len(free)))
    permitted = [choice for choice in everything if any(_fits(row, fixed, free, choice, low) for row in rows)]
    if (False,) * len(free) not in permitted:
        why = f"{table.runtime} {table.version} runs {op.type}-{op.version} on the CPU provider"
        return KernelLaw({decision.id: why for decision in free})
    return _expressed(free, permitted, f"{table.runtime} {table.version} has no CUDA kernel of {op.type} in {low}")


def _fits(
    row: Mapping[str, Sequence[str]],
    fixed: Mapping[str, Precision],
    free: Sequence[Decision],
    choice: Assignment,
    low: Precision,
) -> bool:
    bound = dict(fixed)
    bound.update({d.variable: low if is_low else d.present for d, is_low in zip(free, choice, strict=True)})
    return all(precision in row[variable] for variable, precision in bound.items() if variable in row)


def _expressed(free: Sequence[Decision], permitted: Sequence[Assignment], why: str) -> KernelLaw:
    """Pairwise laws; where those would let through a tuple that has no kernel, all or nothing."""
    forbidden = {d.id: why for i, d in enumerate(free) if not any(choice[i] for choice in permitted)}
    ids = [decision.id for decision in free]
    implications = [
        (ids[i], ids[j])
        for i, j in itertools.permutations(range(len(free)), 2)
        if ids[i] not in forbidden and all(choice[j] for choice in permitted if choice[i])
    ]
    if _let_through(ids, forbidden, implications) == set(permitted):
        return _tied(forbidden, implications)
    if (True,) * len(free) in permitted:
        return KernelLaw({}, tuple(itertools.pairwise(ids)))
    return KernelLaw(dict.fromkeys(ids, why))


def _let_through(
    ids: Sequence[str], forbidden: Mapping[str, str], implications: Iterable[tuple[str, str]]
) -> set[Assignment]:
    place = {key: index for index, key in enumerate(ids)}
    return {
        choice
        for choice in itertools.product((False, True), repeat=len(ids))
        if not any(low and key in forbidden for key, low in zip(ids, choice, strict=True))
        and all(choice[place[b]] or not choice[place[a]] for a, b in implications)
    }


def _tied(forbidden: Mapping[str, str], implications: Sequence[tuple[str, str]]) -> KernelLaw:
    """Two implications that face each other are a tie."""
    both = {pair for pair in implications if pair[::-1] in implications}
    ties = tuple(sorted({(min(pair), max(pair)) for pair in both}))
    return KernelLaw(forbidden, ties, tuple(pair for pair in implications if pair not in both))
