"""Places: where a node stands in the tree of modules, by the exporter's metadata, else by the path in its name."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import lru_cache

from onnx import NodeProto

from ampgraph.inspection.facets import Place
from ampgraph.onnx_model.names import metadata_of

SCOPES_KEY, TYPES_KEY = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def place_of(node: NodeProto) -> Place | None:
    """The modules around a node; None where nothing says."""
    scopes = metadata_of(node, SCOPES_KEY) if node.metadata_props else ""
    if scopes.startswith("[") and scopes.endswith("]"):
        found = _of_exporter(scopes.rpartition(",")[0], metadata_of(node, TYPES_KEY).rpartition(",")[0])
        if found is not None:
            return found
    return place_of_name(node.name, node.op_type)


def scopes_of_all(nodes: Iterable[NodeProto], name: str, op_type: str) -> dict[str, str]:
    """What the exporter would write of a node that stands for some nodes: the scopes that all of those are in.

    Nodes of which it wrote nothing are passed over; metadata by key, none where that is all of them.
    """
    pairs = [(metadata_of(node, SCOPES_KEY), metadata_of(node, TYPES_KEY)) for node in nodes]
    read = [(_strings_of(scopes), _strings_of(types)) for scopes, types in pairs if scopes]
    scopes = [names[:-1] for names, _ in read if names]
    if not scopes:
        return {}
    common = scopes[0][: _shared(scopes)]
    found = {SCOPES_KEY: repr([*common, name])}
    types = [kinds[: len(common)] for names, kinds in read if names and kinds and len(kinds) == len(names)]
    if types:
        found[TYPES_KEY] = repr([*types[0], op_type])
    return found


def _strings_of(text: str) -> list[str] | None:
    return _strings(text[:-1]) if text.endswith("]") else None


@lru_cache(maxsize=4096)
def _of_exporter(scopes: str, types: str) -> Place | None:
    """torch's dynamo exporter writes lists from the model in, ending with the operator itself, which is cut off here.

    Scopes are whole paths: ['', 'encoder', 'encoder.layer.0'].
    """
    paths, classes = _strings(scopes), _strings(types)
    if paths is None:
        return None
    names, around = [], ""
    for path in paths[1:]:
        names.append(path.removeprefix(f"{around}.") if around else path)
        around = path
    kinds = tuple(name.rpartition(".")[2] for name in classes[1:]) if classes and len(classes) == len(paths) else ()
    return Place(tuple(names), kinds)


def _strings(text: str) -> list[str] | None:
    """A list of strings as Python writes it, without its last bracket; None where it is none."""
    try:
        found = ast.literal_eval(f"{text}]" if text else "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None


def place_of_name(name: str, op_type: str = "") -> Place | None:
    """`/encoder/layer.0/MatMul` and `encoder.layer.0.MatMul` are paths; `Conv.12` and `Conv_12` are not."""
    if "/" in name:
        return Place(tuple(part for part in name.split("/")[:-1] if part))
    parts = name.split(".")
    if len(parts) < 2 or not all(parts) or parts[-1].isdecimal() or op_type in parts[:-1]:
        return None
    return Place(tuple(parts[:-1]))


def common_place(places: Iterable[Place | None]) -> Place | None:
    """The innermost module that all of some nodes stand in."""
    known = [place for place in places if place is not None]
    if not known:
        return None
    depth = _shared([place.path for place in known])
    return Place(known[0].path[:depth], known[0].types[:depth])


def _shared(rows: Sequence[Sequence[str]]) -> int:
    """How many entries all rows begin with."""
    count = 0
    while all(len(row) > count and row[count] == rows[0][count] for row in rows):
        count += 1
    return count
