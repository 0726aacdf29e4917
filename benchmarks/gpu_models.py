"""The networks that speed is measured on, with random weights: `python -m benchmarks.gpu_models OUT [--only NAME]`.

Each is exported by torch as users export it, at a free batch. Needs torchvision and transformers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.detector import SIDE, Detector

Inputs = tuple[Tensor, ...]

_NOTHING, _TRAINED = 1e-5, 0.1


class FirstOutput(nn.Module):
    """The first result of a transformers model, as a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(*inputs)[0]


class Segmented(nn.Module):
    """The scores of a torchvision segmentation model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.model(image)["out"]
        return scores


class Block(nn.Module):
    """A residual block with time embedding, then a spatial transformer with cross-attention: Stable Diffusion 1.5."""

    def __init__(self, channels: int = 320, heads: int = 8, context: int = 768, time: int = 1280) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.GroupNorm(32, channels) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.time = nn.Linear(time, channels)
        self.inward, self.outward = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.layer_norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.queries = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(2))
        self.keys = nn.ModuleList(nn.Linear(width, channels, bias=False) for width in (channels, context))
        self.values = nn.ModuleList(nn.Linear(width, channels, bias=False) for width in (channels, context))
        self.results = nn.ModuleList(nn.Linear(channels, channels) for _ in range(2))
        self.widen, self.narrow = nn.Linear(channels, 8 * channels), nn.Linear(4 * channels, channels)
        self.heads = heads

    def attend(self, index: int, x: Tensor, context: Tensor) -> Tensor:
        """Multi-head attention `index`, of x over context."""
        projected = (self.queries[index](x), self.keys[index](context), self.values[index](context))
        split = [each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in projected]
        found = functional.scaled_dot_product_attention(*split)
        return self.results[index](found.transpose(1, 2).flatten(2))

    def forward(self, image: Tensor, time: Tensor, text: Tensor) -> Tensor:
        hidden = self.convs[0](functional.silu(self.norms[0](image)))
        hidden = hidden + self.time(functional.silu(time))[:, :, None, None]
        image = image + self.convs[1](functional.silu(self.norms[1](hidden)))
        tokens = self.inward(self.norms[2](image)).flatten(2).transpose(1, 2)
        normed = self.layer_norms[0](tokens)
        tokens = tokens + self.attend(0, normed, normed)
        tokens = tokens + self.attend(1, self.layer_norms[1](tokens), text)
        value, gate = self.widen(self.layer_norms[2](tokens)).chunk(2, dim=-1)
        tokens = tokens + self.narrow(value * functional.gelu(gate))
        return image + self.outward(tokens.transpose(1, 2).unflatten(2, image.shape[2:]))


def _ids(vocabulary: int, batch: int, length: int) -> Tensor:
    return torch.randint(0, vocabulary, (batch, length))


def _images(batch: int, side: int = 224) -> Inputs:
    return (torch.randn(batch, 3, side, side),)


def _bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    return FirstOutput(BertModel(BertConfig()))


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 12, "num_attention_heads": 16}
    return FirstOutput(LlamaModel(LlamaConfig(vocab_size=32000, use_cache=False, **sizes)))


class Unet(nn.Module):
    """The segmentation network as it is mostly built: two convolutions a level, transposed ones between levels."""

    def __init__(self, width: int = 64, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        sizes = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(_twice(before, after) for before, after in pairwise((3, *sizes)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * size, size, 2, 2) for size in sizes[-2::-1])
        self.merge = nn.ModuleList(_twice(2 * size, size) for size in sizes[-2::-1])
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for index, down in enumerate(self.down):
            x = down(functional.max_pool2d(x, 2) if index else x)
            levels.append(x)
        for up, merge, beside in zip(self.up, self.merge, levels[-2::-1], strict=True):
            x = merge(torch.cat((beside, up(x)), 1))
        scores: Tensor = self.head(x)
        return scores


def _twice(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in (before, after):
        layers += [nn.Conv2d(size, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _whisper() -> nn.Module:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    sizes = {"d_model": 768, "encoder_layers": 12, "encoder_attention_heads": 12, "encoder_ffn_dim": 3072}
    return FirstOutput(WhisperEncoder(WhisperConfig(**sizes)))


def _vision(name: str, **how: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision import models

        return getattr(models, name)(**how)  # type: ignore[no-any-return]

    return build


def _segmentation(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from torchvision.models import segmentation

        return Segmented(getattr(segmentation, name)(weights=None, weights_backbone=None))

    return build


def _transformers(model: str, configuration: str, **sizes: Any) -> Callable[[], nn.Module]:  # noqa: ANN401
    def build() -> nn.Module:
        import transformers

        return FirstOutput(getattr(transformers, model)(getattr(transformers, configuration)(**sizes)))

    return build


def _bert_inputs(batch: int) -> Inputs:
    return _ids(30000, batch, 384), torch.ones(batch, 384, dtype=torch.int64)


def _block_inputs(batch: int) -> Inputs:
    return torch.randn(batch, 320, 64, 64), torch.randn(batch, 1280), torch.randn(batch, 77, 768)


Row = tuple[Callable[[], nn.Module], Callable[[int], Inputs], int]  # model, inputs by batch, the large batch
ROWS: Mapping[str, Row] = {
    "bert_base": (_bert, _bert_inputs, 8),
    "vit_b_16": (_vision("vit_b_16"), _images, 32),
    "convnext_tiny": (_vision("convnext_tiny"), _images, 32),
    "resnet50": (_vision("resnet50"), _images, 32),
    "swin_t": (_vision("swin_t"), _images, 32),
    "efficientnet_b0": (_vision("efficientnet_b0"), _images, 32),
    "llama_12": (_llama, lambda batch: (_ids(32000, batch, 512),), 4),
    "sd_unet_block": (Block, _block_inputs, 2),
    "whisper_small": (_whisper, lambda batch: (torch.randn(batch, 80, 3000),), 4),
}
# Measured where they are named in full: what else fusing and kernels of ours have to fit.
_OF_TORCHVISION: Mapping[str, dict[str, bool]] = {
    "mobilenet_v2": {},
    "mobilenet_v3_large": {},
    "densenet121": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
    "squeezenet1_1": {},
    "resnext50_32x4d": {},
    "regnet_y_400mf": {},
    "resnet18": {},
    "vgg16_bn": {},
    "mnasnet1_0": {},
    "shufflenet_v2_x1_0": {},
    "efficientnet_v2_s": {},
    "swin_v2_t": {},
    "maxvit_t": {},
}
FURTHER: Mapping[str, Row] = {
    **{name: (_vision(name, **how), _images, 32) for name, how in _OF_TORCHVISION.items()},
    "inception_v3": (
        _vision("inception_v3", aux_logits=False, init_weights=False),
        lambda batch: _images(batch, 299),
        32,
    ),
    "u_net": (Unet, lambda batch: _images(batch, 256), 8),
    "detector": (Detector, lambda batch: _images(batch, SIDE), 16),
    "deeplabv3_mobilenet_v3_large": (
        _segmentation("deeplabv3_mobilenet_v3_large"),
        lambda batch: _images(batch, 512),
        4,
    ),
    "fcn_resnet50": (_segmentation("fcn_resnet50"), lambda batch: _images(batch, 512), 4),
    "segformer_b0": (
        _transformers("SegformerForSemanticSegmentation", "SegformerConfig", num_labels=150),
        lambda batch: _images(batch, 512),
        8,
    ),
    "clip_vit_b_32": (_transformers("CLIPVisionModelWithProjection", "CLIPVisionConfig"), _images, 32),
    "dinov2_small": (
        _transformers("Dinov2Model", "Dinov2Config", hidden_size=384, num_attention_heads=6),
        _images,
        32,
    ),
    "gpt2": (
        _transformers("GPT2LMHeadModel", "GPT2Config", use_cache=False),
        lambda batch: (_ids(50257, batch, 512),),
        4,
    ),
    "wav2vec2_base": (
        _transformers("Wav2Vec2Model", "Wav2Vec2Config"),
        lambda batch: (torch.randn(batch, 80000),),
        4,
    ),
}


def row(name: str) -> Row:
    """What makes a network, what its inputs are, and its large batch."""
    return (ROWS | FURTHER)[name]


def named(only: str) -> tuple[str, ...]:
    """Rows whose names have one of these parts in them, by commas, and further networks of these names."""
    parts = only.split(",")
    return (
        *(name for name in ROWS if any(part in name for part in parts)),
        *(name for name in FURTHER if name in parts),
    )


def build(name: str) -> nn.Module:
    """The network in evaluation mode; the same weights every time.

    What a new network has at nothing or next to it has the size that training gives it: torchvision's last layer of a
    ViT starts at 0, which makes every answer right, and ConvNeXt's layer scale at 1e-6, which float16 cannot hold.
    Batch normalization has the statistics of a batch of noise: without them EfficientNet's signal dies out.
    """
    torch.manual_seed(0)
    network = row(name)[0]().eval()
    for key, parameter in network.named_parameters():
        if parameter.abs().max() < _NOTHING and not key.endswith("bias"):
            nn.init.normal_(parameter, std=_TRAINED)
    norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.momentum = None  # of all batches seen: this one
            norm.train()
        with torch.no_grad():
            network(*row(name)[1](8))
    return network.eval()


def inputs(name: str, batch: int) -> Inputs:
    """Random inputs of a batch, the same every time."""
    torch.manual_seed(1)
    return row(name)[1](batch)


def export(name: str, path: Path, *, dynamo: bool = True) -> Path:
    """Write the network as ONNX with a free batch, weights inside."""
    arguments: Any = inputs(name, 2)
    names = [f"input{index}" for index in range(len(arguments))]
    network = build(name)
    if dynamo:
        shapes = tuple({0: torch.export.Dim("batch")} for _ in arguments)
        wrapped = (shapes,) if isinstance(network, FirstOutput) else shapes
        program = torch.onnx.export(
            network, arguments, dynamo=True, dynamic_shapes=wrapped, input_names=names, verbose=False
        )
        assert program is not None
        program.save(str(path))
    else:
        axes = {each: {0: "batch"} for each in names}
        torch.onnx.export(
            network, arguments, str(path), dynamo=False, dynamic_axes=axes, input_names=names, opset_version=17
        )
    return path


def main() -> None:
    """Export all of them, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="substrings of the networks to export, by commas")
    parser.add_argument("--torchscript", action="store_true", help="the older exporter")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name in named(chosen.only):
        suffix = ".script" if chosen.torchscript else ""
        print(export(name, chosen.folder / f"{name}{suffix}.onnx", dynamo=not chosen.torchscript), flush=True)


if __name__ == "__main__":
    main()
