"""Wishes of the user, who names nodes of the file as given: in a fused model some of them are part of another node."""

from __future__ import annotations

import re

from onnx import ModelProto

from ampgraph.errors import OptionError
from ampgraph.graph import PrecisionGraph
from ampgraph.judgement import Category, Judgement
from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.marks import is_changed
from ampgraph.onnx_model.names import metadata_of, node_ids, walk
from ampgraph.options import Options, each_of
from ampgraph.precision import Precision
from ampgraph.wishes import Wishes


def wishes_in(model: ModelProto, options: Options, low_interface: frozenset[str], file: ModelProto) -> Wishes:
    """What the user asked for, in the words of a prepared or fused model. `file`: the model as given.

    A file that ampgraph wrote was matched when it was made: what fusing took away is in it no more.
    """
    asked = {*each_of(options.keep), *each_of(options.low)}
    if not asked:
        return Wishes(low_interface=low_interface)
    names = [node.name for node in walk(file.graph) if node.name]
    written = is_changed(file)
    found = frozenset(pattern for pattern in asked if written or any(re.search(pattern, name) for name in names))
    return Wishes(options.keep, options.low, low_interface, origins_of(model), found)


def origins_of(model: ModelProto) -> dict[str, tuple[str, ...]]:
    """The names that nodes stand for, by plan id."""
    nodes = zip(node_ids(model.graph).values(), walk(model.graph), strict=True)
    return {id: tuple(text.split(" ")) for id, node in nodes if (text := metadata_of(node, ORIGIN_KEY))}


def lost_wish(graph: PrecisionGraph, judgement: Judgement, options: Options, fused: ModelProto) -> str:
    """The wish that a fused model could not grant, "" where there is none: its node is gone, and nothing stands for it.

    A node that only moves values rounds none, and may go. `graph` and `judgement` are of the model before.
    """
    if not (options.keep or options.low):
        return ""
    present = {node.name for node in walk(fused.graph)}.union(*origins_of(fused).values())
    for op in graph.ops.values():
        decisions = graph.decisions_of.get(op.id, ())
        rounds = any(judgement.verdicts[each.id].category is not Category.CLEAR for each in decisions)
        if rounds and op.name not in present:
            for option, asked in (("--keep", options.keep), ("--low", options.low)):
                if any(re.search(pattern, op.name or op.id) for pattern in each_of(asked)):
                    return f"{option} names {op.name or op.id!r}, which would be gone"
    return ""


def low_interface(graph: PrecisionGraph, io_option: str) -> frozenset[str]:
    """Names of graph inputs and outputs that become low; both of a past/present pair where one is named."""
    names = {d.op for d in graph.decisions.values() if d.kind != "op" and d.present is Precision.FLOAT32}
    if io_option == "keep":
        return frozenset()
    chosen = names if io_option == "low" else {name for name in names if re.search(io_option, name)}
    if not chosen and io_option != "low":
        remedy = f"choose among {', '.join(sorted(names))}" if names else "leave it out, the model has none"
        raise OptionError(f"--io {io_option}", "names no float32 input or output", remedy)
    partners = {_cache_key(name): set[str]() for name in names}
    for name in names:
        partners[_cache_key(name)].add(name)
    return frozenset(partner for name in chosen for partner in partners[_cache_key(name)])


def _cache_key(name: str) -> str:
    """What a key-value cache's input and output have in common: past_key_values.0.key and present.0.key."""
    return re.sub(r"^(past|present)(_key_values)?(?=[._])", "cache", name)
