"""What a scaler keeps lies in one piece, and no part knows of another."""

import dataclasses

import torch
from torch import Tensor

from ampgraph.fx_module.scaler_memory import ROWS, ScalerMemory
from ampgraph.fx_module.scaler_options import HISTORY


def memory(rows: int = 5) -> ScalerMemory:
    return ScalerMemory.of(torch.tensor(8.0), torch.tensor(3, dtype=torch.int32), rows)


def parts(found: ScalerMemory) -> dict[str, Tensor]:
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}


def test_it_begins_as_told_and_with_nothing_else() -> None:
    found = memory()
    assert (float(found.scale), int(found.tracker), float(found.one)) == (8.0, 3, 1.0)
    assert found.last.tolist() == [[8.0, 0.0]]
    assert not found.rows.any()
    assert not found.count.any()


def test_a_write_to_one_part_is_in_no_other_but_the_last_update() -> None:
    inside = {"scale": {"last"}, "bad": {"last"}, "last": {"scale", "bad"}}
    for name in parts(memory()):
        found = memory()
        before = {other: tensor.clone() for other, tensor in parts(found).items()}
        parts(found)[name].fill_(7)
        changed = {other for other, tensor in parts(found).items() if not torch.equal(tensor, before[other])}
        assert changed == {name} | inside.get(name, set())


def test_a_write_to_one_part_spoils_no_graph_that_saved_another() -> None:
    found = memory()
    loss = torch.ones((), requires_grad=True) * found.scale
    found.bad.zero_()
    found.rows.fill_(1)
    loss.backward()
    assert found.scale._version == memory().scale._version


def test_what_is_remembered_by_default_fits_into_the_least_that_the_allocator_gives() -> None:
    assert HISTORY <= ROWS
    assert memory(ROWS).rows.untyped_storage().nbytes() <= 512 < memory(ROWS + 1).rows.untyped_storage().nbytes()
