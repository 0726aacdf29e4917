"""Small torch modules that tests trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))


class Convolutional(nn.Module):
    """Convolution, batch normalization, in-place activation, dropout, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.act, self.body = nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(image)))
        x = x + self.body(x)
        return self.head(self.drop(x.mean((2, 3))))


class Language(nn.Module):
    """A small language model with tied weights; takes a dictionary, returns one."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(50, 16), nn.Embedding(32, 16)
        self.norm, self.query, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, batch: dict[str, Tensor], scale: float = 1.0) -> dict[str, Tensor]:
        ids = batch["ids"]
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        parts = self.query(self.norm(x)).view(ids.shape[0], ids.shape[1], 3, 2, 8).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape)) * scale
        return {"logits": self.head(x), "hidden": x}


def language_batch(size: int = 3) -> dict[str, Tensor]:
    return {"ids": torch.randint(0, 50, (size, 6))}
