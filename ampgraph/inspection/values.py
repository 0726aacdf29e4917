"""Values: tensors with their types, sizes and proven ranges; constants with the facts of their data."""

from __future__ import annotations

from collections.abc import Iterator

from ampgraph.graph import Value as GraphValue
from ampgraph.inspection.document import Initializer, Value
from ampgraph.inspection.facets import Shape
from ampgraph.inspection.view import View, bytes_of, finite
from ampgraph.inspection.wiring import Wiring
from ampgraph.precision import FORMATS


def list_values(view: View, wiring: Wiring) -> Iterator[Value]:
    """Every value that a node reads or makes, in the order of the model, then those that planned casts make."""
    used = {id for stop in wiring.stops for id in (*stop.inputs, *stop.outputs) if id}
    for value in view.graph.values.values():
        if value.id in used:
            yield _value(view, value, value.id, value.name, view.dtypes[value.id])
    for cast, id in wiring.copies.items():
        if id in used:
            value = view.graph.values[cast.value]
            yield _value(view, value, id, f"{value.name}_{cast.to}", cast.to.value)


def _value(view: View, value: GraphValue, id: str, name: str, dtype: str) -> Value:
    lowest, highest = _range(view, value.id)
    facts = _initializer(view, value)
    size = bytes_of(dtype, value.elements if value.kind == "tensor" else None)
    return Value(id, name, dtype, value.kind, _shape(view, value), size, lowest, highest, facts)


def _shape(view: View, value: GraphValue) -> Shape | None:
    return view.facets.shapes.get(value.id, value.shape)


def _range(view: View, id: str) -> tuple[float | None, float | None]:
    """The ends of the interval that the value is proved to stay in; None where there is no bound."""
    interval = view.ranges.get(id)
    if interval is None or not interval.complete:
        return None, None
    return finite(interval.lo), finite(interval.hi)


def _initializer(view: View, value: GraphValue) -> Initializer | None:
    constant = value.constant
    if constant is None:
        return None
    loss = constant.conversions.get(view.plan.precision)
    kept = view.plan.parameters.get(value.id, ())
    return Initializer(
        constant.elements,
        finite(float(constant.lowest)),
        finite(float(constant.highest)),
        tuple(precision.value for precision in kept) or ((value.dtype,) if value.dtype in FORMATS else ()),
        finite(loss.error) if loss else None,
        loss.overflowed if loss else 0,
        loss.flushed if loss else 0,
        view.facets.samples.get(value.id, ()),
    )
