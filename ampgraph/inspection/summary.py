"""Summary: the first screen of a document, added up from its picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ampgraph.inspection.boundaries import cast_totals
from ampgraph.inspection.document import Graph, KeptParameter, Node, Share, Summary, Value
from ampgraph.inspection.islands import find_islands
from ampgraph.inspection.view import NO_FLOAT, View, bytes_of
from ampgraph.precision import LOW_PRECISIONS, Precision


def summarize(view: View, graph: Graph, notes: Sequence[str] = ()) -> Summary:
    """Shares, casts, islands, parameters kept and times of a picture."""
    casts = frozenset(node.id for node in graph.nodes if node.kind == "cast")
    count, moved, price = cast_totals(graph.boundaries, casts)
    ops = [node for node in graph.nodes if node.kind == "op"]
    before = float(view.plan.baseline) if view.decided else _baseline(view)
    after = float(view.plan.cost) if view.decided else _present(view) + price
    return Summary(
        _shares(graph, view.plan.precision),
        count,
        moved,
        price,
        find_islands(graph),
        tuple(_kept(graph)),
        tuple(node.id for node in ops if node.kernel == "cpu"),
        before,
        after,
        tuple(notes),
    )


def price_of(node: Node) -> float:
    """A node's price in the precisions that its type variables are in."""
    return sum((each.low if each.precision in LOW_PRECISIONS else each.high) or 0.0 for each in node.choices)


def _shares(graph: Graph, low: Precision) -> tuple[Share, ...]:
    """A share for the low precision and for float32, and for whatever else there is."""
    ops = [node for node in graph.nodes if node.kind == "op"]
    parameters = _parameter_bytes(graph.values)
    names = [low.value, Precision.FLOAT32.value, *(node.precision for node in ops), *parameters]
    return tuple(_share(name, ops, parameters) for name in dict.fromkeys(names))


def _share(precision: str, ops: Sequence[Node], parameters: Mapping[str, int]) -> Share:
    nodes = [node for node in ops if node.precision == precision]
    return Share(
        precision,
        len(nodes),
        sum(node.operations or 0 for node in nodes),
        sum(node.bytes or 0 for node in nodes),
        parameters.get(precision, 0),
        float(sum(map(price_of, nodes))),
    )


def _parameter_bytes(values: Sequence[Value]) -> dict[str, int]:
    """Bytes of constants by the precisions that they are kept in."""
    found: dict[str, int] = {}
    for value in values:
        if value.initializer is not None:
            other = value.dtype if value.dtype.startswith(("float", "bfloat", "complex")) else NO_FLOAT
            for kept in value.initializer.kept or (other,):
                size = bytes_of(kept if kept != NO_FLOAT else value.dtype, value.initializer.elements) or 0
                found[kept] = found.get(kept, 0) + size
    return found


def _kept(graph: Graph) -> Iterator[KeptParameter]:
    """Parameters in float32 that an op takes in float32, with the reason of the first such op."""
    held = {value.id: value for value in graph.values if _is_parameter(value)}
    told: set[str] = set()
    for node in graph.nodes:
        for value in node.inputs:
            if value in held and value not in told and _takes_float32(node):
                told.add(value)
                yield KeptParameter(value, _bytes(held[value]), node.id, node.cause, node.why)


def _bytes(value: Value) -> int:
    return (bytes_of(Precision.FLOAT32, value.initializer.elements) or 0) if value.initializer else 0


def _is_parameter(value: Value) -> bool:
    return value.initializer is not None and Precision.FLOAT32 in value.initializer.kept


def _takes_float32(node: Node) -> bool:
    if node.kind != "op":
        return node.precision == Precision.FLOAT32
    return any(choice.precision == Precision.FLOAT32 for choice in node.choices)


def _baseline(view: View) -> float:
    """The price of the same model all in float32, casts of ours left out."""
    return float(_constants(view, lowered=False) + sum(view.costs.high.get(id, 0) for id in _decisions(view)))


def _present(view: View) -> float:
    """The price of the model as it is, without the casts of ours."""
    costs, choices = view.costs, view.plan.choices
    return float(
        _constants(view, lowered=True)
        + sum(
            (costs.low if choices[id].precision in LOW_PRECISIONS else costs.high).get(id, 0) for id in _decisions(view)
        )
    )


def _decisions(view: View) -> Iterator[str]:
    return (each.id for each in view.graph.decisions.values() if each.op not in view.facets.casts)


def _constants(view: View, *, lowered: bool) -> int:
    costs, constants = view.costs, (value for value in view.graph.values.values() if value.constant is not None)
    held = (
        (costs.keep_low if lowered and each.dtype in LOW_PRECISIONS else costs.keep_high, each.id) for each in constants
    )
    return sum(prices.get(id, 0) for prices, id in held)
