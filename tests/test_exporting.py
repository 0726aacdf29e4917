"""A traced module as an ONNX file: the trained weights, the same decisions, checked by the same pass."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import ampgraph
from ampgraph.errors import ModelError


class Network(nn.Module):
    """A product kept in float32 by hand between two that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(torch.relu(self.first(x)))
        return self.last(torch.relu(self.middle(x))).log_softmax(-1)


def types(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_what_is_float32_here_is_float32_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    traced = ampgraph.trace(Network(), torch.randn(8, 16), keep="^middle")
    traced.train()
    optimizer = torch.optim.SGD(traced.parameters(), 0.5)
    for _ in range(3):
        traced(torch.randn(8, 16))[:, 0].mean().neg().backward()
        optimizer.step()
    file = tmp_path / "network.onnx"
    result = traced.to_onnx(file, target="onnx")
    assert traced.training
    assert result.path == file
    kinds = types(onnx.load(file))
    weights = {name.split(".")[0]: kind for name, kind in kinds.items() if name.endswith("weight")}
    low, high = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert weights == {"first": low, "middle": high, "last": low}
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = torch.randn(5, 16)
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, traced.eval()(x).detach().numpy(), rtol=0.01, atol=0.01)


def test_options_are_those_of_convert(tmp_path: Path) -> None:
    traced = ampgraph.trace(Network(), torch.randn(8, 16), precision="bfloat16")
    result = traced.to_onnx(target="onnx", dry_run=True)
    assert result.report.precision == "bfloat16"
    assert result.path is None


def test_what_onnx_cannot_say_is_one_line() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x @ x.transpose(-1, -2)).real

    traced = ampgraph.trace(Odd(), torch.randn(2, 4, 4))
    with pytest.raises(ModelError, match="torch cannot write it as ONNX") as caught:
        traced.to_onnx()
    assert "\n" not in str(caught.value)
