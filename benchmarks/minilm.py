"""all-MiniLM-L6-v2 as a module from token ids to a sentence embedding, and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

SENTENCES = (
    "The invoice of 14 March was paid twice; please refund the second transfer.",
    "Which trains run from Lyon to Geneva on Sunday evening?",
    "She tuned the piano before the rehearsal, although nobody had asked her to.",
    "Mixed precision keeps the answers and halves the memory traffic.",
    "No.",
    "In the nineteenth century, glass photographic plates were coated with a light-sensitive emulsion of silver salts, "
    "exposed for several seconds and developed in the dark, which is why so few people smile in the portraits.",
)


class SentenceEncoder(torch.nn.Module):
    """The encoder with the masked mean and normalization that sentence-transformers puts on top."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token states and the sentence's unit vector."""
        states = self.encoder(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return states, torch.nn.functional.normalize(mean, p=2.0, dim=1)


def load(folder: Path) -> SentenceEncoder:
    """The encoder with its trained weights."""
    from transformers import AutoModel

    return SentenceEncoder(AutoModel.from_pretrained(str(folder), attn_implementation="eager")).eval()


def tokens(folder: Path, sentences: tuple[str, ...] = SENTENCES) -> dict[str, np.ndarray]:
    """A padded batch of sentences, as the shipped tokenizer cuts them."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(list(sentences))
    return {
        "input_ids": np.array([line.ids for line in encoded]),
        "attention_mask": np.array([line.attention_mask for line in encoded]),
        "token_type_ids": np.array([line.type_ids for line in encoded]),
    }


def example(folder: Path) -> tuple[torch.Tensor, ...]:
    """A batch to trace with."""
    return tuple(torch.from_numpy(array) for array in tokens(folder).values())
