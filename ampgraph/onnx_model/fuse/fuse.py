"""Fuse: a model with operators replaced by those that onnxruntime's CUDA provider computes in one kernel.

Works on a skeleton without the weights; they come back, some side by side, when everything is found. What is found must
not depend on the sizes that free dimensions are modelled at: it is looked for at two, and counts where both agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.fuse.gelu import fuse_bias_gelu, fuse_gelu
from ampgraph.onnx_model.fuse.layout import fuse_layout
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Merged, Net, read, rewritten
from ampgraph.onnx_model.fuse.simplify import simplify
from ampgraph.onnx_model.fuse.skip_norm import fuse_skip_norm
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.types import LARGEST_CONSTANT_FOR_INFERENCE, fixed_size, infer, types_in

PASSES: tuple[Callable[[Net], Fusion], ...] = (fuse_layout, fuse_gelu, fuse_skip_norm, fuse_bias_gelu)
_KEPT = ("node", "input", "output", "value_info", "sparse_initializer", "metadata_props", "quantization_annotation")
# What a pattern cannot do without: an operator on the result of one of these; None: on anything.
_ANCHORS: Mapping[str, tuple[str, ...] | None] = {
    "MatMul": ("Softmax", "Where"),
    "Erf": None,
    "Gelu": ("Add",),
    "LayerNormalization": ("Add",),
    "ReduceMean": ("Pow", "Mul"),
}
_HEAVY = frozenset(("MatMul", "Gemm", "FusedMatMul", "Conv", "Attention", "MultiHeadAttention"))
FUSED = (
    "Attention",
    "BiasGelu",
    "Gelu",
    "MultiHeadAttention",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)


@dataclass(frozen=True)
class Fused:
    """A fused model, how many operators of each kind came in, and the shapes of what they make, as modelled."""

    model: ModelProto
    counts: Mapping[str, int]
    shapes: Mapping[str, Shape]


def fuse(model: ModelProto, shapes: Mapping[str, Shape]) -> Fused | None:
    """The model, fused; None where there is nothing to fuse. `shapes`: of the inputs, as they are modelled."""
    if model.training_info or not _has_anchor(model):  # training graphs name values that fusing would take away
        return None
    bones = skeleton(model)
    simple = rewritten(bones, [simplify(bones)])
    found, merged, known = _fused(simple, shapes)
    before, after = _counts(bones), _counts(found)
    counts = {kind: after[kind] - before[kind] for kind in FUSED if after[kind] > before[kind]}
    if not counts or _heavy(after) > _heavy(before):
        return None
    others = other_sizes(model, shapes)
    if others != shapes and _fused(simple, others)[0] != found:
        return None
    made = (name for node in found.graph.node if node.domain == CONTRIB for name in node.output)
    return Fused(
        _with_weights(found, model, simple, merged), counts, {name: known[name] for name in made if name in known}
    )


def _fused(
    bones: ModelProto, shapes: Mapping[str, Shape]
) -> tuple[ModelProto, Mapping[str, Merged], Mapping[str, Shape]]:
    """The skeleton after every pass, in order, at these sizes; how new constants are made; shapes of all values."""
    inferred = infer(bones, shapes).graph
    known = {name: each.shape for name, each in types_in(inferred).items() if each.shape is not None}
    given = {tensor.name for tensor in bones.graph.initializer}
    computed = {t.name: numpy_helper.to_array(t) for t in inferred.initializer if t.name not in given}
    merged: dict[str, Merged] = {}
    for each in PASSES:
        fusion = each(read(bones, known, computed))
        known |= fusion.shapes
        merged |= fusion.merged
        bones = rewritten(bones, [fusion])
    return bones, merged, known


def _has_anchor(model: ModelProto) -> bool:
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in _ANCHORS and node.input:
            before = _ANCHORS[node.op_type]
            if before is None or makers.get(node.input[0]) in before:
                return True
    return False


def other_sizes(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shapes with one more in every free dimension: what follows from a size alone is then not found again."""
    found = dict(shapes)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in found and len(dims) == len(found[value.name]):
            sizes = zip(dims, found[value.name], strict=True)
            found[value.name] = tuple(size + (fixed_size(dim) is None) for dim, size in sizes)
    return found


def skeleton(model: ModelProto) -> ModelProto:
    """A copy whose large initializers have a shape and no data."""
    bones = ModelProto()
    bones.ir_version = model.ir_version
    bones.opset_import.extend(model.opset_import)
    bones.metadata_props.extend(model.metadata_props)
    bones.functions.extend(model.functions)  # those that could not be inlined
    for field in ("producer_name", "producer_version", "domain", "doc_string", "model_version"):
        setattr(bones, field, getattr(model, field))
    source, target = model.graph, bones.graph
    target.name, target.doc_string = source.name, source.doc_string
    for repeated in (
        "node",
        "input",
        "output",
        "value_info",
        "sparse_initializer",
        "metadata_props",
        "quantization_annotation",
    ):
        getattr(target, repeated).extend(getattr(source, repeated))
    for tensor in source.initializer:
        small = np.prod(tensor.dims) <= LARGEST_CONSTANT_FOR_INFERENCE
        if small or tensor.data_location == TensorProto.EXTERNAL:
            target.initializer.add().CopyFrom(tensor)
        else:
            target.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return bones


def _with_weights(bones: ModelProto, model: ModelProto, simple: ModelProto, merged: Mapping[str, Merged]) -> ModelProto:
    """The skeleton with the model's weights, side by side where they were merged.

    `simple`: where constants are that the model computes.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    known = _constants(simple) | _constants(model)
    full = ModelProto()
    full.CopyFrom(bones)
    del full.graph.initializer[:]
    for tensor in bones.graph.initializer:
        if tensor.name in merged:
            full.graph.initializer.append(_joined(tensor, merged[tensor.name], known))
        else:
            full.graph.initializer.add().CopyFrom(weights[tensor.name] if _is_stripped(tensor) else tensor)
    return full


def _is_stripped(tensor: TensorProto) -> bool:
    """Whether a tensor left its data behind in `skeleton`."""
    large = np.prod(tensor.dims) > LARGEST_CONSTANT_FOR_INFERENCE
    return bool(large) and not tensor.raw_data and tensor.data_location != TensorProto.EXTERNAL


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Constant tensors by name, Constant nodes and shared initializers included."""
    known = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if (constant := constant_tensor(node)) is not None:
            known[node.output[0]] = constant
        elif node.op_type == "Identity" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def _joined(tensor: TensorProto, recipe: Merged, known: Mapping[str, TensorProto]) -> TensorProto:
    shape = list(tensor.dims)
    shape[recipe.axis] = recipe.width
    parts = [numpy_helper.to_array(known[name]) if name else np.zeros(shape, np.float32) for name in recipe.names]
    return numpy_helper.from_array(np.concatenate(parts, recipe.axis), tensor.name)


def _counts(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _heavy(counts: Counter[str]) -> int:
    """Operators that multiply matrices; an attention stands for two products and up to three projections."""
    return sum(counts[kind] for kind in _HEAVY)


def summary(counts: Mapping[str, int]) -> str:
    """What was fused, in a few words."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
