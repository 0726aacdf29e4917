"""Opening: a loaded model as a session with kernels of our own opens it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto

from ampgraph.errors import ModelError
from ampgraph.native.build import library
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.marks import UNCHANGED_KEY, recall, remembered
from ampgraph.onnx_model.native.layer_norm import NORMS
from ampgraph.onnx_model.native.rewrite import Rewritten, has_known_sizes, rewrite
from ampgraph.onnx_model.run import CUDA, Provider

REMEDY = "open it without kernels of our own"
Find = Callable[[ModelProto, Mapping[str, Shape]], Rewritten | None]
MISSING = "kernels of our own are not here"
UNUSED = "planned for kernels of our own (--native), which are not in use: give `shapes`, run as a CUDA graph"
OUR_ERRORS = "ampgraph: "  # what the library's complaints begin with
_ANCHORS = ("Attention", "BiasAdd", "BiasGelu", "BiasSplitGelu", "Conv", "GroupNorm", "RotaryEmbedding", *NORMS)


@dataclass(frozen=True)
class WithKernels:
    """A model to open, the library that its operators are in, and what they are in a few words."""

    loaded: Loaded
    library: Path
    words: str


def by_rule(model: ModelProto, shapes: Mapping[str, Shape], cuda_graph: bool) -> Rewritten | None:
    """The model with those of our kernels that gain without being measured; None where that is nothing.

    Those that search for the fastest way of each size only in CUDA graphs, which are recorded once and replayed, and
    where each input has one shape. Where sizes are not known, ours may be the slower for few rows, and in a plain run
    an operator of ours takes the host longer than one of onnxruntime's: on one H200 MiniLM at batch 16 takes 0.865 ms
    with six products of ours and 0.811 without, 1.18 with 13 normalizations and 1.03 without. There ours have to save
    launches. Convolutions only where images are seldom turned between ours, which have channels last, and others. On
    H200s as CUDA graphs, without ours and with them: ResNet-50 at batch 32 1.73 and 1.03 ms, EfficientNet-B0 1.98 and
    0.905, DenseNet-121 with 22 changes of layout for 120 of ours 4.44 and 2.33; beside one that is not ours, U-Net at
    batch 8 3.65 and 1.73, PP-OCRv4 det at 1 0.860 and 0.653; cls at 16 0.532 and 0.744 when it had 63 changes for 33.
    """
    sure = cuda_graph and has_known_sizes(model, shapes)
    return rewrite(model, shapes, convolutions="most" if sure else "none", products=sure, norms=sure)


def with_kernels(
    loaded: Loaded, shapes: Mapping[str, Sequence[int]], place: str, provider: Provider, find: Find = rewrite
) -> WithKernels:
    """The model, rewritten. Raises ModelError where there is no library, or nothing in the model for it."""
    if provider != CUDA:
        raise ModelError(place, f"kernels of our own are for {CUDA}, {provider} is in use", REMEDY)
    found = library()
    if found.path is None:
        raise ModelError(place, f"{MISSING}: {found.lacks}", REMEDY)
    rewritten = find(loaded.model, {name: tuple(shape) for name, shape in shapes.items()})
    if rewritten is None:
        raise ModelError(place, "has nothing that a kernel of our own computes", REMEDY)
    words = ", ".join(f"{count} {kind}" for kind, count in sorted(rewritten.counts.items()))
    return WithKernels(Loaded(rewritten.model, loaded.folder), found.path, words)


def choices_of_kernels(
    model: ModelProto, shapes: Mapping[str, Sequence[int]], cuda_graph: bool = True
) -> tuple[bool, ...]:
    """What `native` of a session can be that is not what "auto" makes of it, where the library is there."""
    if not may_gain(model) or library().path is None:
        return ()
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    most, quick = rewrite(model, sizes), by_rule(model, sizes, cuda_graph)
    if quick is None:
        return (True,) if most is not None else ()
    return (False,) if most is None or most.counts == quick.counts else (True, False)


def counts_on_kernels(model: ModelProto) -> bool:
    """Whether a file was planned for a session that has our kernels, and is not as its source."""
    past = recall(model)
    return past is not None and past.options.native and not remembered(model, UNCHANGED_KEY)


def may_gain(model: ModelProto) -> bool:
    """Whether there are float16 weights, and operators that kernels of our own are for, by name alone."""
    if not any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer):
        return False
    kinds = {node.op_type for node in model.graph.node}
    return not kinds.isdisjoint(_ANCHORS) or kinds >= {"Sigmoid", "Mul", "MatMul"}
