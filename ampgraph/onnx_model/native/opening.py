"""Opening: a loaded model as a session with kernels of our own opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto

from ampgraph.errors import ModelError
from ampgraph.native.build import library
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.native.layer_norm import NORMS
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.run import CUDA, Provider

REMEDY = "open it without kernels of our own"
_ANCHORS = ("Attention", "BiasAdd", "BiasGelu", "BiasSplitGelu", "Conv", "GroupNorm", "RotaryEmbedding", *NORMS)


@dataclass(frozen=True)
class WithKernels:
    """A model to open, the library that its operators are in, and what they are in a few words."""

    loaded: Loaded
    library: Path
    words: str


def with_kernels(loaded: Loaded, shapes: Mapping[str, Sequence[int]], place: str, provider: Provider) -> WithKernels:
    """The model, rewritten. Raises ModelError where there is no library, or nothing in the model for it."""
    if provider != CUDA:
        raise ModelError(place, f"kernels of our own are for {CUDA}, {provider} is in use", REMEDY)
    found = library()
    if found.path is None:
        raise ModelError(place, f"kernels of our own are not here: {found.lacks}", REMEDY)
    rewritten = rewrite(loaded.model, {name: tuple(shape) for name, shape in shapes.items()})
    if rewritten is None:
        raise ModelError(place, "has nothing that a kernel of our own computes", REMEDY)
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(rewritten.counts.items()))
    return WithKernels(Loaded(rewritten.model, loaded.folder), found.path, words)


def may_gain(model: ModelProto) -> bool:
    """Whether there are operators that kernels of our own are for, by name alone."""
    kinds = {node.op_type for node in model.graph.node}
    return not kinds.isdisjoint(_ANCHORS) or kinds >= {"Sigmoid", "Mul", "MatMul"}
