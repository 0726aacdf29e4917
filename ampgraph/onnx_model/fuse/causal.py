"""Causal masks: every token attends to itself and to those before it, whatever the data.

Kernels know that mask by name and need not read it. On one H100, microseconds a layer, float16, 4 x 512 tokens in
16 heads of 64: 24.2 with the mask as a tensor, 14.6 with `unidirectional`. What makes a mask is not looked at but run,
at both sizes that fusions are looked for at; sizes and constants are all that it may read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from ampgraph.onnx_model.fuse.known import MEASURES, ancestors, computed, without_data
from ampgraph.onnx_model.fuse.masks import UNSEEN_BESIDE
from ampgraph.onnx_model.fuse.net import Array, Net

FORBIDDEN = -1e4  # what is added to a score, or put in its place, that leaves no weight
_GROUPING = frozenset(("Ceil", "Clip", "Div", "Floor", "Max", "Min", "Mod", "Pow", "Reciprocal", "Round", "Sqrt"))
_TO_THE_END = 2**24  # numbers from here on are bounds of slices that mean no number


@dataclass(frozen=True)
class Masked:
    """Scores with a mask on them: added, or a condition by which they are kept or else replaced with a low number."""

    result: str
    scores: str
    mask: str
    how: str  # "added", "kept" or "replaced"

    def forbidden(self, mask: Array) -> Array | None:
        """Where the mask leaves no weight; None where it does something between."""
        if self.how != "added":
            return mask if self.how == "replaced" else ~mask
        low: Array = mask <= FORBIDDEN
        return low if np.all(low | (mask == 0)) else None

    def is_causal(self, mask: Array) -> bool:
        """Whether every token attends to itself and to all before it, in every head."""
        forbidden = self.forbidden(mask) if mask.ndim > 1 and mask.shape[-1] == mask.shape[-2] > 1 else None
        return forbidden is not None and bool(np.all(forbidden == np.triu(np.ones(mask.shape[-2:], bool), 1)))


def has_masks(net: Net) -> bool:
    """Whether any scores have a mask on them that may be causal."""
    return next(_masked(net), None) is not None


def causal_scores(one: Net, other: Net) -> Mapping[str, str]:
    """Scores that a causal mask is put on, by the name of the masked ones.

    `one`, `other`: the same graph at two sets of sizes; in `other`, what may differ does, such as two lengths.
    """
    masked = list(_masked(one))
    names = sorted({each.mask for each in masked})
    if not names:
        return {}
    first, second = computed(one, names), computed(other, names)
    both = [each for each in masked if each.mask in first and each.mask in second]
    sure = without_data(one)
    both = [each for each in both if _is_alone(one, each, sure) or _is_final(one, each, first[each.mask])]
    causal = [each for each in both if each.is_causal(first[each.mask]) and each.is_causal(second[each.mask])]
    lasting = {
        name
        for name in {each.mask for each in causal}
        if first[name].shape[-1] == second[name].shape[-1] or not _may_change(one, name, first[name])
    }
    return {each.result: each.scores for each in causal if each.mask in lasting}


def _is_alone(net: Net, each: Masked, sure: Collection[str]) -> bool:
    """Whether no mask that depends on data is on the scores already. `sure`: what follows from sizes and constants."""
    made = net.maker(each.scores, "Add", "Where")
    while made is not None:
        open_ = [name for name in made.input if name not in sure]
        if len(open_) > 1:
            return False
        made = net.maker(open_[0], "Add", "Where")
    return True


def _is_final(net: Net, each: Masked, mask: Array) -> bool:
    """Whether what is forbidden stays so beside other masks: -1e4 is a weight again where all others have -1e4 too."""
    if each.how == "added":
        return bool(np.all(mask[mask < 0] <= UNSEEN_BESIDE))
    made = net.makers[each.result]
    lows = [net.scalar(name) for name in made.input[1:] if name != each.scores]
    return all(low is not None and low <= UNSEEN_BESIDE for low in lows)


def _masked(net: Net) -> Iterator[Masked]:
    """What goes into a softmax and is scores with a mask that depends on no data."""
    sure = without_data(net)
    for each in net.graph.node:
        made = net.maker(each.input[0], "Add", "Where") if each.op_type == "Softmax" else None
        for scores, mask, how in _readings(net, made) if made is not None else ():
            shape = net.shapes.get(scores)
            if mask in sure and scores not in sure and shape is not None and shape == net.shapes.get(each.input[0]):
                yield Masked(each.input[0], scores, mask, how)


def _readings(net: Net, made: NodeProto) -> list[tuple[str, str, str]]:
    """What may be scores, what a mask, and how it is put on them."""
    if made.op_type == "Add":
        one, other = made.input
        return [(one, other, "added"), (other, one, "added")]
    condition, yes, no = made.input
    low = {name for name in (yes, no) if (number := net.scalar(name)) is not None and number <= FORBIDDEN}
    readings = [(yes, condition, "kept", no), (no, condition, "replaced", yes)]
    return [(scores, mask, how) for scores, mask, how, number in readings if number in low]


def _may_change(net: Net, name: str, mask: Array) -> bool:
    """Whether more tokens may show what a mask hides: a window wider than the modelled length, a table's other places.

    Only constants can say where; those of shapes are not followed.
    """
    sizes = {output for each in net.graph.node if each.op_type in MEASURES for output in each.output}
    nodes, leaves = ancestors(net, [name], sizes | set(net.constants))
    if any(each.op_type in _GROUPING for each in nodes):  # blocks of tokens, as many as fit the modelled length
        return True
    tables = [net.table(leaf) for leaf in leaves - sizes]
    return any(table is None or _says_more(table, mask.shape[-1]) for table in tables)


def _says_more(values: Array, tokens: int) -> bool:
    """Whether a constant has numbers above the length, or is a longer table that is not regular throughout."""
    if values.size > tokens and _is_triangular(values):
        return False
    flat = values.reshape(-1)
    if values.size > tokens and (flat.dtype == bool or not np.array_equal(flat, np.arange(flat.size) + flat[0])):
        return bool(np.any(flat != flat[0])) or _says_more(flat[:1], tokens)
    if values.size > tokens or flat.dtype == bool:
        return False
    large = (np.abs(flat) > tokens) & (np.abs(flat) < _TO_THE_END)
    return bool(np.any(large & ((flat > FORBIDDEN) | (flat.dtype.kind != "f"))))


def _is_triangular(values: Array) -> bool:
    """Whether a table has one value above the diagonal and one elsewhere."""
    if values.ndim < 2 or not values.shape[-1] == values.shape[-2] > 1:
        return False
    rows = values.reshape(-1, *values.shape[-2:])
    above = np.triu(np.ones(rows.shape[-2:], bool), 1)
    return bool(np.all(rows == np.where(above, rows[0, 0, 1], rows[0, 0, 0])))
