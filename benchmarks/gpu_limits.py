"""What the hardware allows: a network's arithmetic and traffic over the rates that the GPU at hand reaches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ampgraph.api import examine
from ampgraph.conversion import Planned
from ampgraph.graph import Op, PrecisionGraph, Value
from ampgraph.precision import FORMATS, Precision
from ampgraph.work import Kind, elements_of, work_of

_COPIED = 1 << 30  # bytes: far more than the caches hold
_SIDE = 8192  # of the matrices: the rate no longer grows with it
_REPEATS = 10
_WIDTHS = {"float32": 2, "float16": 2, "float64": 8, "int32": 4, "bool": 1}  # bytes, float32 as float16; else 8


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What the GPU reached: bytes a second read and written by a copy, operations a second of a float16 product."""

    bandwidth: float
    matrix_rate: float


@dataclass(frozen=True, slots=True)
class Work:
    """One run of a network: operations, the least bytes it can move, and those that the plan's operators move."""

    operations: int
    least_bytes: int
    moved_bytes: int


def ceilings() -> Ceilings:
    """Measured with torch, on random data: zeros take less power and so run faster."""
    copying, multiplying = _seconds(*_copy()), _seconds(*_product())
    torch.cuda.empty_cache()
    return Ceilings(2 * _COPIED / copying, 2 * _SIDE**3 / multiplying)


def work(planned: Planned, shapes: Mapping[str, tuple[int, ...]]) -> Work:
    """Operations of the source, which every contender computes, and bytes of source and plan.

    A causal mask's half of the attention counts as if it were computed.
    """
    source = examine(planned.loaded.model, fuse=False, shapes=dict(shapes)).planned
    operations = sum(
        work_of(op, source.graph).operations * source.graph.scopes[op.scope].frequency
        for op in source.graph.ops.values()
    )
    return Work(round(operations), least_bytes(source), moved_bytes(planned))


def least_bytes(planned: Planned) -> int:
    """Parameters once, in float16 (of an embedding the rows that are looked up), and the interface in its own types."""
    graph, tables = planned.graph, dict[str, int]()
    for op in graph.ops.values():
        if op.type == "Gather":
            looked_up = elements_of(graph.values[op.outputs[0].value])
            tables[op.inputs[0].value] = tables.get(op.inputs[0].value, 0) + looked_up
    total = 0
    for value in graph.values.values():
        if value.constant is not None:
            elements = min(value.constant.elements, tables.get(value.id, value.constant.elements))
            total += elements * _WIDTHS.get(value.dtype, 8)
    interface = [*planned.prepared.graph.input, *planned.prepared.graph.output]
    constants = {value.id for value in graph.values.values() if value.constant is not None}
    names = [each.name for each in interface if each.name in graph.values and each.name not in constants]
    return total + sum(_own_bytes(graph.values[name]) for name in names)


def moved_bytes(planned: Planned) -> int:
    """What the operators of the plan read and write, each for itself, and its casts."""
    graph, low = planned.graph, FORMATS[planned.plan.precision].bytes
    high = FORMATS[Precision.FLOAT32].bytes
    lowered = {graph.decisions[key].op for key in planned.plan.low if graph.decisions[key].principal}
    total = 0.0
    for op in graph.ops.values():
        if not _computes(op, graph):
            continue
        found = work_of(op, graph)
        moved = found.other_bytes + found.floats * (low if op.id in lowered else high)
        total += moved * graph.scopes[op.scope].frequency
    for cast in planned.plan.casts:
        total += elements_of(graph.values[cast.value]) * (low + high) * graph.scopes[cast.scope].frequency
    return round(total)


def limits(found: Work, reached: Ceilings) -> dict[str, float]:
    """Milliseconds: `compute` and `least_traffic` none can beat, `limit` the longer; `plan_traffic` without caches."""
    compute = found.operations / reached.matrix_rate * 1e3
    least = found.least_bytes / reached.bandwidth * 1e3
    return {
        "compute": compute,
        "least_traffic": least,
        "limit": max(compute, least),
        "plan_traffic": found.moved_bytes / reached.bandwidth * 1e3,
    }


def as_json(found: Work | Ceilings) -> dict[str, float]:
    """For the kept result."""
    return asdict(found)


def _computes(op: Op, graph: PrecisionGraph) -> bool:
    return op.type != "Constant" and work_of(op, graph).kind is not Kind.VIEW


def _own_bytes(value: Value) -> int:
    return elements_of(value) * (4 if value.dtype == "float32" else _WIDTHS.get(value.dtype, 8))


Step = tuple[Callable[..., object], Tensor, Tensor]


def _copy() -> Step:
    source = torch.randint(0, 255, (_COPIED,), dtype=torch.uint8, device="cuda")
    return Tensor.copy_, torch.empty_like(source), source


def _product() -> Step:
    left, right = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.float16) for _ in range(2))
    return torch.matmul, left, right


def _seconds(step: Callable[..., object], left: Tensor, right: Tensor) -> float:
    """The least of a few, the first of which warm up."""
    found = []
    for _ in range(_REPEATS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step(left, right)
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)
