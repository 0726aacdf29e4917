"""What captured graphs say of themselves: modules, first elements, outputs."""

import torch
from torch import Tensor, nn

import ampgraph
from ampgraph.fx_module.capture import held_tensors
from ampgraph.fx_module.facets import first_elements, read_facets
from ampgraph.inspection.facets import Facets, Place


class Nested(nn.Module):
    """Two levels of modules, a buffer, two outputs of which one is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.register_buffer("offset", torch.arange(4.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.body(x) + self.offset, x


def facets() -> Facets:
    captured = ampgraph.trace(Nested(), torch.ones(2, 4)).captured
    return read_facets(captured.prepared.graph, captured.graph, held_tensors(captured.prepared, Nested()))


def test_ops_stand_in_the_modules_that_call_them() -> None:
    found = facets()
    assert found.places["linear"] == Place(("body", "0"), ("Sequential", "Linear"))
    assert found.places["add"] == Place(())


def test_outputs_and_first_elements() -> None:
    found = facets()
    assert found.outputs == (("output_0", "add"), ("output_1", "x"))
    assert (0.0, 1.0, 2.0, 3.0) in found.samples.values()


def test_first_elements_are_those_that_are_here_and_are_numbers() -> None:
    assert first_elements(torch.arange(100).reshape(4, 5, 5)) == (0, 1, 2, 3, 4)
    assert first_elements(torch.tensor([1.0, float("nan"), float("inf"), 2.0], dtype=torch.bfloat16)) == (1, 2)
    assert first_elements(torch.tensor(3.0)) == (3,)
    assert first_elements(torch.ones(2, dtype=torch.bool)) == (1, 1)
    for other in (torch.empty(0, 3), torch.empty(3, device="meta"), torch.ones(2, dtype=torch.complex64)):
        assert first_elements(other) == ()
