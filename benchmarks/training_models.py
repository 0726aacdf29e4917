"""Random-initialised models of torchvision, timm and transformers, small enough to train on a CPU, with their inputs.

What is not installed is left out. Dropout and stochastic depth are off: two runs are to be comparable step by step.
Models of torchvision and timm have the classes they are published with: the loss of few classes is soon near nothing,
and then any difference is large beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

LENGTH, WORDS, CLASSES = 16, 100, 10
_OFF = ("p", "drop_prob", "dropout", "attn_dropout", "dropout_prob", "attention_dropout", "drop_rate", "proj_drop")


Draw = Callable[[Generator], tuple[tuple[Any, ...], Mapping[str, Any]]]
Optimize = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """What small networks and transformers train with, at torch's own rate."""
    return torch.optim.AdamW(parameters, 1e-3)


def adamw_for(batch: int) -> Optimize:
    """What transformers of images, and what is modelled on them, train with: 1e-3 for 1,024 images, and in proportion
    for fewer, as the code of DeiT and Swin has it.
    """
    return lambda parameters: torch.optim.AdamW(parameters, 1e-3 * batch / 1024)


def momentum(batch: int) -> Optimize:
    """What convolutions with batch norm train with: 0.1 for 256 images, and in proportion for fewer."""
    return lambda parameters: torch.optim.SGD(parameters, 0.1 * batch / 256, momentum=0.9)


@dataclass(frozen=True)
class Case:
    """A way to make a model, a way to draw a batch for it (arguments and keywords of its call), and its optimizer."""

    make: Callable[[], nn.Module]
    draw: Draw
    optimize: Optimize = adamw


def without_noise(module: nn.Module) -> nn.Module:
    """The same module with every probability of dropping something at zero."""
    for each in module.modules():
        for name in _OFF:
            if isinstance(getattr(each, name, None), float):
                setattr(each, name, 0.0)
    return module


def cases(batch: int = 32, size: int = 96) -> Mapping[str, Case]:
    """Every model that can be made here, by library and name. `size`: of images, a multiple of 32."""
    return {**_plain(batch), **_torchvision(batch, size), **_timm(batch, size), **_transformers(batch)}


def images(batch: int, size: int) -> Draw:
    """Smooth fields of unit variance, as photographs are smooth: white noise is all alike to a network that averages
    over it, and the little in which it differs is what batch norm then enlarges.
    """

    def draw(generator: Generator) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        coarse = torch.randn(batch, 3, 4, 4, generator=generator)
        fine = nn.functional.interpolate(coarse, (size, size), mode="bicubic")
        return (fine / fine.std(),), {}

    return draw


def _numbers(*shape: int) -> Draw:
    return lambda generator: ((torch.randn(*shape, generator=generator),), {})


def _tokens(batch: int) -> Draw:
    return lambda generator: ((torch.randint(0, WORDS, (batch, LENGTH), generator=generator),), {})


def _masked(batch: int) -> Draw:
    """Tokens whose last three are masked."""
    mask = torch.ones(batch, LENGTH, dtype=torch.long)
    mask[:, -3:] = 0

    def draw(generator: Generator) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        ((tokens,), _) = _tokens(batch)(generator)
        return (), {"input_ids": tokens, "attention_mask": mask}

    return draw


class Recurrent(nn.Module):
    """Two LSTM layers and a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, 32, 2, batch_first=True)
        self.gru = nn.GRU(32, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.lstm(x)[0])[0][:, -1])


def _plain(batch: int) -> Mapping[str, Case]:
    def mlp() -> nn.Module:
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, CLASSES))

    def encoder() -> nn.Module:
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    return {
        "torch mlp": Case(mlp, _numbers(64, 784)),
        "torch lstm and gru": Case(Recurrent, _numbers(batch, LENGTH, 16)),
        "torch transformer encoder": Case(encoder, _numbers(batch, LENGTH, 32)),
    }


def _torchvision(batch: int, size: int) -> Mapping[str, Case]:
    try:
        models = _import_torchvision()
    except ImportError:
        return {}

    def vit() -> nn.Module:
        return models.VisionTransformer(32, 8, 4, 4, 128, 256)

    def segmentation() -> nn.Module:
        return models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None)

    sgd, adam, draw = momentum(batch), adamw_for(batch), images(batch, size)
    names = {
        "resnet18": sgd, "resnet50": sgd, "mobilenet_v3_small": sgd, "convnext_tiny": adam, "swin_t": adam,
        "efficientnet_b0": sgd, "regnet_y_400mf": sgd, "densenet121": sgd, "shufflenet_v2_x0_5": sgd,
    }  # fmt: skip
    found = {f"torchvision {name}": Case(getattr(models, name), draw, optimize) for name, optimize in names.items()}
    found["torchvision vit (4 layers)"] = Case(vit, images(batch, 32))
    found["torchvision lraspp (segmentation)"] = Case(segmentation, draw, sgd)
    return found


def _import_torchvision() -> Any:  # noqa: ANN401
    """torchvision's models; its compiled ops may be of another build of torch, and these models use none of them."""
    libraries = []
    while True:
        try:
            import torchvision

            return torchvision.models
        except RuntimeError as error:
            words = str(error).split()
            name = next((word.removeprefix("torchvision::") for word in words if word.startswith("torchvision::")), "")
            if not name:
                raise ImportError(str(error)) from error
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor x) -> Tensor")
            libraries.append(library)
            _KEPT.append(library)


_KEPT: list[Any] = []


def _timm(batch: int, size: int) -> Mapping[str, Case]:
    try:
        _import_torchvision()
        import timm
    except ImportError:
        return {}
    sgd, adam, draw = momentum(batch), adamw_for(batch), images(batch, size)
    names = {"resnet26d": sgd, "convnextv2_atto": adam, "nfnet_l0": sgd, "regnetx_002": sgd}
    found = {
        f"timm {name}": Case(lambda name=name: timm.create_model(name), draw, optimize)
        for name, optimize in names.items()
    }
    small = {"img_size": 32, "patch_size": 8, "depth": 4}
    found["timm vit_tiny (4 layers)"] = Case(
        lambda: timm.create_model("vit_tiny_patch16_224", **small), images(batch, 32)
    )
    found["timm mixer_s32"] = Case(lambda: timm.create_model("mixer_s32_224", img_size=64), images(batch, 64), adam)
    return found


def _transformers(batch: int) -> Mapping[str, Case]:
    try:
        import transformers as library
    except ImportError:
        return {}
    small = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = {**small, "intermediate_size": 128}
    llama = {**wide, "num_key_value_heads": 2, "use_cache": False}
    gpt2 = {"vocab_size": WORDS, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 4, "use_cache": False}
    gpt2 |= {"bos_token_id": 0, "eos_token_id": 0}
    t5 = {"vocab_size": WORDS, "d_model": 32, "num_layers": 2, "num_heads": 4, "d_kv": 16, "d_ff": 128}
    distil = {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}
    masked = _masked(batch)
    return {
        "transformers bert": Case(lambda: library.BertForMaskedLM(library.BertConfig(**wide)), masked),
        "transformers gpt2": Case(lambda: library.GPT2LMHeadModel(library.GPT2Config(**gpt2)), _tokens(batch)),
        "transformers llama": Case(lambda: library.LlamaForCausalLM(library.LlamaConfig(**llama)), masked),
        "transformers t5 encoder": Case(lambda: library.T5EncoderModel(library.T5Config(**t5)), _tokens(batch)),
        "transformers distilbert": Case(
            lambda: library.DistilBertForMaskedLM(library.DistilBertConfig(**distil)), masked
        ),
    }
