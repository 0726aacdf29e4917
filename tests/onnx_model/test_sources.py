"""Everything that `convert` takes for a model."""

import warnings
from pathlib import Path

import onnx_ir
import pytest
import torch
from torch import nn

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model.sources import as_loaded
from tests.small_models import classifier, saved


class Scorer(nn.Module):
    """Two tensors and a number, as a forward may take them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(8, 4)

    def forward(self, items: torch.Tensor, offsets: torch.Tensor, scale: float) -> torch.Tensor:
        return (self.weight(items) + offsets) * scale + 1e-8


EXAMPLE = (torch.zeros(3, 8), torch.zeros(3, 4), 2.0)


def test_paths_protos_and_ir_models(tmp_path: Path) -> None:
    model = classifier()
    path = saved(model, tmp_path / "model.onnx")
    assert as_loaded(path).model == as_loaded(str(path)).model == as_loaded(model).model
    assert as_loaded(path).path == path
    assert as_loaded(model).path is None
    from_ir = as_loaded(onnx_ir.from_proto(model)).model
    assert [node.name for node in from_ir.graph.node] == [node.name for node in model.graph.node]


def test_a_module_is_exported_with_names_dynamic_batch_and_all_its_numbers() -> None:
    module = Scorer().train()
    graph = as_loaded(module, EXAMPLE).model.graph
    assert module.training
    assert graph.name == "Scorer"
    assert [value.name for value in graph.input] == ["items", "offsets"]
    assert all(value.type.tensor_type.shape.dim[0].dim_param for value in graph.input)
    assert [node.op_type for node in graph.node].count("Add") == 2, "torch's optimizer deletes x + 1e-8"


def test_an_exported_program() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(nn.ReLU(), (torch.zeros(3),), dynamo=True, verbose=False)
    assert [node.op_type for node in as_loaded(program).model.graph.node] == ["Relu"]


def test_what_is_no_model() -> None:
    for source in (7, None, [classifier()], torch.zeros(3)):
        with pytest.raises(OptionError, match="is no model"):
            as_loaded(source)
    with pytest.raises(OptionError, match="give example_args"):
        as_loaded(Scorer())


def test_a_module_that_cannot_be_traced() -> None:
    class Wayward(nn.Module):
        def forward(self, items: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("not today")

    with pytest.raises(ModelError, match="Wayward: cannot be exported") as caught:
        as_loaded(Wayward(), (torch.zeros(3),))
    assert "\n" not in str(caught.value)
