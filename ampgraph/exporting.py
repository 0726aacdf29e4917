"""Exporting: a traced module as an ONNX model with the same decisions. The bridge between the two dialects.

torch's exporter takes the module apart further than the graph that was planned, so nodes are matched by submodule,
operator and order. Where they do not match, what is doubtful stays float32.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx import ModelProto, NodeProto

from ampgraph.api import Result, convert
from ampgraph.fx_module.capture import Capture
from ampgraph.onnx_model.torch_export import from_program
from ampgraph.precision import Precision
from ampgraph.report import representative
from ampgraph.tracing import in_turn

if TYPE_CHECKING:
    from ampgraph.fx_module.module import TracedModule

Place = tuple[str, str]  # submodule, operator
_FX, _SCOPES = "pkg.torch.onnx.fx_node", "pkg.torch.onnx.name_scopes"


def export_traced(traced: TracedModule, destination: str | Path | None = None, **options: Any) -> Result:  # noqa: ANN401
    """Export a traced module in evaluation mode, hold back what its plan holds back, and convert the rest."""
    with in_turn(traced, traced.original):
        traced.eval()
        captured, program = traced.captured, traced.export()
    model = from_program(program, type(traced.original).__name__)
    held = sorted(set(held_back(model, captured)))
    keep = "|".join(f"^{re.escape(name)}$" for name in held)
    settings = {"precision": captured.plan.precision.value, "objective": "coverage", "keep": keep, **options}
    return convert(model, destination, **settings)


def held_back(model: ModelProto, captured: Capture) -> Iterator[str]:
    """Names of the nodes that come from ops which the plan has in float32."""
    planned = _planned(captured)
    found = _exported(model)
    for place, groups in found.items():
        high = planned.get(place)
        if high is None:
            doubtful = any(any(each) for (path, _), each in planned.items() if path == place[0])
            flags = [doubtful] * len(groups)
        else:
            flags = high if len(high) == len(groups) else [any(high)] * len(groups)
        for is_high, names in zip(flags, groups, strict=True):
            yield from names if is_high else ()


def _planned(captured: Capture) -> Mapping[Place, list[bool]]:
    """Whether each op is float32 by law or by price, in order, by submodule and operator; ops without floats aside."""
    found: dict[Place, list[bool]] = defaultdict(list)
    for op in captured.graph.ops.values():
        decision = representative(captured.graph, op)
        if decision is not None:
            path = op.name.removesuffix(op.id).removesuffix(".")
            is_high = captured.plan.choices[decision.id].precision is Precision.FLOAT32
            found[path, _stem(op.type)].append(is_high)
    return found


def _exported(model: ModelProto) -> Mapping[Place, list[list[str]]]:
    """Names of ONNX nodes by where they come from, those of one traced op together."""
    found: dict[Place, dict[str, list[str]]] = defaultdict(dict)
    for node in model.graph.node:
        said = {entry.key: entry.value for entry in node.metadata_props}
        origin = said.get(_FX, "")
        target = re.search(r"target=torch\.ops\.(\w+\.\w+)", origin)
        if target and _is_plain(node):
            scopes = ast.literal_eval(said.get(_SCOPES, "['']"))
            path = str(scopes[-2]) if len(scopes) > 1 else ""
            place = (path, _stem(target.group(1)))
            found[place].setdefault(origin.split(" ")[0], []).append(node.name)
    return {place: list(groups.values()) for place, groups in found.items()}


def _is_plain(node: NodeProto) -> bool:
    return bool(node.name) and node.op_type not in ("Constant", "Shape", "Size")


def _stem(op_type: str) -> str:
    """An operator without namespace, and without the underscores of variants."""
    return op_type.rpartition(".")[2].strip("_").removeprefix("native_")
