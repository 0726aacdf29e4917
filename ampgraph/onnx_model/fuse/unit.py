"""Unit: rows divided by their length, as queries and keys are whose scores are cosines (Swin V2).

A row over its length is its RMS normalization over the root of its width, which kernels compute in one pass: lengths
themselves would be four operators in float32. The least length that an exporter divides by becomes an epsilon; where a
row is that short, it is nothing in either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.fuse.net import CONTRIB, Net, node
from ampgraph.onnx_model.fuse.rows import Draft
from ampgraph.onnx_model.fuse.skip_norm import is_last_axis

_LEAST = 1e-30  # of an epsilon: a normal number of float32


@dataclass(frozen=True)
class Unit:
    """The rows that are divided by their lengths, and the least that they are divided by."""

    value: str
    floor: float


def unit_of(net: Net, name: str) -> Unit | None:
    """What a value is the unit rows of, over the last axis; None where it is not."""
    divided = net.maker(name, "Div")
    if divided is None:
        return None
    length = divided.input[1]
    spread = net.maker(length, "Expand")
    cut = net.maker(spread.input[0] if spread is not None else length, "Clip", "Max")
    norm = net.maker(cut.input[0], "ReduceL2") if cut is not None else None
    floor = _floor(net, cut) if cut is not None else None
    if norm is None or floor is None or norm.input[0] != divided.input[0] or not is_last_axis(net, norm):
        return None
    return Unit(divided.input[0], floor)


def _floor(net: Net, cut: NodeProto) -> float | None:
    """What a Clip or Max lifts values to, where it cuts off nothing above."""
    given = [name for name in cut.input[1:] if name]
    return net.scalar(given[0]) if len(given) == 1 and cut.input[1] == given[0] and not cut.attribute else None


def unit_heads(draft: Draft, rows: str, heads: int, floor: float, old: NodeProto) -> str:
    """Rows (batch, tokens, heads * size) of heads side by side, each divided by its length; the batch may be free.

    The kernel for sums adds a row of zeros to every row, which is one of as many as there are heads of tokens.
    """
    batch, tokens, width = draft.shapes[rows]
    size, name = width // heads, f"{rows}_unit"
    apart = draft.integers(f"{name}_apart", (-1, 1, size))
    split = draft.add(node("Reshape", [rows, apart], [f"{name}_heads"]), (batch * tokens * heads, 1, size), old)
    zeros = draft.table(f"{name}_zeros", np.zeros((1, 1, size), np.float32))
    scale = draft.table(f"{name}_scale", np.full(size, size**-0.5, np.float32))
    epsilon = max(floor**2 / size, _LEAST)
    new = node("SkipSimplifiedLayerNormalization", [split, zeros, scale], [name], CONTRIB, epsilon=epsilon)
    normed = draft.add(new, draft.shapes[split], old)
    together = draft.integers(f"{name}_together", (-1, tokens, width))
    return draft.add(node("Reshape", [normed, together], [f"{name}_rows"]), (batch, tokens, width), old)
