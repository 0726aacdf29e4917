"""Models from ONNX text, the road over them, and what every conversion must keep, for tests of the ONNX edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, parser

import ampgraph
from ampgraph.api import Result
from ampgraph.conversion import FUSING_FAILED
from ampgraph.onnx_model.compare import compare
from ampgraph.onnx_model.io import check_model
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.run import CPU, random_inputs

OBJECTIVES = ("speed", "memory", "coverage")
TARGETS = ("onnxruntime-cuda", "onnx")
BAR = 2e-2  # relative L2 error
FLOAT16, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def parse(graph: str, opset: int = 20, ir: int = 10, functions: str = "", **domains: int) -> ModelProto:
    """A model from the text of its graph. `domains`: opset imports, dots in names written as underscores."""
    imports = {"": opset, **{name.replace("_", "."): version for name, version in domains.items()}}
    listed = ", ".join(f'"{domain}" : {version}' for domain, version in imports.items())
    return parser.parse_model(f"<ir_version: {ir}, opset_import: [{listed}]> {graph} {functions}")


def weight(name: str, *shape: int, scale: float = 0.5, seed: int = 0) -> str:
    """The text of a float32 initializer with random values."""
    data = np.random.default_rng(seed + len(name)).standard_normal(shape).astype(np.float32) * scale
    numbers = ", ".join(f"{value:.6f}" for value in data.reshape(-1))
    return f"float[{', '.join(map(str, shape))}] {name} = {{{numbers}}}"


W = weight("w", 4, 4)


def convert(model: ModelProto, **options: Any) -> Result:
    """The real road, under `coverage` unless told otherwise; faults of fusing, which cost users speed alone, fail."""
    result = ampgraph.convert(model, **{"objective": "coverage", "target": "onnx", **options})
    assert FUSING_FAILED not in result.planned.fusing
    return result


def elem_types(model: ModelProto) -> dict[str, int]:
    """Element types of all values of the main graph, by onnx's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*inferred.input, *inferred.output, *inferred.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def nodes(model: ModelProto, op_type: str) -> list[NodeProto]:
    """The nodes of one type, bodies included."""
    return [node for node in walk(model.graph) if node.op_type == op_type]


def casts(model: ModelProto) -> list[NodeProto]:
    """The Cast nodes."""
    return nodes(model, "Cast")


def inner_types(result: Result) -> set[str]:
    """Precisions that the plan gives to decisions of ops."""
    graph, choices = result.planned.graph, result.plan.choices
    return {choices[key].precision.value for key, decision in graph.decisions.items() if decision.kind == "op"}


def low_ops(result: Result) -> set[str]:
    """Types of the ops that have a low decision."""
    graph = result.planned.graph
    return {graph.ops[graph.decisions[key].op].type for key in result.plan.low if graph.decisions[key].kind == "op"}


def interface(model: ModelProto) -> list[tuple[str, bytes]]:
    """Names and types of inputs that are no initializers, and of outputs, in order."""
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if model.ir_version >= 4 or value.name not in given]
    return [_signature(value) for value in (*inputs, *model.graph.output)]


def _signature(value: ValueInfoProto) -> tuple[str, bytes]:
    return value.name, value.type.SerializeToString(deterministic=True)


def assert_valid(source: ModelProto, model: ModelProto) -> None:
    """The full checker passes where it passes the source, and the interface is the source's."""
    if not check_model(source):
        onnx.checker.check_model(model, full_check=True)
    assert interface(model) == interface(source)


def assert_agrees(source: ModelProto, model: ModelProto, feeds: Mapping[str, Any] | None = None) -> None:
    """The model opens and runs in a CPU session, and gives the source's answers."""
    errors = compare(source, model, feeds or random_inputs(source), CPU)
    assert errors
    assert not [error for error in errors if not error.within(BAR)]
