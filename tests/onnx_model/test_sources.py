"""Everything that `convert` takes for a model."""

import warnings
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch
from torch import nn

from ampgraph.errors import AmpgraphError, ModelError, OptionError
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


def test_an_ir_model_that_cannot_be_written() -> None:
    model = onnx_ir.from_proto(classifier())
    model.graph.inputs[0].name = None
    with pytest.raises(ModelError, match=r"source of type Model: cannot be written as ONNX \(.*mend the model"):
        as_loaded(model)


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

    said = r"Wayward at .*test_sources\.py:\d+ .*: fails by itself .*float32\[3\]\): RuntimeError: not today"
    with pytest.raises(ModelError, match=said) as caught:
        as_loaded(Wayward(), (torch.zeros(3),))
    assert "\n" not in str(caught.value)


class Branching(nn.Module):
    def forward(self, items: torch.Tensor) -> torch.Tensor:
        if items.sum() > 0:
            return items + 1
        return items - 1


class Unwritten(nn.Module):
    def forward(self, items: torch.Tensor) -> torch.Tensor:
        return torch.special.spherical_bessel_j0(items)


REFUSED = [
    (Branching(), torch.zeros(3), r"test_sources\.py:\d+ \(if items\.sum\(\) > 0:\).*torch\.where"),
    (Unwritten(), torch.zeros(3), "was traced, but torch cannot write it as ONNX .*spherical_bessel_j0"),
    (nn.Conv2d(3, 4, 1), torch.zeros(1, 5, 2, 2), r"fails by itself .*to have 3 channels, but got 5"),
    (Scorer(), EXAMPLE[:2], "Scorer.forward: does not take these arguments.*'scale'"),
    (nn.ReLU(), (np.zeros(3),), "example_args: holds a numpy array.*torch.from_numpy"),
    (nn.ReLU(), 3, "example_args: is of type int"),
]


@pytest.mark.parametrize(("module", "example", "message"), REFUSED)
def test_what_stands_in_the_way_of_a_module_is_one_line_in_words_of_its_code(module, example, message) -> None:
    modes = [each.training for each in module.modules()]
    with pytest.raises(AmpgraphError, match=message) as caught:
        as_loaded(module, example)
    assert not set("\n\x1b") & set(str(caught.value))
    assert caught.value.remedy
    assert modes == [each.training for each in module.modules()]


def test_a_torchscript_module_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit.script"):
        module = torch.jit.script(nn.ReLU())
    with pytest.raises(ModelError, match="is a TorchScript module"):
        as_loaded(module, torch.zeros(3))


def test_arguments_by_name_nested_ones_and_a_bare_tensor() -> None:
    class Gathers(nn.Module):
        def forward(self, scale, input, states, *, mask=None):
            return scale * input + states[0] * states[1]["k"] * mask

    x = torch.zeros(2, 3)
    graph = as_loaded(Gathers(), (torch.tensor(2.0), x, [x, {"k": x}]), {"mask": x}).model.graph
    assert [value.name for value in graph.input] == ["scale", "input", "states_0", "states_1_k", "mask"]
    assert all(value.type.tensor_type.shape.dim[0].dim_param for value in graph.input[1:])
    assert [value.name for value in as_loaded(nn.ReLU(), x).model.graph.input] == ["input"]


def test_every_submodule_keeps_its_mode() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).train()
    module[1].eval()
    as_loaded(module, torch.zeros(2, 3))
    assert [each.training for each in module.modules()] == [True, True, False]


def test_examples_of_what_is_no_module_are_refused() -> None:
    for given in ({"example_args": (1,)}, {"example_kwargs": {"x": 1}}):
        with pytest.raises(OptionError, match=f"{next(iter(given))}: is for torch modules.*ModelProto"):
            as_loaded(classifier(), **given)
