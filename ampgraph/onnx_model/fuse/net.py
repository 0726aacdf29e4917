"""What fusing asks of a graph, and the one place where a graph is rewritten."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.fuse.recipes import Recipe
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.places import scopes_of_all
from ampgraph.onnx_model.prepare import captured, in_order
from ampgraph.onnx_model.raising import opset_of
from ampgraph.onnx_model.rounding.rests import with_rest
from ampgraph.onnx_model.types import bodies

Array = npt.NDArray[Any]

CONTRIB = "com.microsoft"
_DATA = ("float_data", "int64_data", "int32_data", "double_data", "uint64_data", "string_data")
ORIGIN_KEY = "ampgraph.origin"  # node metadata: the names that a replacement stands for


@dataclass(frozen=True)
class Fusion:
    """A replacement: new nodes, whose outputs may bear the names of those of `removed`, and values renamed.

    `shapes`: of new values. `constants`: new initializers, those with a recipe in `merged` without their data yet.
    `kinds`: how much was done that no new operator shows.
    """

    nodes: tuple[NodeProto, ...]
    replaced: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[NodeProto, ...] = ()
    constants: tuple[TensorProto, ...] = ()
    merged: Mapping[str, Recipe] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What a skeleton does not say of the model it was made from."""

    weights: Mapping[str, TensorProto] = field(default_factory=dict)  # initializers with their data
    causal: Mapping[str, str] = field(default_factory=dict)  # scores with a causal mask on them -> the scores alone
    kinds: Mapping[str, int] = field(default_factory=dict)  # element types of values, where they are known
    probes: tuple[tuple[Mapping[str, Shape], Mapping[str, Array]], ...] = ()  # shapes and results at sizes far away


@dataclass(frozen=True)
class Net:
    """The main graph of a model: who makes and who reads each value, shapes at the modelled sizes, constants."""

    graph: GraphProto
    shapes: Mapping[str, Shape]
    others: Mapping[str, Shape]  # shapes at sizes that differ in every free dimension
    constants: Mapping[str, TensorProto]
    computed: Mapping[str, Array]  # small results that inference could compute at these sizes
    makers: Mapping[str, NodeProto]
    readers: Mapping[str, tuple[NodeProto, ...]]
    fixed: frozenset[str]  # values that must stay: graph outputs, and what bodies read
    opset: int
    source: Source = field(default_factory=Source)
    elsewhere: Mapping[str, Array] = field(default_factory=dict)  # small results at the sizes of `others`

    def maker(self, name: str, *types: str) -> NodeProto | None:
        """The node that makes a value, if it is one of these standard operators."""
        node = self.makers.get(name)
        return node if node is not None and node.domain in ("", "ai.onnx") and node.op_type in types else None

    def sole_reader(self, name: str, *types: str) -> NodeProto | None:
        """The only node that reads a value nobody else needs, if it is one of these standard operators."""
        found = self.readers.get(name, ())
        if name in self.fixed or len(found) != 1 or list(found[0].input).count(name) != 1:
            return None
        return found[0] if found[0].domain in ("", "ai.onnx") and found[0].op_type in types else None

    def sizes(self, name: str) -> tuple[int | None, ...] | None:
        """The sizes of a value's dimensions, None for those that are free; None where they are not known."""
        one, other = self.shapes.get(name), self.others.get(name)
        if one is None or other is None or len(one) != len(other):
            return None
        far = [found for shapes in self._far() if (found := shapes.get(name)) and len(found) == len(one)]
        return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(one, other, *far, strict=True))

    def are_alike(self, *names: str, since: int = 0) -> bool:
        """Whether values have one shape, from an axis on, and none is broadcast at all sizes that are looked at.

        Sizes that differ and are not 1 are those of a model that does not run there.
        """
        one, *rest = [[shapes.get(name) for name in names] for shapes in (self.shapes, self.others, *self._far())]
        alike = None not in one and len({shape[since:] for shape in one if shape is not None}) == 1
        return alike and not any(_is_broadcast([shape[since:] for shape in found if shape]) for found in rest)

    def _far(self) -> Iterable[Mapping[str, Shape]]:
        return (shapes for shapes, _ in self.source.probes)

    def width(self, name: str) -> int:
        """The size of a value's last axis; 0 where it has none, or none that is known."""
        return (self.shapes.get(name) or (0,))[-1]

    def values(self, name: str) -> Array | None:
        """The elements of a constant that has its data here, as all small ones do."""
        if name in self.computed:
            return self.computed[name]
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_location == TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor) if has_data(tensor) else None

    def table(self, name: str) -> Array | None:
        """The elements of a constant of any size."""
        tensor = self.constants.get(name)
        full = self.source.weights.get(tensor.name) if tensor is not None and not has_data(tensor) else None
        return self.values(name) if full is None else numpy_helper.to_array(full)

    def exact(self, name: str) -> Array | None:
        """The elements of a constant of any size; low ones as float32, with the rest that the file keeps of them."""
        low = self.table(name)
        return with_rest(self.constants[name], low) if low is not None and low.dtype == np.float16 else low

    def scalar(self, name: str) -> float | None:
        """The value of a constant of one element, or of one that is the same at whatever sizes."""
        values = self.values(name)
        if values is None or values.size != 1:
            return None
        far = [results[name] for _, results in self.source.probes if name in self.computed and name in results]
        return float(values.reshape(-1)[0]) if all(np.array_equal(values, other) for other in far) else None

    def is_row(self, name: str, width: int) -> bool:
        """Whether a value is a constant vector along the last axis, `width` long; none is of no width."""
        tensor = self.constants.get(name)
        return tensor is not None and bool(tensor.dims) and tensor.dims[-1] == width == np.prod(tensor.dims) > 0

    def is_vector(self, name: str, width: int) -> bool:
        """Whether a value is a constant row of one axis, as onnxruntime's kernels take it."""
        return self.is_row(name, width) and len(self.constants[name].dims) == 1

    def is_float(self, name: str) -> bool:
        """Whether a constant is float32."""
        return name in self.constants and self.constants[name].data_type == TensorProto.FLOAT

    def is_own_float(self, name: str) -> bool:
        """Whether a value is a float32 constant whose data lie in the model's own file: others can be made of it."""
        return self.is_float(name) and self.constants[name].data_location != TensorProto.EXTERNAL


def _is_broadcast(shapes: Iterable[Shape]) -> bool:
    """Whether one of several operands is repeated along an axis."""
    return any(1 in sizes and len(set(sizes)) > 1 for sizes in zip(*shapes, strict=False))


def has_data(tensor: TensorProto) -> bool:
    """Whether a constant's elements are here: not those of large ones, nor of those that are still to be made."""
    return bool(tensor.raw_data) or 0 in tensor.dims or any(len(getattr(tensor, name)) for name in _DATA)


def read(
    model: ModelProto,
    shapes: Mapping[str, Shape],
    computed: Mapping[str, Array],
    others: Mapping[str, Shape] | None = None,
    source: Source | None = None,
) -> Net:
    """Look a model's main graph over. Its nodes stand in topological order. `others`: shapes at other sizes."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for value in graph.input:  # overridable
        constants.pop(value.name, None)
    makers: dict[str, NodeProto] = {}
    readers: dict[str, list[NodeProto]] = {}
    fixed = {value.name for value in graph.output}
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is not None:
            constants[node.output[0]] = tensor
        elif node.op_type == "Identity" and node.input[0] in constants:  # torch.onnx's shared parameters
            constants[node.output[0]] = constants[node.input[0]]
        makers.update((name, node) for name in node.output if name)
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
        for _, body in bodies(node):
            fixed |= captured(body)
    by_name = {name: tuple(found) for name, found in readers.items()}
    places, opset = frozenset(fixed), opset_of(model)
    return Net(graph, shapes, others or {}, constants, computed, makers, by_name, places, opset, source or Source())


def fresh(net: Net, name: str, taken: Collection[str] = ()) -> str:
    """A value name that nobody bears yet."""
    while name in net.makers or name in net.constants or name in net.shapes or name in taken:
        name += "_"
    return name


def node(op: str, inputs: Iterable[str], outputs: Iterable[str], domain: str = "", **attributes: Any) -> NodeProto:  # noqa: ANN401
    """A new node, named after its first output; attributes of value None are left out."""
    names = list(outputs)
    given = {key: value for key, value in attributes.items() if value is not None}
    return helper.make_node(op, list(inputs), names, name=next(filter(None, names)), domain=domain, **given)


def with_origin(new: NodeProto, old: Iterable[NodeProto]) -> NodeProto:
    """The node with the names of those it stands for in its metadata, and of those that they stand for.

    And with the exporter's scopes that all of them are in.
    """
    nodes = list(old)
    names = [name for each in nodes for name in (each.name, *_origins(each)) if name]
    if names:
        new.metadata_props.add(key=ORIGIN_KEY, value=" ".join(dict.fromkeys(names)))
    for key, value in scopes_of_all(nodes, new.name, new.op_type).items():
        new.metadata_props.add(key=key, value=value)
    return new


def _origins(each: NodeProto) -> list[str]:
    return next((entry.value for entry in each.metadata_props if entry.key == ORIGIN_KEY), "").split(" ")


def fused_parts(model: ModelProto) -> dict[str, str]:
    """Names of nodes that are part of a fused one, each with the name of that."""
    found: dict[str, str] = {}
    for each in model.graph.node:
        for name in filter(None, _origins(each)):
            found.setdefault(name, str(each.name))
    return found


def rewritten(model: ModelProto, fusions: Collection[Fusion]) -> ModelProto:
    """A copy of the model with the replacements made, what nobody needs any more left out, sorted.

    The model itself where there are none: a new node of which no output is read would be left out.
    """
    if not any(fusion.replaced or fusion.removed for fusion in fusions):
        return model
    made = {name for fusion in fusions for each in fusion.nodes for name in each.output if name}
    made |= {tensor.name for fusion in fusions for tensor in fusion.constants}
    kept = [each for each in model.graph.node if made.isdisjoint(each.output)]  # what else is replaced, nobody reads
    renamed = _chased({old: new for fusion in fusions for old, new in fusion.replaced.items()})
    nodes = [_reading(each, renamed) for each in (*kept, *(new for fusion in fusions for new in fusion.nodes))]
    live = _live(nodes, model.graph)
    copy = copy_without(model, "node")
    copy.graph.node.extend(in_order([each for each in nodes if id(each) in live]))
    copy.graph.initializer.extend(tensor for fusion in fusions for tensor in fusion.constants)
    _forget_unused(copy.graph)
    if not any(entry.domain == CONTRIB for entry in copy.opset_import):
        copy.opset_import.add(domain=CONTRIB, version=1)
    return copy


def _reading(each: NodeProto, renamed: Mapping[str, str]) -> NodeProto:
    """The node, or a copy that reads values by their new names."""
    if renamed.keys().isdisjoint(each.input):
        return each
    copy = NodeProto()
    copy.CopyFrom(each)
    for slot, name in enumerate(each.input):
        copy.input[slot] = renamed.get(name, name)
    return copy


def copy_without(model: ModelProto, *parts: str) -> ModelProto:
    """A copy of all but these parts of the graph: of what most of a model is, where most of it will be others."""
    copy = ModelProto()
    _copy_fields(model, copy, ("graph",))
    _copy_fields(model.graph, copy.graph, parts)
    return copy


def _copy_fields(source: Any, target: Any, left_out: Collection[str]) -> None:  # noqa: ANN401  (any message)
    for field_, value in source.ListFields():
        if field_.name in left_out:
            continue
        if hasattr(value, "extend"):
            getattr(target, field_.name).extend(value)
        elif field_.message_type is not None:
            getattr(target, field_.name).CopyFrom(value)
        else:
            setattr(target, field_.name, value)


def _chased(renamed: Mapping[str, str]) -> dict[str, str]:
    """Where every renamed value ends, over several renamings."""
    found = {}
    for old in renamed:
        new = renamed[old]
        while new in renamed:
            new = renamed[new]
        found[old] = new
    return found


def _live(nodes: list[NodeProto], graph: GraphProto) -> set[int]:
    makers = {name: each for each in nodes for name in each.output if name}
    live: set[int] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and id(maker) not in live:
            live.add(id(maker))
            waiting.extend(maker.input)
            for _, body in bodies(maker):
                waiting.extend(captured(body))
    return live


def _forget_unused(graph: GraphProto) -> None:
    """Leave out initializers that nobody reads and value_info of values that are no more."""
    read_ = {name for each in graph.node for name in each.input} | {value.name for value in graph.output}
    for each in graph.node:
        for _, body in bodies(each):
            read_ |= captured(body)
    read_ |= {value.name for value in graph.input}
    made = {name for each in graph.node for name in each.output}
    for repeated, wanted in ((graph.initializer, read_), (graph.value_info, made)):
        kept = [entry for entry in repeated if entry.name in wanted]
        if len(kept) < len(repeated):
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in kept]
            del repeated[:]
            repeated.extend(copies)
