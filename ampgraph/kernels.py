"""Kernel tables: which operators a runtime computes in which precisions, as type tuples (rules/targets/*.json)."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from ampgraph.graph import Decision, Op
from ampgraph.precision import Precision

Row = tuple[int, int | None, Mapping[str, Sequence[str]]]  # since, until (None: only since itself), types by variable
Assignment = tuple[bool, ...]  # per open decision of an op: low or not


@dataclass(frozen=True, eq=False)
class KernelTable:
    """The kernels of one runtime; an op that has none on the accelerator runs on the CPU there."""

    runtime: str
    version: str
    kernels: Mapping[str, Mapping[str, Sequence[Row]]]
    narrow: Mapping[str, str]  # op -> why its low-precision kernel is less precise than the op's rule assumes

    def rows(self, op_type: str, version: int, provider: str) -> tuple[Mapping[str, Sequence[str]], ...]:
        """Type tuples of the kernels that serve an op at this schema version."""
        rows = self.kernels.get(op_type, {}).get(provider, ())
        return tuple(types for since, until, types in rows if _serves(since, until, version))

    def provider_of(self, op_type: str, version: int, bound: Mapping[str, Precision]) -> str:
        """Who runs an op whose type variables are bound so: "cuda", "cpu", or "" where no kernel is known."""
        if any(_computes(row, bound) for row in self.rows(op_type, version, "cuda")):
            return "cuda"
        return "cpu" if self.rows(op_type, version, "cpu") else ""


def _computes(row: Mapping[str, Sequence[str]], bound: Mapping[str, Precision]) -> bool:
    return all(precision in row[name] for name, precision in bound.items() if name in row)


def _serves(since: int, until: int | None, version: int) -> bool:
    """An open-ended kernel serves only the schema version it names (onnxruntime's KernelRegistry)."""
    return since == version if until is None else since <= version <= until


@cache
def onnxruntime_cuda() -> KernelTable:
    """The table of onnxruntime's CUDA provider that ships with ampgraph."""
    folder = resources.files("ampgraph.rules.targets")
    data = json.loads(folder.joinpath("onnxruntime_kernels.json").read_text())
    narrow = tomllib.loads(folder.joinpath("onnxruntime_narrow.toml").read_text())
    whys = {op: entry["why"] for op, entry in narrow.items()}
    return KernelTable(data["runtime"], data["version"], data["kernels"], whys)


@dataclass(frozen=True, slots=True)
class KernelLaw:
    """What the kernels of an op permit among its open decisions."""

    forbidden: Mapping[str, str]  # decision id -> why it cannot be low
    ties: tuple[tuple[str, str], ...] = ()
    implications: tuple[tuple[str, str], ...] = ()


NO_LAW = KernelLaw({})


@dataclass(frozen=True, slots=True)
class _Case:
    """All that the law of an op depends on: nodes of one kind share it."""

    op_type: str
    version: int
    free: tuple[str, ...]  # variables that are float32 and open
    fixed: tuple[tuple[str, Precision], ...]
    low: Precision


def kernel_law(table: KernelTable | None, op: Op, decisions: Sequence[Decision], low: Precision) -> KernelLaw:
    """Turn type tuples into what a cut can express: forbidden lows, ties and implications.

    Without a table every kernel is there, and only what onnx's checker refuses is ruled out.
    """
    free = tuple(decision.variable for decision in decisions if decision.is_open(low))
    if op.bodies or not free:
        return NO_LAW
    fixed = tuple((decision.variable, decision.present) for decision in decisions if not decision.is_open(low))
    law = _law(table, _Case(op.type, op.version, free, fixed, low))
    if not (law.forbidden or law.ties or law.implications):
        return NO_LAW
    return KernelLaw(
        {f"{op.id}:{variable}": why for variable, why in law.forbidden.items()},
        tuple((f"{op.id}:{a}", f"{op.id}:{b}") for a, b in law.ties),
        tuple((f"{op.id}:{a}", f"{op.id}:{b}") for a, b in law.implications),
    )


@lru_cache(maxsize=4096)
def _law(table: KernelTable | None, case: _Case) -> KernelLaw:
    """The law in terms of type variables."""
    checker = _refused(case, "checker", "onnx's checker refuses")
    if table is None:
        return checker
    session = _refused(case, "session", f"onnxruntime {_probes()['onnxruntime']} opens no CPU session with")
    return _both(_kernels(table, case), _both(checker, session))


def _both(first: KernelLaw, second: KernelLaw) -> KernelLaw:
    forbidden = {**second.forbidden, **first.forbidden}
    return KernelLaw(forbidden, first.ties + second.ties, first.implications + second.implications)


def _kernels(table: KernelTable, case: _Case) -> KernelLaw:
    rows = table.rows(case.op_type, case.version, "cuda")
    everything = itertools.product((False, True), repeat=len(case.free))
    permitted = [choice for choice in everything if any(_fits(row, case, choice) for row in rows)]
    runtime = f"{table.runtime} {table.version}"
    if (False,) * len(case.free) not in permitted:
        why = f"{runtime} runs {case.op_type}-{case.version} on the CPU provider"
        return KernelLaw(dict.fromkeys(case.free, why))
    if case.op_type in table.narrow:
        why = f"{runtime}'s CUDA kernel of {case.op_type} {table.narrow[case.op_type]}"
        return KernelLaw(dict.fromkeys(case.free, why))
    return _expressed(case.free, permitted, f"{runtime} has no CUDA kernel of {case.op_type} in {case.low}")


@cache
def _probes() -> Mapping[str, Any]:
    """What one-node models of low precision were refused, as benchmarks/probe_ops.py found it."""
    data: Mapping[str, Any] = json.loads(
        resources.files("ampgraph.rules.targets").joinpath("onnxruntime_unopenable.json").read_text()
    )
    return data


def _refused(case: _Case, by: str, who: str) -> KernelLaw:
    """The law that follows from refused patterns, each a pair (low variables, float32 variables)."""
    patterns = _probes()[case.low].get(by, {}).get(f"{case.op_type}-{case.version}", ())
    if not patterns:
        return NO_LAW
    fixed = {variable for variable, present in case.fixed if present is case.low}
    permitted = []
    for choice in itertools.product((False, True), repeat=len(case.free)):
        lows = {name for name, low in zip(case.free, choice, strict=True) if low} | fixed
        highs = set(case.free) - lows
        if not any(lows.issuperset(low) and highs.issuperset(high) for low, high in patterns):
            permitted.append(choice)
    if (False,) * len(case.free) not in permitted:  # the source itself is so
        return NO_LAW
    return _expressed(case.free, permitted, f"{who} {case.op_type}-{case.version} in {case.low}")


def _fits(row: Mapping[str, Sequence[str]], case: _Case, choice: Assignment) -> bool:
    bound = dict(case.fixed)
    bound.update(
        (variable, case.low if is_low else Precision.FLOAT32)
        for variable, is_low in zip(case.free, choice, strict=True)
    )
    return all(precision in row[variable] for variable, precision in bound.items() if variable in row)


def _expressed(free: Sequence[str], permitted: Sequence[Assignment], why: str) -> KernelLaw:
    """Pairwise laws; where those would let through a tuple that has no kernel, all or nothing."""
    forbidden = {name: why for i, name in enumerate(free) if not any(choice[i] for choice in permitted)}
    implications = [
        (free[i], free[j])
        for i, j in itertools.permutations(range(len(free)), 2)
        if free[i] not in forbidden and all(choice[j] for choice in permitted if choice[i])
    ]
    if _let_through(free, forbidden, implications) == set(permitted):
        return _tied(forbidden, implications)
    if (True,) * len(free) in permitted:
        return KernelLaw({}, tuple(itertools.pairwise(free)))
    return KernelLaw(dict.fromkeys(free, why))


def _let_through(
    free: Sequence[str], forbidden: Mapping[str, str], implications: Iterable[tuple[str, str]]
) -> set[Assignment]:
    place = {name: index for index, name in enumerate(free)}
    return {
        choice
        for choice in itertools.product((False, True), repeat=len(free))
        if not any(low and name in forbidden for name, low in zip(free, choice, strict=True))
        and all(choice[place[b]] or not choice[place[a]] for a, b in implications)
    }


def _tied(forbidden: Mapping[str, str], implications: Sequence[tuple[str, str]]) -> KernelLaw:
    """Two implications that face each other are a tie."""
    both = {pair for pair in implications if pair[::-1] in implications}
    ties = tuple(sorted({(min(pair), max(pair)) for pair in both}))
    return KernelLaw(forbidden, ties, tuple(pair for pair in implications if pair not in both))
