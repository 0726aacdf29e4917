"""What to do about a value that is off: the recorded reason of its node, and the nodes to keep float32."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from ampgraph.graph import Op, PrecisionGraph, Value
from ampgraph.inspection.comparison import Advice
from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.inventory import Inventory
from ampgraph.onnx_model.marks import Past, recall
from ampgraph.onnx_model.names import CAST_KEY, WHY_KEY, metadata_of
from ampgraph.options import Options, each_of, make_options, to_words
from ampgraph.precision import LOW_PRECISIONS

MOST_KEPT = 6


def advice_for(inventory: Inventory, id: str, source: str) -> Advice:
    """Advice about a value of the candidate, `source` being the file that it would be converted from anew.

    With the options that the candidate remembers.
    """
    return _Case(inventory, recall(inventory.model)).advice(id, source)


class _Case:
    """The candidate's graph, to walk in."""

    def __init__(self, inventory: Inventory, past: Past | None) -> None:
        self._past = past
        self._nodes, self._graph = inventory.nodes, inventory.graph
        self._readers = _readers(inventory.graph)

    def advice(self, id: str, source: str) -> Advice:
        """The recorded reason, and what would have to stay float32."""
        value = self._graph.values[id]
        op = self._graph.ops[value.op]
        reader = next(iter(self._readers.get(id, ())), "") if self._is_ours(op) else ""
        kept = list(self._to_keep(op, value))[:MOST_KEPT]
        names = list(dict.fromkeys(name for each in kept for name in self._names(each)))
        return Advice(
            id, self._why(reader or op.id), tuple(each.id for each in kept), _remedy(names, source, self._past)
        )

    def _why(self, op: str) -> str:
        return metadata_of(self._nodes[op], WHY_KEY)

    def _is_ours(self, op: Op) -> bool:
        return bool(metadata_of(self._nodes[op.id], CAST_KEY))

    def _is_low(self, op: Op) -> bool:
        return any(self._graph.values[slot.value].dtype in LOW_PRECISIONS for slot in op.outputs if slot.value)

    def _to_keep(self, op: Op, value: Value) -> Iterator[Op]:
        """What reads a low cast of ours, the op itself where it makes a low value, else the nearest low ops before."""
        if self._is_ours(op) and value.dtype in LOW_PRECISIONS:
            yield from (self._graph.ops[name] for name in self._readers.get(value.id, ()))
        elif not self._is_ours(op) and self._is_low(op):
            yield op
        else:
            yield from self._low_before(op)

    def _low_before(self, op: Op) -> Iterator[Op]:
        waiting, seen = [op], {op.id}
        while waiting:
            for slot in waiting.pop(0).inputs:
                maker = self._graph.values[slot.value].op if slot.value else ""
                if maker and maker not in seen:
                    seen.add(maker)
                    before = self._graph.ops[maker]
                    if self._is_low(before) and not self._is_ours(before):
                        yield before
                    else:
                        waiting.append(before)

    def _names(self, op: Op) -> list[str]:
        """What `--keep` knows an op by: for a fused operator also the nodes that it stands for."""
        origins = metadata_of(self._nodes[op.id], ORIGIN_KEY)
        return [op.name or op.id, *(origins.split(" ") if origins else ())]


def _readers(graph: PrecisionGraph) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for op in graph.ops.values():
        for slot in op.inputs:
            if slot.value:
                found.setdefault(slot.value, []).append(op.id)
    return {value: tuple(dict.fromkeys(ops)) for value, ops in found.items()}


def _remedy(names: list[str], source: str, past: Past | None) -> str:
    if not names:
        return "no low precision comes before it: what differs is something else than precision"
    if past is not None and "plan" in past.files:
        return f"set {', '.join(names)} to float32 in the plan that it was converted with"
    options = _keeping(names, past.options if past else Options())
    words = (*to_words(replace(options, keep="")), *to_words(Options(keep=options.keep)))
    files = f" (and its --{' and --'.join(past.files)})" if past is not None and past.files else ""
    return " ".join(("ampgraph convert", shlex.quote(source), *words)) + files


def _keeping(names: list[str], options: Options) -> Options:
    """The options of a conversion that keeps these nodes too; `--low` then must not name them."""
    listed = "|".join(map(re.escape, names))
    pattern = f"^({listed})$" if len(names) > 1 else f"^{listed}$"
    lows = each_of(options.low)
    if any(re.search(low, name) for low in lows for name in names):
        lows = tuple(f"^(?!({listed})$).*({low})" for low in lows)
    return make_options(**{**vars(options), "keep": (*each_of(options.keep), pattern), "low": lows})
