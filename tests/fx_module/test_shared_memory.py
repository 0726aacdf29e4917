"""Low copies of weights that lie in one buffer lie in one, in the same order: what cuDNN asks of recurrent networks."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.fx_module.casting import cast_together
from ampgraph.fx_module.shared_memory import sharing

LOW = torch.bfloat16


def flattened(module: nn.Module) -> list[nn.Parameter]:
    """The parameters moved into one buffer, matrices before biases, as `flatten_parameters` does on a GPU."""
    found = sorted(module.parameters(), key=lambda each: -each.dim())
    buffer = torch.cat([each.detach().flatten() for each in found])
    pieces = buffer.split([each.numel() for each in found])
    for each, piece in zip(found, pieces, strict=True):
        each.data = piece.view(each.shape)
    return list(module.parameters())


def places(tensors: Sequence[Tensor]) -> list[tuple[int, int, tuple[int, ...]]]:
    return [(each.untyped_storage().data_ptr(), each.storage_offset(), each.stride()) for each in tensors]


def lstm(layers: int = 2) -> nn.LSTM:
    torch.manual_seed(0)
    return nn.LSTM(5, 6, layers, bidirectional=True)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_copies_lie_as_their_sources_do(layers: int) -> None:
    weights = flattened(lstm(layers))
    made = cast_together(weights, [LOW] * len(weights))
    assert len({each.untyped_storage().data_ptr() for each in made}) == 1
    assert [each[1:] for each in places(made)] == [each[1:] for each in places(weights)]
    assert made[0].untyped_storage().nbytes() * 2 == weights[0].untyped_storage().nbytes()
    for copy, weight in zip(made, weights, strict=True):
        assert torch.equal(copy, weight.to(LOW))
    seeds = [torch.full_like(each, place + 1.0) for place, each in enumerate(made)]
    torch.autograd.backward(made, seeds)
    for weight, seed in zip(weights, seeds, strict=True):
        assert weight.grad is not None
        assert torch.equal(weight.grad, seed.float())


def test_a_view_of_a_buffer_that_is_mostly_something_else_is_copied_alone() -> None:
    buffer = torch.ones(1000)
    given = [nn.Parameter(buffer[:10]), nn.Parameter(buffer[10:20]), nn.Parameter(torch.ones(3))]
    assert sharing([0, 1, 2], [(each, LOW) for each in given]) == []
    made = cast_together(given, [LOW] * 3)
    assert len({each.untyped_storage().data_ptr() for each in made}) == 3


def test_types_that_differ_share_nothing() -> None:
    weights = flattened(lstm(1))
    dtypes = [LOW, torch.float16] * (len(weights) // 2)
    made = cast_together(weights, dtypes)
    assert [each.dtype for each in made] == dtypes
    for copy, weight in zip(made, weights, strict=True):
        assert torch.equal(copy, weight.to(copy.dtype))


class Tagger(nn.Module):
    """A recurrent network with a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = lstm(), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.cells(x)[0])
        return found


def test_traced_and_held_copies_do_so_and_train_alike() -> None:
    module, x = Tagger(), torch.randn(7, 2, 5)
    weights = flattened(module.cells)
    traced = ampgraph.trace(module, x, precision="bfloat16")
    seen: list[Sequence[Tensor]] = []
    run = traced._copies.take

    def looked_at(*args, **kwargs):  # type: ignore[no-untyped-def]
        seen.append(run(*args, **kwargs))
        return seen[-1]

    traced._copies.take = looked_at  # type: ignore[method-assign]
    traced(x).sum().backward()
    expected = [each.grad for each in traced.parameters()]
    traced.zero_grad()
    traced.refresh_copies()
    with traced.held_copies():
        traced(x).sum().backward()
    assert all(map(torch.equal, expected, [each.grad for each in traced.parameters()]))  # type: ignore[arg-type]
    shapes = {tuple(each.shape): each for each in weights}
    for copies in seen:
        of_cells = [each for each in copies if tuple(each.shape) in shapes]
        assert len(of_cells) == len(weights)
        assert len({each.untyped_storage().data_ptr() for each in of_cells}) == 1
        assert sorted(each[1] for each in places(of_cells)) == sorted(each[1] for each in places(weights))
