"""Digits drawn here: a 5 x 7 pixel font, turned, scaled, shifted, dimmed and buried in noise.

No download is needed, and a network that does not learn cannot read them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIZE, CLASSES = 32, 10
FONT = (
    "01110 10001 10011 10101 11001 10001 01110",
    "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00110 01000 10000 11111",
    "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010",
    "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110",
    "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110",
    "01110 10001 10001 01111 00001 00010 01100",
)


def draw_digits(count: int, generator: torch.Generator, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Images of raw pixels of 0 to 255, float32 [count, 1, size, size], and labels, int64 [count]."""
    rows = [[[float(pixel) for pixel in row] for row in glyph.split()] for glyph in FONT]
    labels = torch.randint(CLASSES, (count,), generator=generator)
    glyphs = functional.pad(torch.tensor(rows)[labels][:, None], (2, 2, 1, 1))
    grid = functional.affine_grid(_poses(count, generator), [count, 1, size, size], align_corners=False)
    ink = functional.grid_sample(glyphs, grid, align_corners=False)
    strength = 60 + 120 * torch.rand(count, 1, 1, 1, generator=generator)
    paper = 60 * torch.rand(count, 1, 1, 1, generator=generator)
    noise = 25 * torch.randn(count, 1, size, size, generator=generator)
    return (paper + strength * ink + noise).clamp(0, 255), labels


def _poses(count: int, generator: torch.Generator) -> Tensor:
    """Random turns, sizes and shifts as affine maps."""
    angle, scale, right, down = (torch.rand(4, count, generator=generator) * 2 - 1).unbind()
    angle, scale = 0.35 * angle, 1 + 0.25 * scale
    turn = torch.stack((angle.cos(), -angle.sin(), 0.3 * right, angle.sin(), angle.cos(), 0.3 * down), -1)
    return turn.view(count, 2, 3) * scale.view(count, 1, 1)
