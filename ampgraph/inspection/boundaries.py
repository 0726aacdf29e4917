"""Boundaries: every place where precisions meet, dearest first; largest first where points are all that is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ampgraph.inspection.document import Boundary
from ampgraph.inspection.nodes import cross
from ampgraph.inspection.view import FLOATS, View
from ampgraph.inspection.wiring import Stop, Wiring

CASTS = frozenset({"Cast", "CastLike", "aten._to_copy", "aten.to"})


def find_boundaries(view: View, wiring: Wiring) -> tuple[Boundary, ...]:
    """The casts of ours and those of the model between floating-point formats, by cost and then by bytes."""
    found = (_boundary(view, wiring, stop) for stop in wiring.stops if _casts(view, stop))
    counts = view.costs.unit != "points"
    return tuple(sorted(found, key=lambda each: (-(each.cost or 0) if counts else 0, -(each.bytes or 0))))


def _casts(view: View, stop: Stop) -> bool:
    if stop.cast is not None:
        return True
    if stop.op is None or stop.op.type not in CASTS or not stop.inputs[:1] or not stop.outputs[:1]:
        return False
    dtypes = [view.dtypes.get(value, "") for value in (stop.inputs[0], stop.outputs[0])]
    return FLOATS.issuperset(dtypes) and dtypes[0] != dtypes[1]


def _boundary(view: View, wiring: Wiring, stop: Stop) -> Boundary:
    value, crossing = stop.inputs[0], cross(view, wiring, stop)
    maker = wiring.makers.get(value)
    readers = tuple(reader.id for reader in wiring.readers.get(stop.outputs[0], ()))
    own = "" if stop.kind == "cast" else "; the model casts it itself"
    return Boundary(
        value,
        maker.id if maker else "",
        readers,
        stop.id,
        crossing.source,
        crossing.target,
        crossing.bytes,
        crossing.cost,
        f"{crossing.why}{own}",
    )


def cast_totals(boundaries: Sequence[Boundary], ours: frozenset[str]) -> tuple[int, int, float]:
    """Number, bytes and price of the casts of ours."""
    found = list(_ours(boundaries, ours))
    return len(found), sum(each.bytes or 0 for each in found), float(sum(each.cost or 0 for each in found))


def _ours(boundaries: Sequence[Boundary], ours: frozenset[str]) -> Iterator[Boundary]:
    return (each for each in boundaries if each.cast in ours)
