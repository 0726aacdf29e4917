"""The networks that training is timed on; each returns its own loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]
VOCABULARY = 50304  # GPT-2's 50257, padded to a multiple of 64 as everybody does


class WithLoss(nn.Module):
    """A network and the cross-entropy of its scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scores = self.network(x)
        return functional.cross_entropy(scores.flatten(0, -2), y.flatten())


class Block(nn.Module):
    """A pre-norm transformer block: causal attention, then a network four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.packed, self.merged = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        packed = self.packed(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind()
        found = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.merged(found.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norms[1](x)), approximate="tanh"))


class Gpt(nn.Module):
    """GPT-2 as published, without dropout; the defaults are its 124 million parameters (Radford et al., 2019)."""

    def __init__(
        self, width: int = 768, depth: int = 12, heads: int = 12, length: int = 1024, vocabulary: int = VOCABULARY
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        scores: Tensor = self.head(self.norm(x))
        return scores


def perceptron() -> nn.Module:
    """The network of the classic mixed-precision tutorial: 784-256-10."""
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))


def _resnet() -> nn.Module:
    from torchvision import models

    return models.resnet50()  # type: ignore[no-any-return]


def _tokens() -> Batch:
    ids = torch.randint(0, 50257, (8, 513))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


@dataclass(frozen=True)
class Task:
    """A network, its batch and its optimizer. `last`: its images have channels last."""

    network: Callable[[], nn.Module]
    batch: Callable[[], Batch]
    optimizer: Callable[[Any], torch.optim.Optimizer]
    last: bool = False

    def build(self, device: torch.device) -> tuple[nn.Module, Batch]:
        """The same weights and batch every time."""
        torch.manual_seed(0)
        module: Any = WithLoss(self.network()).to(device)
        x, y = (each.to(device) for each in self.batch())
        if self.last:
            module, x = module.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return module, (x, y)


def _images() -> Batch:
    return torch.randn(64, 3, 224, 224), torch.randint(0, 1000, (64,))


def _digits() -> Batch:
    return torch.randn(64, 784), torch.randint(0, 10, (64,))


def _sgd(parameters: Any) -> torch.optim.Optimizer:  # noqa: ANN401
    return torch.optim.SGD(parameters, 0.05, momentum=0.9, weight_decay=1e-4, fused=True)


TASKS: Mapping[str, Task] = {
    "mlp 784-256-10, 64": Task(perceptron, _digits, lambda p: torch.optim.Adam(p, 1e-3, fused=True)),
    "resnet50, 64": Task(_resnet, _images, _sgd),
    "resnet50 channels last, 64": Task(_resnet, _images, _sgd, last=True),
    "gpt 124M, 8x512": Task(Gpt, _tokens, lambda p: torch.optim.AdamW(p, 3e-4, fused=True)),
}
