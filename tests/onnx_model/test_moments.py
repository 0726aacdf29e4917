"""In a loop the first step that goes wrong comes first, wherever its value stands in the body."""

from pathlib import Path

from ampgraph.inspection.verdict import Moments
from ampgraph.onnx_model.inventory import take_inventory
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.moments import moments
from tests.inspection.comparisons import difference
from tests.onnx_model.test_side_by_side import planted


def test_values_sort_by_step_and_a_loop_comes_after_its_body() -> None:
    found = take_inventory(Loaded(planted("Loop in If"), Path()))
    entries = {entry.value.name: entry for entry in found.made}

    def off(name: str, *at: int, **facts: object) -> Moments:
        entry = entries[name]
        about = {"order": entry.order, "node": entry.node, "at": at, "overflowed": 1, **facts}
        value = difference(entry.value.id, **about)
        return moments(found.graph, [value])[entry.value.id]

    first, back = off("plant_first", 1, 0), off("plant_back", 0, 0)
    assert back.off < first.off
    assert off("plant_first", 0, 0).off < back.off
    assert off("plant_back", 7, 0).off < off("p", 0).off < off("y", 0).off
    finite = off("plant_first", 5, 0, overflowed=0)
    assert finite.off < back.off  # an error of all steps counts as of the first
    late = off("plant_first", 0, 0, flushed=1, flushed_at=(3, 0))
    assert off("plant_back", 0, 0, flushed=1, flushed_at=(2, 0)).flushed < late.flushed
