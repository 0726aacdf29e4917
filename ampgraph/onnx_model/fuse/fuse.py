"""Fuse: a model with operators replaced by those that onnxruntime's CUDA provider computes in one kernel.

Works on a skeleton without the weights; they come back, some side by side, when everything is found. What is found must
not depend on the sizes that free dimensions are modelled at: it is looked for at two, and counts where both agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.fuse.affine import fuse_affine_after, fuse_affine_before
from ampgraph.onnx_model.fuse.bias import fuse_bias
from ampgraph.onnx_model.fuse.bias_add import fuse_bias_add
from ampgraph.onnx_model.fuse.branches import with_branches
from ampgraph.onnx_model.fuse.carry import fuse_carry
from ampgraph.onnx_model.fuse.causal import causal_scores, has_masks
from ampgraph.onnx_model.fuse.einsum import fuse_einsum
from ampgraph.onnx_model.fuse.elsewhere import apart_sizes, elsewhere, fits, probes, stepped_sizes, varied_sizes
from ampgraph.onnx_model.fuse.fast_gelu import fuse_fast_gelu
from ampgraph.onnx_model.fuse.folded import with_folded
from ampgraph.onnx_model.fuse.gelu import fuse_bias_gelu, fuse_gelu
from ampgraph.onnx_model.fuse.grids import fuse_grids
from ampgraph.onnx_model.fuse.group_norm import fuse_group_norm
from ampgraph.onnx_model.fuse.hard_swish import fuse_hard_swish
from ampgraph.onnx_model.fuse.layout import WINDOWS, fuse_layout
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Fusion, Net, Source, read, rewritten
from ampgraph.onnx_model.fuse.ones import fuse_ones
from ampgraph.onnx_model.fuse.patches import fuse_patches
from ampgraph.onnx_model.fuse.pool import fuse_pool
from ampgraph.onnx_model.fuse.recipes import Recipe
from ampgraph.onnx_model.fuse.rotary_groups import fuse_rotary_groups
from ampgraph.onnx_model.fuse.row_norm import fuse_row_norm
from ampgraph.onnx_model.fuse.scale import fuse_scale
from ampgraph.onnx_model.fuse.simplify import simplify
from ampgraph.onnx_model.fuse.skip_norm import fuse_skip_norm
from ampgraph.onnx_model.fuse.split_gelu import fuse_split_gelu
from ampgraph.onnx_model.fuse.thirds import fuse_thirds
from ampgraph.onnx_model.fuse.turned import fuse_turned
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.plain_casts import with_plain_casts
from ampgraph.onnx_model.shape_constants import Reading
from ampgraph.onnx_model.skeleton import is_stripped, large_constant, large_data, skeleton
from ampgraph.onnx_model.types import sizes_at, weightless, without_constant_nodes

PASSES: tuple[Callable[[Net], Fusion], ...] = (
    fuse_ones,
    fuse_affine_after,
    fuse_affine_before,
    fuse_turned,
    fuse_einsum,
    fuse_group_norm,
    fuse_pool,
    fuse_patches,
    fuse_scale,
    fuse_thirds,
    fuse_layout,
    fuse_carry,
    fuse_rotary_groups,
    fuse_grids,
    fuse_gelu,
    fuse_fast_gelu,
    fuse_hard_swish,
    fuse_split_gelu,
    fuse_skip_norm,
    fuse_row_norm,
    fuse_bias_gelu,
    fuse_bias_add,
    fuse_bias,
)
# What a pattern cannot do without: an operator on the result of one of these; None: on anything.
_ANCHORS: Mapping[str, tuple[str, ...] | None] = {
    "MatMul": ("Softmax", "Where", "Identity"),
    "Erf": None,
    "Clip": ("Add",),
    "Einsum": ("Softmax",),
    "Conv": None,
    "ConvTranspose": None,
    "Gelu": ("Add", "Split", "Slice"),
    "InstanceNormalization": ("Reshape",),
    "GroupNormalization": None,
    "LayerNormalization": None,
    "ReduceMean": ("Pow", "Mul"),
    "Reshape": ("Softmax", "Where"),
    "Tanh": ("Mul",),
}
_HEAVY = frozenset(("MatMul", "Einsum", "Gemm", "FusedMatMul", "Conv", "Attention", "MultiHeadAttention"))
FUSED = (
    "Attention",
    "BiasAdd",
    "BiasGelu",
    "BiasSplitGelu",
    "FastGelu",
    "Gelu",
    "GroupNorm",
    "MultiHeadAttention",
    "RotaryEmbedding",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)


@dataclass(frozen=True)
class Fused:
    """A fused model, how many operators of each kind came in, and the shapes of what they make, as modelled.

    `own`: names of the constants that are the source's, with its data.
    """

    model: ModelProto
    counts: Mapping[str, int]
    shapes: Mapping[str, Shape]
    own: frozenset[str] = frozenset()


def fuse(model: ModelProto, shapes: Mapping[str, Shape]) -> Fused | None:
    """The model, fused; None where there is nothing to fuse. `shapes`: of the inputs, as they are modelled."""
    if model.training_info or not _has_anchor(model):  # training graphs name values that fusing would take away
        return None
    bones = skeleton(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    simple = with_folded(with_plain_casts(_simplified(bones)), weights)
    looks = _agreed(model, simple, shapes)
    found, known = looks[0], looks[-1].shapes if len(looks) > 2 else looks[0].shapes
    before, after = _counts(bones), _counts(found.model)
    counts = {kind: after[kind] - before[kind] for kind in FUSED if after[kind] > before[kind]} | dict(found.kinds)
    apart = found.kinds.get(WINDOWS, 0)  # one product for queries, keys and values has become three, attention one
    if not counts or _heavy(after) > _heavy(before) + apart:
        return None
    made = [name for node in found.model.graph.node if node.domain == CONTRIB for name in node.output if name]
    own = _names_of_constants(model) & _names_of_constants(found.model) - found.merged.keys()
    return Fused(
        _with_weights(found.model, model, simple, found.merged),
        counts,
        {name: known[name] for name in made if name in known},
        frozenset(own),
    )


def _simplified(model: ModelProto) -> ModelProto:
    """The model without what is known of it, and again with the branches that are known to be taken."""
    simple = rewritten(model, [simplify(model)])
    taken = with_branches(simple)
    return simple if taken is simple else _simplified(taken)


@dataclass(frozen=True)
class _Sizes:
    """What inference says at some sizes of the inputs: the shapes of all values, and small results."""

    shapes: Mapping[str, Shape]
    computed: Mapping[str, Array]
    fit: bool  # a model may run at these sizes, for all that is known

    @property
    def known(self) -> int:
        """How much it tells."""
        return len(self.shapes) if self.fit else 0


def _agreed(model: ModelProto, simple: ModelProto, shapes: Mapping[str, Shape]) -> list[_Look]:
    """Looks at two sizes that agree, and one at the modelled sizes where those are others.

    Other sizes are larger, or smaller where a model has no more positions: there a slice of them leaves out something.
    Where neither agree in all, what they disagree in is left out.
    """
    given = {value.name for value in simple.graph.input}  # nothing follows from defaults that callers may replace
    light, varied = without_constant_nodes(weightless(simple, without=given)), varied_sizes(model, shapes)
    reading = Reading.of(light.graph)

    def at(sizes: Mapping[str, Shape]) -> _Sizes:
        found, computed = sizes_at(light, sizes, reading)
        return _Sizes(found, computed, fits(light, found))

    far = tuple(each for sizes in probes(model, varied) if (each := at(sizes)).fit)
    larger: tuple[tuple[_Sizes, ...], Source] | None = None
    for sign in (1, -1):
        first = varied if sign > 0 else stepped_sizes(model, varied, sign)
        one = at(first)
        other = elsewhere(model, first, at, lambda found: found.known, one.known, sign)
        source = _source(model, simple, one, partial(at, apart_sizes(model, first, sign)), far)
        sizes = (one, other) if first == shapes else (one, other, at(shapes))
        looks = _looks(simple, sizes, source)
        if looks[0].model is looks[1].model or looks[0].model == looks[1].model:
            return looks
        larger = larger or (sizes, source)
    assert larger is not None  # the loop looked there first
    return _looks(simple, *larger, in_common=True)


@dataclass(frozen=True)
class _Look:
    """A skeleton after every pass; how its new constants are made; shapes of all values."""

    model: ModelProto
    merged: Mapping[str, Recipe]
    shapes: Mapping[str, Shape]
    kinds: Mapping[str, int] = field(default_factory=dict)


def _source(
    model: ModelProto, bones: ModelProto, one: _Sizes, elsewhere_: Callable[[], _Sizes], far: Sequence[_Sizes]
) -> Source:
    """What the skeleton leaves out, and what masks are causal at these sizes of the inputs and at others."""
    probed = tuple((each.shapes, each.computed) for each in far)
    source = Source(large_data(model), probes=probed)
    net = read(bones, one.shapes, one.computed, source=source)
    if not has_masks(net):
        return source
    apart = elsewhere_()
    return replace(source, causal=causal_scores(net, read(bones, apart.shapes, apart.computed, source=source)))


def _looks(bones: ModelProto, sizes: Sequence[_Sizes], source: Source, *, in_common: bool = False) -> list[_Look]:
    """What every pass, in order, finds at some sizes; each look has the first two to tell which dimensions are free.

    `in_common`: without the passes that find something else at the second sizes than at the first.
    """
    looks = [_Look(bones, {}, each.shapes) for each in sizes]
    nets: list[Net] = []
    for each in PASSES:
        nets = nets or _nets(looks, sizes, source)  # none: something has changed
        found = [each(net) for net in nets]
        if in_common and not _rewrites_alike(*found[:2]):
            continue
        if any(fusion.nodes or fusion.replaced or fusion.removed for fusion in found):
            looks, nets = _further(looks, found), []
    return looks


def _nets(looks: Sequence[_Look], sizes: Sequence[_Sizes], source: Source) -> list[Net]:
    """The models as the passes read them, one that several looks have in common read once."""
    nets: dict[int, Net] = {}
    found = []
    for index, (look, at) in enumerate(zip(looks, sizes, strict=True)):
        second = 0 if index == 1 else 1
        others, elsewhere_ = looks[second].shapes, sizes[second].computed
        known = nets.get(id(look.model)) or read(look.model, look.shapes, at.computed, others, source)
        nets[id(look.model)] = known
        found.append(replace(known, shapes=look.shapes, computed=at.computed, others=others, elsewhere=elsewhere_))
    return found


def _further(looks: Sequence[_Look], found: Sequence[Fusion]) -> list[_Look]:
    """The looks after a pass; those that had one model and found the same have one again."""
    further: list[_Look] = []
    for index, (look, fusion) in enumerate(zip(looks, found, strict=True)):
        same = (i for i in range(index) if looks[i].model is look.model and _rewrites_alike(found[i], fusion))
        first = next(same, None)
        model = rewritten(look.model, [fusion]) if first is None else further[first].model
        kinds = Counter(look.kinds)
        kinds.update(fusion.kinds)
        shapes, merged = {**look.shapes, **fusion.shapes}, {**look.merged, **fusion.merged}
        further.append(_Look(model, merged, shapes, kinds))
    return further


def _rewrites_alike(one: Fusion, other: Fusion) -> bool:
    """Whether two fusions make the same of a model."""
    same = bool(one.removed) == bool(other.removed) and one.replaced == other.replaced
    return same and one.nodes == other.nodes and one.constants == other.constants


def _has_anchor(model: ModelProto) -> bool:
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type in _ANCHORS and node.input:
            before = _ANCHORS[node.op_type]
            if before is None or makers.get(node.input[0]) in (*before, "If"):  # whose branch may be known
                return True
    return False


def _with_weights(bones: ModelProto, model: ModelProto, simple: ModelProto, merged: Mapping[str, Recipe]) -> ModelProto:
    """The skeleton with the model's weights, and those that are made of them.

    `simple`: where constants are that the model computes.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    left = {tensor.name for tensor in bones.graph.initializer}
    made = _made(_needed(merged, left), _constants(simple) | _constants(model))
    full = ModelProto()
    full.CopyFrom(bones)
    constants = {node.output[0]: node for node in model.graph.node if large_constant(node) is not None}
    for node in full.graph.node:
        if large_constant(node) is not None and node.output[0] in constants:
            node.CopyFrom(constants[node.output[0]])
    del full.graph.initializer[:]
    for tensor in bones.graph.initializer:
        if tensor.name in made:
            full.graph.initializer.append(made[tensor.name])
        else:
            full.graph.initializer.add().CopyFrom(weights[tensor.name] if is_stripped(tensor) else tensor)
    return full


def _names_of_constants(model: ModelProto) -> set[str]:
    made = {node.output[0] for node in model.graph.node if node.op_type == "Constant" and node.output}
    return made | {tensor.name for tensor in model.graph.initializer}


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Constant tensors by name, Constant nodes and shared initializers included."""
    known = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if (constant := constant_tensor(node)) is not None:
            known[node.output[0]] = constant
        elif node.op_type == "Identity" and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def _needed(merged: Mapping[str, Recipe], left: set[str]) -> dict[str, Recipe]:
    """The recipes of constants that are left, and those that they ask for."""
    wanted = set(left)
    for made, recipe in reversed(list(merged.items())):
        if made in wanted:
            wanted.update(recipe.names)
    return {made: recipe for made, recipe in merged.items() if made in wanted}


def _made(merged: Mapping[str, Recipe], known: Mapping[str, TensorProto]) -> dict[str, TensorProto]:
    """New constants by name; a recipe may ask for what an earlier one makes."""
    arrays: dict[str, Array] = {}
    for made, recipe in merged.items():
        for name in filter(None, recipe.names):
            if name not in arrays:
                arrays[name] = numpy_helper.to_array(known[name])
        arrays[made] = recipe.array(arrays)
    return {name: numpy_helper.from_array(arrays[name], name) for name in merged}


def _counts(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def _heavy(counts: Counter[str]) -> int:
    """Operators that multiply matrices; an attention stands for two products and up to three projections."""
    return sum(counts[kind] for kind in _HEAVY)


def summary(counts: Mapping[str, int]) -> str:
    """What was fused, in a few words."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
