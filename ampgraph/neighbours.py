"""Neighbours: who reads a value in a graph, and what constants stand beside an image."""

from __future__ import annotations

from collections.abc import Mapping

from ampgraph.graph import Op, PrecisionGraph


def readers(value: str, graph: PrecisionGraph) -> list[Op]:
    """The ops that read a value, each once; none where it is an output of the graph."""
    uses = graph.uses_of.get(value, ())
    ids: Mapping[str, None] = dict.fromkeys(use.op for use in uses)
    return [] if "" in ids else [graph.ops[id] for id in ids]


def only_reader(value: str, graph: PrecisionGraph, *types: str) -> Op | None:
    """The op that alone reads a value, where it is of one of these types."""
    found = readers(value, graph)
    return found[0] if len(found) == 1 and found[0].type in types else None


def other_operand(op: Op, value: str) -> str:
    """What an op of two operands takes beside a value."""
    first, second = (slot.value for slot in op.inputs)
    return second if first == value else first


def is_by_channel(constant: str, image: str, graph: PrecisionGraph) -> bool:
    """Whether a constant holds one number, or one for each channel of the image (N, C, ..) of known shape beside it."""
    held, shape = graph.values.get(constant), graph.values[image].shape
    if held is None or held.constant is None or held.shape is None or shape is None or len(held.shape) > len(shape):
        return False
    wanted = (shape[1], *(1 for _ in shape[2:])) if len(shape) > 1 else None
    return held.constant.elements == 1 or held.shape == wanted or (wanted is not None and held.shape == (1, *wanted))
