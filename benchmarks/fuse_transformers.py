"""What fusing makes of transformers' models as torch exports them: `python -m benchmarks.fuse_transformers [NAME ...]`.

Two layers each with random weights, batch and sequence free, on a CPU in a minute or two: operators before and after,
attentions that are one operator, and the largest relative L2 distance between the float32 answers of both at three
sizes. Needs transformers.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider
from benchmarks.gpu_timing import relative
from benchmarks.record import keep, table

WORDS, LAYERS, WIDTH, HEADS = 100, 2, 256, 8
SIZES = ((4, 48), (3, 21), (1, 64))  # sequences, tokens
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
# Class and configuration of each, as far as it is not the usual one.
_TEXT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("Bert", _USUAL),
    "clip text": ("CLIPText", _USUAL),
    "distilbert": (
        "DistilBert",
        {"vocab_size": WORDS, "dim": WIDTH, "hidden_dim": 2 * WIDTH, "n_layers": LAYERS, "n_heads": HEADS},
    ),
    "electra": ("Electra", {**_USUAL, "embedding_size": 128}),
    "gemma2": ("Gemma2", {**_OF_HEADS, "query_pre_attn_scalar": 32}),
    "gemma3": ("Gemma3Text", {**_OF_HEADS, "query_pre_attn_scalar": 32}),
    "gpt2": ("GPT2", {"vocab_size": WORDS, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}),
    "gpt-neox": ("GPTNeoX", _USUAL),
    "llama": ("Llama", _SHARED),
    "mistral": ("Mistral", {**_SHARED, "sliding_window": None}),
    "modernbert": ("ModernBert", {**_USUAL, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)}),
    "mpnet": ("MPNet", _USUAL),
    "phi3": ("Phi3", {**_SHARED, "pad_token_id": 0}),
    "qwen2": ("Qwen2", _SHARED),
    "qwen3": ("Qwen3", _OF_HEADS),
    "roberta": ("Roberta", _USUAL),
    "t5 encoder": (
        "T5",
        {"vocab_size": WORDS, "d_model": WIDTH, "d_kv": 32, "d_ff": 512, "num_layers": LAYERS, "num_heads": HEADS},
    ),
}


class States(nn.Module):
    """Token ids and a mask to the last layer's states, without a cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """`ids`, `mask`: int64 [batch, tokens]."""
        return self.model(input_ids=ids, attention_mask=mask)[0]


def made(name: str) -> nn.Module:
    """A model in evaluation mode, the same weights every time."""
    import transformers

    kind, words = _TEXT[name]
    config = getattr(transformers, f"{kind}Config")(**words)
    config.use_cache = False
    torch.manual_seed(0)
    model = getattr(transformers, "T5EncoderModel" if kind == "T5" else f"{kind}Model")(config)
    return States(model.eval())


def exported(model: nn.Module, folder: Path) -> onnx.ModelProto:
    """As torch exports it, batch and tokens free."""
    ids = torch.randint(0, WORDS, (2, 16))
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=64)}
    with torch.no_grad():
        program: Any = torch.onnx.export(
            model, (ids, torch.ones_like(ids)), dynamo=True, dynamic_shapes=(free, free), verbose=False
        )
    program.save(folder / "model.onnx")
    return onnx.load(folder / "model.onnx")


def feeds(model: onnx.ModelProto, batch: int, tokens: int) -> dict[str, np.ndarray]:
    """Ids, and a mask that leaves some tokens out."""
    generator = np.random.default_rng(batch)
    ids = generator.integers(0, WORDS, (batch, tokens))
    mask = (np.arange(tokens) < generator.integers(tokens // 2, tokens + 1, (batch, 1))).astype(np.int64)
    return dict(zip((value.name for value in model.graph.input), (ids, mask), strict=True))


def measure(name: str) -> dict[str, Any]:
    """One model's row."""
    with tempfile.TemporaryDirectory() as folder:
        source = prepare(exported(made(name), Path(folder)))
    first = {key: value.shape for key, value in feeds(source, *SIZES[0]).items()}
    found = fuse(source, first)
    if found is None:
        return {"operators": len(source.graph.node), "fused": len(source.graph.node), "attentions": 0, "distance": 0.0}
    sessions = [open_session(each, provider=CPU) for each in (source, for_any_provider(found.model))]
    distances = []
    for batch, tokens in SIZES:
        given = feeds(source, batch, tokens)
        one, other = (next(iter(run(session, given).values())) for session in sessions)
        distances.append(relative(one, other))
    return {
        "operators": len(source.graph.node),
        "fused": len(found.model.graph.node),
        "attentions": sum(found.counts.get(kind, 0) for kind in _FUSED),
        "distance": max(distances),
        "counts": dict(found.counts),
    }


def attempt(name: str) -> dict[str, Any]:
    """One model's row, or what went wrong."""
    try:
        return measure(name)
    except Exception as error:  # an exporter's, or a library's that is of another version
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def main() -> None:
    """Measure, print and keep."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = {}
    for name in (name for name in _TEXT if not sys.argv[1:] or any(part in name for part in sys.argv[1:])):
        rows[name] = attempt(name)
        print(name, rows[name], flush=True)
    names = ("operators", "fused", "attentions", "distance", "error")
    print(table(["model", *names], [[name, *(row.get(key) for key in names)] for name, row in rows.items()]))
    whole = sum(row.get("attentions") == LAYERS for row in rows.values())
    print(f"{whole} of {len(rows)} with every attention as one operator")
    if not sys.argv[1:]:
        print(keep("fuse_transformers", {"layers": LAYERS, "sizes": SIZES, "models": rows}))


if __name__ == "__main__":
    main()
