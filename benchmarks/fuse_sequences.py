"""What fusing makes of models of two sequences: `python -m benchmarks.fuse_sequences [NAME ...]`.

transformers' encoders with decoders and torch's own modules with tokens before sequences, two layers each with random
weights, as torch exports them when it names the free dimensions itself: every input has its own. Operators before and
after, attentions that are one operator of those that there are, and the largest relative L2 distance between the
float32 answers of both at sizes of both sequences. On a CPU in two minutes. Needs transformers.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ampgraph.onnx_model.prepare import prepare
from benchmarks.fuse_transformers import compared
from benchmarks.record import keep, table

WORDS, LAYERS, WIDTH, HEADS, POSITIONS = 100, 2, 64, 4, 128
SIZES = ((2, 72, 80), (3, 33, 21), (1, 9, 5), (5, 64, 64))  # sequences, tokens of the first and of the second
_ATTENTIONS = {"torch encoder": LAYERS, "torch decoder": 2 * LAYERS}  # else of an encoder and twice in a decoder
_BOTH = {
    f"{side}_{what}": size
    for side in ("encoder", "decoder")
    for what, size in (("layers", LAYERS), ("ffn_dim", 128), ("attention_heads", HEADS))
}
_SHARED = {
    **_BOTH,
    "d_model": WIDTH,
    "vocab_size": WORDS,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_WHISPER = {"max_source_positions": POSITIONS, "max_target_positions": POSITIONS, "num_mel_bins": 80}
_TEXTS = ("Bart", "Marian", "Pegasus")


class Answer(nn.Module):
    """A model of transformers with its inputs in order, without a cache, to the last layer's states."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *given: Tensor) -> Tensor:
        """`given`: int64 [batch, tokens], or sounds as float32 [batch, bands, frames]."""
        return self.model(**dict(zip(self.names, given, strict=True)), use_cache=False)[0]


class Masked(nn.Module):
    """torch's encoder of tokens before sequences, with a mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, values: Tensor, padding: Tensor) -> Tensor:
        """`values`: float32 [tokens, batch, width]; `padding`: bool [batch, tokens]."""
        return self.encoder(values, src_key_padding_mask=padding)


def texts(kind: str) -> Callable[[], nn.Module]:
    """A model of token ids, their mask and the ids of the second sequence."""

    def make() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**_SHARED)
        return Answer(getattr(transformers, f"{kind}Model")(config), "input_ids", "attention_mask", "decoder_input_ids")

    return make


def whisper() -> nn.Module:
    """A model of a sound and token ids."""
    import transformers

    config = transformers.WhisperConfig(**_SHARED, **_WHISPER)
    return Answer(transformers.WhisperModel(config), "input_features", "decoder_input_ids")


def decoder() -> nn.Module:
    """torch's decoder of tokens before sequences, with a memory."""
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, 2 * WIDTH), LAYERS)


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    **{kind.lower(): texts(kind) for kind in _TEXTS},
    "whisper": whisper,
    "torch encoder": Masked,
    "torch decoder": decoder,
}


def inputs(name: str, batch: int, first: int, second: int) -> tuple[Tensor, ...]:
    """What a model is called with."""
    generator = torch.Generator().manual_seed(batch)
    numbers = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    ids = lambda tokens: torch.randint(3, WORDS, (batch, tokens), generator=generator)  # noqa: E731
    kept = torch.arange(first) <= torch.arange(first, first - batch, -1).clamp(min=first // 2)[:, None]
    if name == "torch encoder":
        return numbers(first, batch, WIDTH), ~kept
    if name == "torch decoder":
        return numbers(first, batch, WIDTH), numbers(second, batch, WIDTH)
    if name == "whisper":
        return numbers(batch, 80, 2 * POSITIONS), ids(second)
    return ids(first), kept.long(), ids(second)


def exported(name: str, folder: Path) -> onnx.ModelProto:
    """As torch exports it with the first two dimensions free, named by itself."""
    torch.manual_seed(0)
    model, given = MODELS[name]().eval(), inputs(name, *SIZES[0])
    free = tuple(
        dict.fromkeys(range(1 if name == "whisper" and each.ndim == 3 else 2), torch.export.Dim.AUTO) for each in given
    )
    shapes: Any = (free,) if isinstance(model, Answer) else free
    with torch.no_grad():
        program: Any = torch.onnx.export(model, given, dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(folder / "model.onnx")
    return onnx.load(folder / "model.onnx")


def measure(name: str) -> dict[str, Any]:
    """One model's row."""
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(exported(name, Path(folder)))

    names = [value.name for value in source.graph.input]
    arrays = ([each.numpy() for each in inputs(name, *sizes)] for sizes in SIZES)
    row = compared(source, [dict(zip(names, each, strict=True)) for each in arrays])
    return {**row, "of": _ATTENTIONS.get(name, 3 * LAYERS)}


def main() -> None:
    """Measure, print and keep."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="parts of names; all models when none is given")
    arguments = options.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = {}
    for name in MODELS:
        if not arguments.names or any(part in name for part in arguments.names):
            rows[name] = measure(name)
            print(name, rows[name], flush=True)
    keys = ("operators", "fused", "attentions", "of", "distance")
    print(table(["model", *keys], [[name, *(row.get(key) for key in keys)] for name, row in rows.items()]))
    if not arguments.names:
        print(keep("fuse_sequences", {"layers": LAYERS, "sizes": SIZES, "models": rows}))


if __name__ == "__main__":
    main()
