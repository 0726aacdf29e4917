"""Nodes that fell to the CPU provider although a GPU is in use: each costs copies, and forbids a CUDA graph.

onnxruntime puts arithmetic on shapes on the CPU on purpose: what reads only results of Shape and Size, and beside them
small constants and integer inputs. Such nodes are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import onnxruntime as ort
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from ampgraph.onnx_model.run import CPU
from ampgraph.onnx_model.types import bodies

RECORD = {"session.record_ep_graph_assignment_info": "1"}  # session configuration that `cpu_nodes` needs
_SOURCES = ("Shape", "Size")
_INTEGERS = (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
_SMALL = 100  # elements of a constant that onnxruntime takes along to the CPU
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class CpuNode:
    """A node that runs on the CPU provider; `name` is "" where the model gives it none."""

    name: str
    op_type: str


def cpu_nodes(session: ort.InferenceSession) -> tuple[CpuNode, ...]:
    """The nodes that onnxruntime gave to the CPU provider; the session was opened with RECORD."""
    if not hasattr(session, "get_provider_graph_assignment_info"):  # before onnxruntime 1.24
        return ()
    groups = session.get_provider_graph_assignment_info()
    return tuple(CpuNode(node.name, node.op_type) for g in groups if g.ep_name == CPU for node in g.get_nodes())


def without_shape_arithmetic(nodes: Iterable[CpuNode], model: ModelProto) -> tuple[CpuNode, ...]:
    """Those nodes that compute on data.

    A node without a name that the model knows (the branch of an If that was inlined, a node that had none) is judged by
    its type: it is left out where all of that type in the model are shape arithmetic.
    """
    judged = list(_judged(model.graph, (), [value.name for value in model.graph.input if _is_small_integer(value)]))
    named = {node for node, _ in judged if node.name}
    computing = {node for node, on_shapes in judged if not on_shapes}
    types = {node.op_type for node, _ in judged} - {node.op_type for node in computing}
    return tuple(
        node
        for node in nodes
        if node.op_type not in _SOURCES and (node in computing if node in named else node.op_type not in types)
    )


def warning_line(nodes: Sequence[CpuNode], provider: str) -> str:
    """One line that names them, most frequent types first."""
    counted = Counter(node.op_type for node in nodes).most_common()
    types = ", ".join(f"{count} {op_type}" for op_type, count in counted)
    names = [node.name for node in nodes if node.name]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    noun = "node runs" if len(nodes) == 1 else "nodes run"
    return f"{len(nodes)} {noun} on the CPU provider although {provider} is in use: {types}" + f" ({shown})" * bool(
        shown
    )


def _is_small_integer(value: ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return bool(tensor.elem_type in _INTEGERS and tensor.HasField("shape") and len(tensor.shape.dim) <= 1)


def _is_small(tensor: TensorProto) -> bool:
    return bool(prod(tensor.dims) <= _SMALL)


def _judged(graph: GraphProto, shapes: Collection[str], free: Collection[str]) -> Iterator[tuple[CpuNode, bool]]:
    """Nodes with whether they compute from shapes alone.

    `shapes`: values of outer scopes that are made from shapes; `free`: what may stand beside.
    """
    shapes, free = set(shapes), {*free, *(tensor.name for tensor in graph.initializer if _is_small(tensor))}
    for node in graph.node:
        inputs, inner = [name for name in node.input if name], list(bodies(node))
        on_shapes = node.op_type in _SOURCES or (
            not shapes.isdisjoint(inputs) and not inner and all(name in shapes or name in free for name in inputs)
        )
        if on_shapes:
            shapes.update(node.output)
        elif node.op_type == "Constant" and all(_is_small(attribute.t) for attribute in node.attribute):
            free.update(node.output)
        yield CpuNode(node.name, node.op_type), on_shapes
        for _, body in inner:
            yield from _judged(body, shapes, free)
