"""Facets of an ONNX model: scopes, origins, recorded reasons, first elements of weights, names of free dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from ampgraph.graph import PrecisionGraph
from ampgraph.inspection.facets import Facets, Place, Recorded, Shape
from ampgraph.onnx_model import external
from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.dtypes import ELEM_TYPES
from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.inference import infer_once
from ampgraph.onnx_model.names import CAST_KEY, CAUSE_KEY, RULE_KEY, WHY_KEY, metadata_of, node_ids, walk
from ampgraph.onnx_model.places import SCOPES_KEY, common_place, place_of, place_of_name
from ampgraph.onnx_model.types import bodies, weightless
from ampgraph.precision import Precision

SAMPLE = 8  # elements of a constant that are shown
_BFLOAT16 = ELEM_TYPES[Precision.BFLOAT16]
_READABLE: dict[int, str] = {
    TensorProto.FLOAT: "<f4",
    TensorProto.FLOAT16: "<f2",
    TensorProto.DOUBLE: "<f8",
    TensorProto.INT64: "<i8",
    TensorProto.INT32: "<i4",
}
Doubles = npt.NDArray[np.float64]


def read_facets(model: ModelProto, graph: PrecisionGraph, folder: Path, source: ModelProto | None = None) -> Facets:
    """What a prepared model says of itself. `graph` was lifted from it; `source`: the model before it was fused."""
    nodes = dict(zip(node_ids(model.graph).values(), walk(model.graph), strict=True))
    ids = _value_ids(graph)
    origins = {id: tuple(text.split(" ")) for id, node in nodes.items() if (text := metadata_of(node, ORIGIN_KEY))}
    return Facets(
        tuple((value.name, ids["", value.name]) for value in model.graph.output),
        _places(nodes, origins, source),
        origins,
        {ids[key]: sample for key, sample in _samples(model.graph, "", iter(nodes), folder) if key in ids},
        _shapes(model),
        {id: value for id, node in nodes.items() if (value := metadata_of(node, CAST_KEY))},
        recorded_in(model),
    )


def _value_ids(graph: PrecisionGraph) -> dict[tuple[str, str], str]:
    """Value ids by scope and name."""
    found: dict[tuple[str, str], str] = {}
    for value in graph.values.values():
        found.setdefault((value.scope, value.name), value.id)
    return found


def _places(
    nodes: Mapping[str, NodeProto], origins: Mapping[str, tuple[str, ...]], source: ModelProto | None
) -> dict[str, Place]:
    """Places by op id; a fused op stands where all that it stands for stood: the exporter's metadata or names say."""
    found = {id: place_of(node) for id, node in nodes.items()}
    named = {node.name: place_of(node) for node in walk(source.graph) if node.name} if source is not None else {}
    for id, names in origins.items():
        if named or not metadata_of(nodes[id], SCOPES_KEY):
            found[id] = common_place(named.get(name, place_of_name(name)) for name in names) or found[id]
    return {id: place for id, place in found.items() if place is not None}


def recorded_in(model: ModelProto) -> dict[str, Recorded]:
    """What a conversion wrote into the nodes of a prepared model, by op id."""
    nodes = zip(node_ids(model.graph).values(), walk(model.graph), strict=True)
    return {id: found for id, node in nodes if (found := _recorded(node)) is not None}


def _recorded(node: NodeProto) -> Recorded | None:
    """What a conversion wrote; reasons of further type variables have the variable's name behind the key."""
    reasons = {
        entry.key.removeprefix(WHY_KEY).removeprefix("."): entry.value
        for entry in node.metadata_props
        if entry.key == WHY_KEY or entry.key.startswith(f"{WHY_KEY}.")
    }
    return Recorded(reasons, metadata_of(node, CAUSE_KEY), metadata_of(node, RULE_KEY)) if reasons else None


def _samples(
    graph: GraphProto, scope: str, ids: Iterator[str], folder: Path
) -> Iterator[tuple[tuple[str, str], tuple[float, ...]]]:
    """First elements of initializers and Constant nodes by scope and name. `ids`: of nodes in walk order."""
    for tensor in graph.initializer:
        yield (scope, tensor.name), first_elements(tensor, folder)
    for node in graph.node:
        id = next(ids)
        constant = constant_tensor(node)
        if constant is not None:
            yield (scope, node.output[0]), first_elements(constant, folder)
        for name, body in bodies(node):
            yield from _samples(body, f"{id}/{name}", ids, folder)


def first_elements(tensor: TensorProto, folder: Path) -> tuple[float, ...]:
    """A few elements, none of which is infinite or no number. Reads no more of the data than those."""
    if tensor.data_type not in (*_READABLE, _BFLOAT16):
        return ()
    if external.is_external(tensor):
        raw = next(iter(external.blocks(tensor, folder, 8 * SAMPLE)), b"")
    else:
        raw = tensor.raw_data[: 8 * SAMPLE]
    data = _decoded(raw, tensor.data_type) if raw else _unpacked(tensor)
    return tuple(float(each) for each in data[:SAMPLE].tolist() if np.isfinite(each))


def _unpacked(tensor: TensorProto) -> Doubles:
    """The elements of a tensor that keeps them as a list of numbers."""
    return np.asarray(numpy_helper.to_array(tensor), np.float64).reshape(-1)


def _decoded(raw: bytes, data_type: int) -> Doubles:
    """The whole elements in some bytes."""
    if data_type == _BFLOAT16:
        halves = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").astype(np.uint32)
        return (halves << 16).view(np.float32).astype(np.float64)
    kind = np.dtype(_READABLE[data_type])
    return np.frombuffer(raw[: len(raw) // kind.itemsize * kind.itemsize], kind).astype(np.float64)


def _shapes(model: ModelProto) -> dict[str, Shape]:
    """Shapes with a named or unnamed free dimension, of values of the main graph. A name the model does not use for its
    inputs (inference makes some up) is shown as "?".
    """
    names = {dim.dim_param for value in model.graph.input for dim in value.type.tensor_type.shape.dim if dim.dim_param}
    inferred = infer_once(weightless(model)).graph
    found: dict[str, Shape] = {}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            continue
        dims = value.type.tensor_type.shape.dim
        free = [not dim.HasField("dim_value") or dim.dim_value < 0 for dim in dims]
        if any(free):
            shape = (
                (dim.dim_param if dim.dim_param in names else "?") if is_free else int(dim.dim_value)
                for dim, is_free in zip(dims, free, strict=True)
            )
            found[value.name] = tuple(shape)
    return found
