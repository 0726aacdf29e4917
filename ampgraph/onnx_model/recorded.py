"""`ampgraph.diff`: two plans, from files, from memory, or as converted models record them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ampgraph.errors import OptionError
from ampgraph.graph import PrecisionGraph
from ampgraph.inspection.plan_diff import PlanDiff, difference
from ampgraph.inspection.recorded_plan import REMEDY, Line, Recorded, of_plan, read_plan
from ampgraph.onnx_model.dtypes import PRECISIONS
from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.inventory import Inventory, take_inventory
from ampgraph.onnx_model.io import Loaded, load
from ampgraph.onnx_model.names import CAST_KEY, CAUSE_KEY, RULE_KEY, WHY_KEY, metadata_of
from ampgraph.placement import Cast
from ampgraph.plan import Plan, Replacement

FOUND = "as it was found"


def diff(plan_a: Any, plan_b: Any) -> PlanDiff:  # noqa: ANN401  (results, plans, models, paths)
    """What changed from one conversion to another: decisions, and why, casts, parameters and price.

    Each is what `convert` returned, a `Plan` (its `.plan`), a plan file's path, or an ONNX model's path or proto, whose
    metadata say what `convert` decided; two plans or two models. Raises PlanError for what is no plan, where the two
    are not of one kind, or where less than half of the smaller one's decisions are in the other: they are of different
    models then.
    """
    return difference(_recorded(plan_a, "first plan"), _recorded(plan_b, "second plan"))


def _recorded(source: Any, name: str) -> Recorded:  # noqa: ANN401
    if "ampgraph.api.Result" in {f"{cls.__module__}.{cls.__name__}" for cls in type(source).__mro__}:
        source = source.plan
    if isinstance(source, Plan):
        return of_plan(source, name)
    if isinstance(source, ModelProto):
        return of_model(Loaded(source, Path()), name)
    if not isinstance(source, str | os.PathLike):
        raise OptionError(f"plan of type {type(source).__name__}", "is no plan", REMEDY)
    path = Path(source)
    if path.suffix == ".onnx":
        return of_model(load(path), path.name)
    try:
        return read_plan(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise OptionError(str(path), f"cannot be read ({error.strerror})", "check the path") from None
    except UnicodeDecodeError:
        raise OptionError(str(path), "is not text", REMEDY) from None


def of_model(loaded: Loaded, name: str) -> Recorded:
    """What a model file records: every node's precision with its reason, casts of ours, precisions of parameters."""
    inventory = take_inventory(loaded)
    graph = inventory.graph
    lines = {op: line for op in graph.ops if (line := _line(inventory, op)) is not None}
    parameters = {
        value.id: (value.dtype,) for value in graph.values.values() if value.constant and _is_float(value.dtype)
    }
    low = {line.precision for line in lines.values()} - {"float32"}
    return Recorded(
        name, "model", loaded.model.graph.name, " and ".join(sorted(low)), "", "", "", None, lines, _casts(inventory),
        parameters, _replaced(inventory),
    )  # fmt: skip


def _replaced(inventory: Inventory) -> dict[str, Replacement]:
    """Fused nodes, each with what it stands for."""
    names = {id: metadata_of(node, ORIGIN_KEY) for id, node in inventory.nodes.items()}
    ops = inventory.graph.ops
    return {id: Replacement(ops[id].type, tuple(text.split(" "))) for id, text in names.items() if text and id in ops}


def _is_float(dtype: str) -> bool:
    return dtype in PRECISIONS


def _line(inventory: Inventory, op: str) -> Line | None:
    """A node's precision and recorded reason; None for casts of ours and nodes without floats."""
    node, decisions = inventory.nodes[op], inventory.graph.decisions_of.get(op, ())
    if not decisions or metadata_of(node, CAST_KEY):
        return None
    precision = decisions[0].present
    why = metadata_of(node, WHY_KEY).removeprefix(f"{precision}: ") or FOUND
    return Line(precision, metadata_of(node, CAUSE_KEY), why, metadata_of(node, RULE_KEY))


def _casts(inventory: Inventory) -> frozenset[Cast]:
    graph = inventory.graph
    return frozenset(
        Cast(recorded, PRECISIONS[_made(graph, op.id)], op.scope)
        for op in graph.ops.values()
        if (recorded := metadata_of(inventory.nodes[op.id], CAST_KEY))
    )


def _made(graph: PrecisionGraph, op: str) -> str:
    return graph.values[graph.ops[op].outputs[0].value].dtype
