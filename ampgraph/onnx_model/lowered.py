"""Lowered: what onnxruntime's own graph of a model holds in low precision."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir
from onnx_ir import traversal

from ampgraph.onnx_model.dense import with_dense
from ampgraph.onnx_model.element_types import LOW, fill_element_types

_FLOATS = (*LOW, ir.DataType.FLOAT, ir.DataType.DOUBLE)


def lowered_by_runtime(optimized: onnx.ModelProto, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names`, nodes or values that a plan keeps in float32, which the runtime's graph holds in low precision.

    A node is judged by its floating-point outputs, or its inputs where it has none. Names that the runtime fused away
    are not judged: what is inside a fused kernel is the kernel's business, and its own row in the target's table.
    """
    model = ir.from_proto(with_dense(optimized))
    fill_element_types(model)
    nodes = list(traversal.RecursiveGraphIterator(model.graph))
    low_nodes = {node.name for node in nodes if any(_low_flags(node))}
    low_values = {
        value.name for node in nodes for value in (*node.inputs, *node.outputs) if value and value.dtype in LOW
    }
    named = {node.name for node in nodes}
    return tuple(name for name in names if name in (low_nodes if name in named else low_values))


def _low_flags(node: ir.Node) -> list[bool]:
    """Whether each floating-point output, or input where there is no such output, is low."""
    for values in (node.outputs, node.inputs):
        flags = [value.dtype in LOW for value in values if value is not None and value.dtype in _FLOATS]
        if flags:
            return flags
    return []
