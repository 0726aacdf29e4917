"""Layers and losses of torch, each behind a product in low precision: they trace, answer as in float32, and train."""

import pytest
import torch
from graphs import Function, captured
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ampgraph.fx_module.capture import held_tensors
from ampgraph.judgement import Cause
from ampgraph.precision import Precision

torch.manual_seed(0)  # of inputs and weights below: the same in every process
F = nn.functional
IMAGE, SEQUENCE, ROWS = torch.randn(4, 3, 8, 8), torch.randn(4, 6, 8), torch.randn(4, 8)
LOWEST = torch.finfo(torch.float32).min


class After(nn.Module):
    """A function of what a linear layer makes of its input, and of the input."""

    def __init__(self, function, *layers: nn.Module) -> None:
        super().__init__()
        self.linear, self.layers, self.function = nn.Linear(8, 8), nn.ModuleList(layers), function

    def forward(self, x: Tensor, *others: Tensor):
        return self.function(self, self.linear(x), x, *others)


def _write_where(m, y: Tensor, x: Tensor) -> Tensor:
    y[torch.arange(2), torch.arange(2)] += 1.0
    return y * 2


def _complex(m, y: Tensor, x: Tensor) -> Tensor:
    turned = torch.view_as_complex(y.reshape(4, 4, 2)) * torch.polar(torch.ones(4), torch.arange(4.0))
    return torch.view_as_real(turned).flatten(1)


CASES = {
    "attention": (
        After(lambda m, y, x: m.layers[0](y, y, y)[0], nn.MultiheadAttention(8, 2, batch_first=True)),
        SEQUENCE,
    ),
    "lstm": (After(lambda m, y, x: m.layers[0](y)[0], nn.LSTM(8, 8, batch_first=True)), SEQUENCE),
    "gru cell": (After(lambda m, y, x: m.layers[0](y), nn.GRUCell(8, 8)), ROWS),
    "relu rnn": (After(lambda m, y, x: m.layers[0](y)[0], nn.RNN(8, 8, nonlinearity="relu")), SEQUENCE),
    "convolution 1d": (nn.Sequential(nn.Conv1d(6, 4, 3), nn.BatchNorm1d(4), nn.GELU()), SEQUENCE),
    "convolution 3d": (
        nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.AdaptiveAvgPool3d(1)),
        torch.randn(2, 3, 5, 5, 5),
    ),
    "transposed": (
        nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.InstanceNorm2d(4, affine=True), nn.LeakyReLU()),
        IMAGE,
    ),
    "no affine": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), IMAGE),
    "no statistics": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), IMAGE),
    "group norm, pools": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.MaxPool2d(2), nn.AvgPool2d(3)),
        IMAGE,
    ),
    "upsampling": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.Upsample(scale_factor=2, mode="bilinear")),
        IMAGE,
    ),
    "weight norm": (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Tanh()), ROWS),
    "spectral norm": (nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Tanh()), ROWS),
    "cross entropy": (After(lambda m, y, x: F.cross_entropy(y, torch.arange(4), label_smoothing=0.1)), ROWS),
    "binary cross entropy": (After(lambda m, y, x: F.binary_cross_entropy(y.sigmoid(), torch.rand(4, 8))), ROWS),
    "mean square": (After(lambda m, y, x: F.mse_loss(y, x) + F.smooth_l1_loss(y, x)), ROWS),
    "bilinear": (After(lambda m, y, x: m.layers[0](y, x), nn.Bilinear(8, 8, 5)), ROWS),
    "cosine": (After(lambda m, y, x: F.cosine_similarity(y, x)), ROWS),
    "distances": (After(lambda m, y, x: torch.cdist(y, x)), ROWS),
    "grid": (
        nn.Sequential(
            nn.Conv2d(3, 4, 3), Function(lambda m, y: F.grid_sample(y, torch.zeros(4, 5, 5, 2), align_corners=False))
        ),
        IMAGE,
    ),
    "spectrum": (After(lambda m, y, x: torch.fft.rfft(y).abs()), ROWS),
    "scatter": (After(lambda m, y, x: torch.zeros(4, 8).scatter_add(0, torch.zeros(4, 8, dtype=torch.long), y)), ROWS),
    "writing by index": (After(_write_where), ROWS),
    "largest": (After(lambda m, y, x: y.topk(3).values.sum(-1)), ROWS),
    "sorted sums": (After(lambda m, y, x: y.sort(-1)[0].cumsum(-1)), ROWS),
    "attention by hand": (After(lambda m, y, x: torch.einsum("bti,bsi->bts", y, x).softmax(-1) @ x), SEQUENCE),
    "constants": (After(lambda m, y, x: y * torch.tensor(2.5) + torch.tensor([1.0] * 8)), ROWS),
    "lowest number": (After(lambda m, y, x: torch.where(x > 0, y, LOWEST).softmax(-1)), ROWS),
    "lowest in a mask": (
        After(
            lambda m, y, x: F.scaled_dot_product_attention(
                y[:, None], y[:, None], y[:, None], torch.full((6, 6), LOWEST).triu(1)
            )
        ),
        SEQUENCE,
    ),
    "random numbers": (After(lambda m, y, x: y + 0 * torch.randn_like(x) + 0 * torch.rand(8)), ROWS),
    "standardized by hand": (After(lambda m, y, x: (y - y.mean(-1, True)) / (y.std(-1, keepdim=True) + 1e-5)), ROWS),
    "complex numbers": (After(_complex), ROWS),
    "sizes from numbers": (After(lambda m, y, x: y[x > 0].sum() + y.sum() * 0), ROWS),
    "many results": (After(lambda m, y, x: (y, None, 3, {"a": [x]})), ROWS),
}


@pytest.mark.parametrize("name", CASES)
def test_layers_and_losses(name: str) -> None:
    torch.manual_seed(0)
    module, x = CASES[name]
    found = captured(module.train(), x, precision=Precision.BFLOAT16)
    assert found.plan.low
    unknown = [id for id, choice in found.plan.choices.items() if choice.cause is Cause.UNKNOWN]
    assert not unknown
    states = held_tensors(found.prepared, module)
    code = torch.fx.GraphModule({}, found.written)
    answers = []
    for run in (lambda: code(*[states[state.name] for state in found.prepared.states], x), lambda: module(x)):
        torch.manual_seed(1)
        answers.append([each for each in pytree.tree_leaves(run()) if isinstance(each, Tensor)])
    for answer, expected in zip(*answers, strict=True):
        assert answer.dtype is expected.dtype
        assert float((answer - expected).detach().abs().max()) < 0.06 * float(expected.detach().abs().max()) + 1e-3
    module.zero_grad()
    # weighted: plain sums of probabilities and of normalized values are constants, whose gradients are only rounding
    sum((answer * torch.randn_like(answer)).sum() for answer in answers[0] if answer.requires_grad).backward()
    assert all(each.grad is None or each.grad.dtype is torch.float32 for each in module.parameters())
    assert any(each.grad is not None and each.grad.abs().max() > 0 for each in module.parameters())
