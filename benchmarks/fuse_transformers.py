"""What fusing makes of transformers' models as torch exports them: `python -m benchmarks.fuse_transformers [NAME ...]`.

Two layers each with random weights, batch and sequence free, on a CPU in five minutes: operators before and after,
attentions that are one operator, and the largest relative L2 distance between the float32 answers of both at three
sizes. Needs transformers. `--export FOLDER` saves the models for `python -m benchmarks.fuse_gpu FOLDER`. `--older`:
by torch's older exporter, with attention as transformers itself writes it, as most files that are shared are made, for
`--opset` and of `--layers`; what is measured of others than the usual ones is printed and not kept.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.raising import at_opset
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider
from benchmarks.gpu_timing import relative
from benchmarks.record import keep, table

WORDS, LAYERS, WIDTH, HEADS = 100, 2, 256, 8
SIZES = ((4, 48), (3, 21), (1, 64))  # sequences, tokens; of images and sounds the first alone
_FUSED = ("Attention", "MultiHeadAttention")
_USUAL = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
_SHARED = {**_USUAL, "num_key_value_heads": 2}
_OF_HEADS = {**_SHARED, "head_dim": WIDTH // HEADS}
_OLD = {"vocab_size": WORDS, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
_NO_MARKS = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)
_RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
# Class and configuration of each, as far as it is not the usual one.
_TEXT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "albert": ("Albert", {**_USUAL, "embedding_size": 128}),
    "bert": ("Bert", _USUAL),
    "bloom": ("Bloom", {"vocab_size": WORDS, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS}),
    "clip text": ("CLIPText", _USUAL),
    "cohere": ("Cohere", {**_SHARED, **_NO_MARKS}),
    "deberta": ("Deberta", {**_USUAL, **_RELATIVE}),
    "deberta-v2": ("DebertaV2", {**_USUAL, **_RELATIVE, "position_buckets": 32, "norm_rel_ebd": "layer_norm"}),
    "distilbert": (
        "DistilBert",
        {"vocab_size": WORDS, "dim": WIDTH, "hidden_dim": 2 * WIDTH, "n_layers": LAYERS, "n_heads": HEADS},
    ),
    "electra": ("Electra", {**_USUAL, "embedding_size": 128}),
    "falcon": ("Falcon", {key: value for key, value in _USUAL.items() if key != "intermediate_size"}),
    "gemma": ("Gemma", _OF_HEADS),
    "gemma2": ("Gemma2", {**_OF_HEADS, "query_pre_attn_scalar": 32}),
    "gemma3": ("Gemma3Text", {**_OF_HEADS, "query_pre_attn_scalar": 32}),
    "glm": ("Glm", {**_OF_HEADS, "pad_token_id": 0, "eos_token_id": 0}),
    "gpt2": ("GPT2", _OLD),
    "gpt-j": ("GPTJ", {**_OLD, "rotary_dim": 16}),
    "gpt-neox": ("GPTNeoX", _USUAL),
    "llama": ("Llama", _SHARED),
    "mistral": ("Mistral", {**_SHARED, "sliding_window": None}),
    "modernbert": ("ModernBert", {**_USUAL, **_NO_MARKS}),
    "mpnet": ("MPNet", _USUAL),
    "olmo2": ("Olmo2", {**_SHARED, "pad_token_id": 0, "eos_token_id": 0}),
    "opt": (
        "OPT",
        {
            "vocab_size": WORDS,
            "hidden_size": WIDTH,
            "word_embed_proj_dim": WIDTH,
            "ffn_dim": 2 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
        },
    ),
    "phi": ("Phi", _USUAL),
    "phi3": ("Phi3", {**_SHARED, "pad_token_id": 0}),
    "qwen2": ("Qwen2", _SHARED),
    "qwen3": ("Qwen3", _OF_HEADS),
    "roberta": ("Roberta", _USUAL),
    "stablelm": ("StableLm", _SHARED),
    "t5 encoder": (
        "T5",
        {"vocab_size": WORDS, "d_model": WIDTH, "d_kv": 32, "d_ff": 512, "num_layers": LAYERS, "num_heads": HEADS},
    ),
}
# Models of images and of sounds, with the shape of one.
_SEEING = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
_IMAGE = {**_SEEING, "image_size": 64, "patch_size": 8}
_LISTENING = {
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_layers": 1,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 2 * WIDTH,
}
_SENSES: Mapping[str, tuple[str, Mapping[str, Any], tuple[int, ...]]] = {
    "beit": ("Beit", {**_IMAGE, "use_relative_position_bias": True}, (3, 64, 64)),
    "clip vision": ("CLIPVision", _IMAGE, (3, 64, 64)),
    "deit": ("DeiT", _IMAGE, (3, 64, 64)),
    "dinov2": ("Dinov2", _IMAGE, (3, 64, 64)),
    "dinov3": ("DINOv3ViT", _IMAGE, (3, 64, 64)),
    "siglip": ("SiglipVision", _IMAGE, (3, 64, 64)),
    "vit": ("ViT", _IMAGE, (3, 64, 64)),
    "wav2vec2": ("Wav2Vec2", _SEEING, (32000,)),
    "whisper encoder": ("Whisper", {**_LISTENING, "max_source_positions": 100}, (80, 200)),
}
# What is exported as another, then brought to an opset whose attention can say it.
_RAISED = {"gemma2 at opset 23": ("gemma2", 23)}
NAMES = sorted((*_TEXT, *_SENSES, *_RAISED))


@dataclass(frozen=True)
class Older:
    """How torch's older exporter is asked: for which opset, of how many layers."""

    opset: int = 17
    layers: int = LAYERS


class States(nn.Module):
    """Token ids and a mask, or an image or a sound, to the last layer's states, without a cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, first: Tensor, mask: Tensor | None = None) -> Tensor:
        """`first`, `mask`: int64 [batch, tokens]; without a mask float32 [batch, ...]."""
        return (self.model(first) if mask is None else self.model(input_ids=first, attention_mask=mask))[0]


def made(name: str, *, older: Older | None = None) -> nn.Module:
    """A model in evaluation mode, the same weights every time."""
    import transformers

    kind, words = (_TEXT.get(name) or _SENSES[name])[:2]
    if older is not None:
        words = {key: older.layers if "layer" in key else value for key, value in words.items()}
    config = getattr(transformers, f"{kind}Config")(**words)
    config.use_cache = False
    if older is not None:
        config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = getattr(transformers, "T5EncoderModel" if kind == "T5" else f"{kind}Model")(config)
    return States((model.encoder if kind == "Whisper" else model).eval())


def exported(name: str, folder: Path, *, older: Older | None = None) -> onnx.ModelProto:
    """As torch exports it, batch and tokens free."""
    if older is not None:
        return _exported_by_the_older(name, folder, older)
    batch = {0: torch.export.Dim("batch")}
    if name in _SENSES:
        given, free = (torch.zeros(2, *_SENSES[name][2]),), (batch,)
    else:
        ids = torch.randint(0, WORDS, (2, 16))
        given = (ids, torch.ones_like(ids))
        free = ({**batch, 1: torch.export.Dim("tokens", max=64)},) * 2
    with torch.no_grad():
        program: Any = torch.onnx.export(made(name), given, dynamo=True, dynamic_shapes=free, verbose=False)
    program.save(folder / "model.onnx")
    return onnx.load(folder / "model.onnx")


def _exported_by_the_older(name: str, folder: Path, older: Older) -> onnx.ModelProto:
    if name in _SENSES:
        given: tuple[Tensor, ...] = (torch.zeros(2, *_SENSES[name][2]),)
        free = {"first": {0: "batch"}}
    else:
        ids = torch.randint(0, WORDS, (2, 16))
        given = (ids, torch.ones_like(ids))
        free = {key: {0: "batch", 1: "tokens"} for key in ("first", "mask")}
    path = folder / "model.onnx"
    with torch.no_grad():
        names = {"input_names": list(free), "dynamic_axes": free}
        torch.onnx.export(made(name, older=older), given, path, dynamo=False, opset_version=older.opset, **names)
    return onnx.load(path)


def feeds(model: onnx.ModelProto, batch: int, tokens: int) -> dict[str, np.ndarray]:
    """Ids, and a mask that leaves some tokens out; numbers for what takes one input."""
    generator = np.random.default_rng(batch)
    inputs = [(value.name, value.type.tensor_type.shape.dim) for value in model.graph.input]
    if len(inputs) == 1:
        name, dims = inputs[0]
        shape = (batch, *(dim.dim_value for dim in dims[1:]))
        return {name: generator.standard_normal(shape).astype(np.float32)}
    ids = generator.integers(0, WORDS, (batch, tokens))
    mask = (np.arange(tokens) < generator.integers(tokens // 2, tokens + 1, (batch, 1))).astype(np.int64)
    return dict(zip((name for name, _ in inputs), (ids, mask), strict=True))


def measure(name: str, *, older: Older | None = None) -> dict[str, Any]:
    """One model's row."""
    kind, opset = _RAISED.get(name, (name, 0))
    with tempfile.TemporaryDirectory() as folder:
        model = exported(kind, Path(folder), older=older)
    source = prepare(at_opset(model, opset, name) if opset else model)
    return compared(source, [feeds(source, *sizes) for sizes in SIZES])


def compared(source: onnx.ModelProto, given: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """What fusing makes of a model at the sizes of the first inputs, its answers held against the source's for all."""
    found = fuse(source, {key: value.shape for key, value in given[0].items()})
    if found is None:
        return {"operators": len(source.graph.node), "fused": len(source.graph.node), "attentions": 0, "distance": 0.0}
    both = (source, for_any_provider(found.model))
    # as they are written: the runtime might make one of the two the other
    sessions = [open_session(each, provider=CPU, optimize="disabled") for each in both]
    answers = [[next(iter(run(session, feed).values())) for session in sessions] for feed in given]
    return {
        "operators": len(source.graph.node),
        "fused": len(found.model.graph.node),
        "attentions": sum(found.counts.get(kind, 0) for kind in _FUSED),
        "distance": max(relative(one, other) for one, other in answers),
        "counts": dict(found.counts),
    }


def attempt(name: str, *, older: Older | None = None) -> dict[str, Any]:
    """One model's row, or what went wrong."""
    try:
        return measure(name, older=older)
    except Exception as error:  # an exporter's, or a library's that is of another version
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def save(name: str, folder: Path, *, older: Older | None = None) -> str:
    """Export a model into a folder, raised where that is its kind. Returns its file, or what went wrong."""
    kind, opset = _RAISED.get(name, (name, 0))
    path = folder / f"{name.replace(' ', '_')}.onnx"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            model = exported(kind, Path(scratch), older=older)
        onnx.save(at_opset(model, opset, name) if opset else model, path)
    except Exception as error:  # as above
        return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return str(path)


def main() -> None:
    """Measure, print and keep; or export for other benchmarks."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="parts of names; all models when none is given")
    options.add_argument("--export", type=Path, metavar="FOLDER", help="only save the models, for benchmarks.fuse_gpu")
    options.add_argument("--older", action="store_true", help="by torch's older exporter")
    options.add_argument("--opset", type=int, default=Older.opset, help="with --older")
    options.add_argument("--layers", type=int, default=LAYERS, help="with --older")
    arguments = options.parse_args()
    older = Older(arguments.opset, arguments.layers) if arguments.older else None
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    chosen = [name for name in NAMES if not arguments.names or any(part in name for part in arguments.names)]
    if arguments.export is not None:
        arguments.export.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            print(name, save(name, arguments.export, older=older), flush=True)
        return
    rows = {}
    for name in chosen:
        rows[name] = attempt(name, older=older)
        print(name, rows[name], flush=True)
    names = ("operators", "fused", "attentions", "distance", "error")
    print(table(["model", *names], [[name, *(row.get(key) for key in names)] for name, row in rows.items()]))
    layers = LAYERS if older is None else older.layers
    whole = [name for name, row in rows.items() if row.get("attentions") == layers and name not in _RAISED]
    print(f"{len(whole)} of {len(rows.keys() - _RAISED.keys())} with every attention as one operator, as exported")
    if not arguments.names and older in (None, Older()):
        kept = "fuse_transformers" if older is None else "fuse_transformers_older"
        print(keep(kept, {"layers": LAYERS, "sizes": SIZES, "models": rows}))


if __name__ == "__main__":
    main()
