"""Opening: a loaded model as a session with kernels of our own opens it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto

from ampgraph.errors import ModelError
from ampgraph.native.build import library
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.native.layer_norm import NORMS
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.run import CUDA, Provider

REMEDY = "open it without kernels of our own"
MISSING = "kernels of our own are not here"
OUR_ERRORS = "ampgraph: "  # what the library's complaints begin with
_ANCHORS = ("Attention", "BiasAdd", "BiasGelu", "BiasSplitGelu", "Conv", "GroupNorm", "RotaryEmbedding", *NORMS)


@dataclass(frozen=True)
class WithKernels:
    """A model to open, the library that its operators are in, and what they are in a few words."""

    loaded: Loaded
    library: Path
    words: str


def with_kernels(
    loaded: Loaded, shapes: Mapping[str, Sequence[int]], place: str, provider: Provider, searched: bool = True
) -> WithKernels:
    """The model, rewritten. Raises ModelError where there is no library, or nothing in the model for it.

    `searched`: also with kernels whose first run of new sizes is a search (native/rewrite.py).
    """
    if provider != CUDA:
        raise ModelError(place, f"kernels of our own are for {CUDA}, {provider} is in use", REMEDY)
    found = library()
    if found.path is None:
        raise ModelError(place, f"{MISSING}: {found.lacks}", REMEDY)
    rewritten = rewrite(loaded.model, {name: tuple(shape) for name, shape in shapes.items()}, searched)
    if rewritten is None:
        raise ModelError(place, "has nothing that a kernel of our own computes", REMEDY)
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(rewritten.counts.items()))
    return WithKernels(Loaded(rewritten.model, loaded.folder), found.path, words)


def choices_of_kernels(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> tuple[bool, ...]:
    """What `native` of a session can be that is not what "auto" makes of it, where the library is there."""
    if not may_gain(model) or library().path is None:
        return ()
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    most, quick = (rewrite(model, sizes, searched) for searched in (True, False))
    if quick is None:
        return (True,) if most is not None else ()
    return (False,) if most is None or most.counts == quick.counts else (True, False)


def may_gain(model: ModelProto) -> bool:
    """Whether there are float16 weights, and operators that kernels of our own are for, by name alone."""
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return False
    kinds = {node.op_type for node in model.graph.node}
    return not kinds.isdisjoint(_ANCHORS) or kinds >= {"Sigmoid", "Mul", "MatMul"}
