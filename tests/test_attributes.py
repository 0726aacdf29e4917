"""Plain tensors of a module: tracing leaves their numbers alone, calls write them as the module does."""

import pytest
import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.errors import ModelError


class Counting(nn.Module):
    """Writes into tensors that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.scale, self.held = nn.Linear(6, 6), torch.ones(6), {"steps": [torch.zeros(6)]}
        self.shared = nn.Identity()
        self.shared.scale = self.scale

    def forward(self, x: Tensor) -> Tensor:
        self.scale.mul_(0.5)
        self.held["steps"][0].add_(1.0)
        return self.linear(x) * self.scale + self.held["steps"][0]


def test_tracing_leaves_plain_tensors_as_they_were() -> None:
    module, x = Counting(), torch.randn(4, 6)
    traced = ampgraph.trace(module, x)
    traced.export()
    assert module.scale.tolist() == [1.0] * 6
    assert module.held["steps"][0].tolist() == [0.0] * 6


def test_a_call_writes_them_as_the_module_does() -> None:
    module, original, x = Counting(), Counting(), torch.randn(4, 6)
    traced = ampgraph.trace(module, x)
    for _ in range(3):
        torch.testing.assert_close(traced(x), original(x), rtol=0.01, atol=0.01)
    assert torch.equal(module.scale, original.scale)
    assert torch.equal(module.held["steps"][0], original.held["steps"][0])


def test_they_are_left_alone_where_tracing_fails() -> None:
    class Deciding(Counting):
        def forward(self, x: Tensor) -> Tensor:
            found = super().forward(x)
            return found if found.sum() > 0 else x

    module = Deciding()
    with pytest.raises(ModelError):
        ampgraph.trace(module, torch.randn(4, 6))
    assert module.scale.tolist() == [1.0] * 6
