"""Facets of a captured graph: modules of the ops, first elements of buffers, what the graph returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, fx

from ampgraph.fx_module.lift import results, value_id
from ampgraph.graph import PrecisionGraph
from ampgraph.inspection.facets import Facets, Place

SAMPLE = 8  # elements of a constant that are shown


def read_facets(prepared: fx.Graph, graph: PrecisionGraph, held: Mapping[str, Tensor]) -> Facets:
    """What a prepared graph says of itself. `held`: tensors by placeholder."""
    return Facets(
        tuple(_outputs(prepared, graph)),
        {node.name: place_of(node) for node in prepared.nodes if node.name in graph.ops},
        samples={name: first_elements(tensor) for name, tensor in held.items()},
    )


def _outputs(prepared: fx.Graph, graph: PrecisionGraph) -> Iterator[tuple[str, str]]:
    """Outputs by their number; those that are no tensors have no value, and are left out."""
    output = next(iter(reversed(prepared.nodes)))
    for index, node in enumerate(results(output)):
        id = value_id(node)
        if id in graph.values:
            yield f"output_{index}", id


def place_of(node: fx.Node) -> Place:
    """The modules around an op, from the outermost in; those of the traced module itself stand at the root."""
    names, types, around = [], [], ""
    for path, kind in (node.meta.get("nn_module_stack") or {}).values():
        whole = str(path).removeprefix("L['self'].").removeprefix("L['self']")
        if whole:
            names.append(whole.removeprefix(f"{around}.") if around else whole)
            types.append((kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2])
            around = whole
    return Place(tuple(names), tuple(types))


def first_elements(tensor: Tensor) -> tuple[float, ...]:
    """A few elements as they are now; none of a tensor whose data are not here, or that are no plain numbers."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not (tensor.is_meta or tensor.is_complex())
    if not plain or not tensor.numel():
        return ()
    head = tensor.detach()[(0,) * max(tensor.dim() - 1, 0)].reshape(-1)[:SAMPLE].to("cpu", torch.float64)
    return tuple(float(each) for each in head.tolist() if abs(each) < float("inf"))
