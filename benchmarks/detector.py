"""A detector as YOLOv8 is built (small, 80 classes): cross-stage blocks, a pyramid, boxes from distributions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE, STRIDES = 640, (8, 16, 32)
_WIDTHS, _DEPTHS = (32, 64, 128, 256, 512), (1, 2, 2, 1)
_CLASSES, _BINS = 80, 16


class Convolution(nn.Module):
    """A convolution with its batch normalization and SiLU."""

    def __init__(self, before: int, after: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        return functional.silu(self.norm(self.convolution(x)))


class Bottleneck(nn.Module):
    """Two convolutions, and around them the input where `shortcut`."""

    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(Convolution(width, width, 3), Convolution(width, width, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.convolutions(x)
        return x + found if self.shortcut else found


class CrossStage(nn.Module):
    """Half of the channels through bottlenecks one after the other; all that comes of them side by side."""

    def __init__(self, before: int, after: int, depth: int, shortcut: bool) -> None:
        super().__init__()
        half = after // 2
        self.first, self.last = Convolution(before, after), Convolution((2 + depth) * half, after)
        self.blocks = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        found: Tensor = self.last(torch.cat(parts, 1))
        return found


class PooledPyramid(nn.Module):
    """The largest of ever larger windows, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = Convolution(width, width // 2), Convolution(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        found: Tensor = self.last(torch.cat(parts, 1))
        return found


class Head(nn.Module):
    """Distributions of four distances and scores of classes at every place of a level."""

    def __init__(self, width: int, least: int) -> None:
        super().__init__()
        boxes, scores = max(16, least // 4, 4 * _BINS), max(least, _CLASSES)
        self.boxes = self._branch(width, boxes, 4 * _BINS)
        self.scores = self._branch(width, scores, _CLASSES)

    @staticmethod
    def _branch(width: int, inner: int, made: int) -> nn.Sequential:
        return nn.Sequential(Convolution(width, inner, 3), Convolution(inner, inner, 3), nn.Conv2d(inner, made, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.boxes(x), self.scores(x)), 1).flatten(2)


class Detector(nn.Module):
    """Images (N, 3, 640, 640) to boxes and scores (N, 4 + 80, 8400)."""

    def __init__(self) -> None:
        super().__init__()
        w = _WIDTHS
        self.stem = Convolution(3, w[0], 3, 2)
        self.down = nn.ModuleList(Convolution(before, after, 3, 2) for before, after in pairwise(w))
        self.stages = nn.ModuleList(CrossStage(width, width, n, True) for width, n in zip(w[1:], _DEPTHS, strict=True))
        self.pooled = PooledPyramid(w[4])
        self.upward = nn.ModuleList((CrossStage(w[4] + w[3], w[3], 1, False), CrossStage(w[3] + w[2], w[2], 1, False)))
        self.strided = nn.ModuleList(Convolution(width, width, 3, 2) for width in w[2:4])
        self.downward = nn.ModuleList(
            (CrossStage(w[2] + w[3], w[3], 1, False), CrossStage(w[3] + w[4], w[4], 1, False))
        )
        self.heads = nn.ModuleList(Head(width, w[2]) for width in w[2:])
        sides = [SIDE // stride for stride in STRIDES]
        grids = [torch.meshgrid(*[torch.arange(side) + 0.5] * 2, indexing="xy") for side in sides]
        self.register_buffer("places", torch.cat([torch.stack(grid).flatten(1) for grid in grids], 1))
        steps = [torch.full((side * side,), float(stride)) for side, stride in zip(sides, STRIDES, strict=True)]
        self.register_buffer("steps", torch.cat(steps))
        self.register_buffer("bins", torch.arange(_BINS, dtype=torch.float32).view(1, _BINS, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        x, levels = self.stem(image), []
        for down, stage in zip(self.down, self.stages, strict=True):
            x = stage(down(x))
            levels.append(x)
        small, middle, large = levels[1], levels[2], self.pooled(levels[3])
        middle = self.upward[0](torch.cat((_twice(large), middle), 1))
        small = self.upward[1](torch.cat((_twice(middle), small), 1))
        middle = self.downward[0](torch.cat((self.strided[0](small), middle), 1))
        large = self.downward[1](torch.cat((self.strided[1](middle), large), 1))
        levels = [small, middle, large]
        found = torch.cat([head(level) for head, level in zip(self.heads, levels, strict=True)], 2)
        return self._decoded(*found.split((4 * _BINS, _CLASSES), 1))

    def _decoded(self, boxes: Tensor, scores: Tensor) -> Tensor:
        chances = boxes.unflatten(1, (4, _BINS)).transpose(1, 2).softmax(1)
        distances = functional.conv2d(chances, self.bins).squeeze(1)
        before, after = distances.chunk(2, 1)
        first, last = self.places - before, self.places + after
        return torch.cat((torch.cat(((first + last) / 2, last - first), 1) * self.steps, scores.sigmoid()), 1)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0)
