"""Shape arithmetic computed: what a model derives from its inputs' shapes becomes constant once those are chosen.

onnx's own inference follows sizes through a few operators only, and exporters write many more: a Reshape of a constant
list of axes is enough to lose every shape after it. Small results are computed here and given to inference as
initializers. They hold for the modelled shapes alone, like every shape that is inferred.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from ampgraph.onnx_model.ahead import SHORTEST, Ahead
from ampgraph.onnx_model.dtypes import NAMES
from ampgraph.onnx_model.inference import infer_once
from ampgraph.onnx_model.shape_operators import LARGEST, OPERATORS, Array, Attributes

Shapes = Mapping[str, tuple[int, ...]]

_DATA_FIELDS = ("float_data", "int32_data", "int64_data")
DONE = "~computed"  # ends the name of an output whose result is an initializer now
_MEASURES = ("Shape", "Size")  # what they tell is their input's shape
_COMPUTABLE = frozenset((*_MEASURES, *OPERATORS))
ROUNDS = 128  # of inference at most, each of which may make more sizes known
WHOLE_ROUNDS = 4  # before a model is taken for a deep one: each layer may ask for four, before opset 14


@dataclass(frozen=True)
class Step:
    """A node whose result may be computed."""

    index: int
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes
    operands: tuple[str, ...]  # whose values it computes with


@dataclass(frozen=True)
class Reading:
    """What a weightless graph or body says whatever sizes its inputs get: it is read once for all of them."""

    steps: tuple[Step, ...]
    inside: Mapping[int, tuple[Reading, ...]]  # the bodies of nodes
    known: Mapping[str, Array]  # small constants
    sized: Mapping[str, tuple[int, ...]]  # shapes of constants
    unsized: frozenset[str]  # results whose shape is to be found

    @classmethod
    def of(cls, graph: GraphProto) -> Reading:
        """Read a graph and its bodies."""
        nodes = list(graph.node)
        inside = {i: tuple(map(cls.of, _bodies(node))) for i, node in enumerate(nodes) if node.attribute}
        inside = {index: bodies for index, bodies in inside.items() if bodies}
        steps = tuple(_step(i, node) for i, node in enumerate(nodes) if i not in inside and _computable(node))
        known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_plain(tensor)}
        made = {node.output[0]: _constant(_attributes(node)) for node in nodes if _is_constant(node)}
        known.update((name, array) for name, array in made.items() if array is not None)
        sized = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        sized |= {name: array.shape for name, array in known.items() if name not in sized}
        unsized = {name for node in nodes for name in node.output if name}
        return cls(steps, inside, known, sized, frozenset(unsized - sized.keys()))


def _step(index: int, node: NodeProto) -> Step:
    inputs = tuple(node.input)
    operands = () if node.op_type in _MEASURES else tuple(filter(None, inputs))
    return Step(index, node.op_type, inputs, tuple(node.output), _attributes(node), operands)


def infer_with_sizes(light: ModelProto) -> ModelProto:
    """Infer the types and shapes of a weightless model, and again for as long as more sizes become known.

    Computed results become initializers of `light`, in place; what made them keeps its place and loses its output.
    """
    inferred = infer_once(light)
    return _further(light, inferred, _Level.of(light.graph)) if _may_compute(light.graph) else inferred


def sizes_in(light: ModelProto, reading: Reading | None = None) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
    """Shapes of the main graph's values by name, and small results, as `infer_with_sizes` finds them.

    `reading`: of the graph, where it is known.
    """
    inferred, level = infer_once(light), _Level.of(light.graph, reading)
    may_compute = _may_compute(light.graph)
    if may_compute:
        inferred = _further(light, inferred, level)
    level.lacks_shapes(inferred.graph)
    if may_compute:  # what the last shapes decide, which no shape waits for
        _fold(level, inferred.graph, {}, {})
    return level.sized, level.made


def _further(light: ModelProto, inferred: ModelProto, level: _Level) -> ModelProto:
    for nth in range(ROUNDS):
        if not level.lacks_shapes(inferred.graph) or not _fold(level, inferred.graph, {}, {}):
            break
        if nth >= WHOLE_ROUNDS:
            _walk(light, inferred, level)
        inferred = infer_once(light)
    return inferred


def _walk(light: ModelProto, inferred: ModelProto, level: _Level) -> None:
    """Compute what follows layer by layer, by inference of the next nodes alone.

    Results alone are kept of it: of shapes the inference of the whole model has the last word.
    """
    before = [(each, dict(each.sized), each.told) for each in _levels(level)]
    _walk_in(level, Ahead(light, light.graph, inferred.graph), {}, {})
    for each, sized, told in before:
        results = {name for node in each.light.node for name in node.output if name}
        each.sized, each.told, each.unsized = sized, told, results - sized.keys() - each.known.keys()


def _levels(level: _Level) -> Iterator[_Level]:
    yield level
    for levels in level.inside.values():
        for each in levels:
            yield from _levels(each)


def _walk_in(
    level: _Level, ahead: Ahead, outer: MutableMapping[str, Array], around: MutableMapping[str, tuple[int, ...]]
) -> None:
    """`_walk` in a graph, then in the bodies of its nodes; `outer` and `around` as in `_fold`."""
    known = ChainMap(level.known, outer) if outer else level.known
    shapes = ChainMap(level.sized, around) if around else level.sized
    _capture(level, outer)
    length = SHORTEST
    while ahead.left:
        part, end, before = infer_once(ahead.part(shapes, length)), ahead.end(length), len(level.sized)
        level.take(part.graph)
        found = _compute_all(level, _before(end, level.pending), known, shapes) or len(level.sized) > before
        if not found and length >= len(ahead.left):
            break
        ahead.drop(part.graph, shapes, level.known, {step.index for step in _before(end, level.pending)})
        length = SHORTEST if found else 2 * length
    for index, levels in level.inside.items():
        for each, twin in zip(levels, _bodies(ahead.inferred.node[index]), strict=True):
            _walk_in(each, Ahead(ahead.model, each.light, twin, ahead), known, shapes)


def _compute_all(level: _Level, steps: Sequence[Step], known: Mapping[str, Array], shapes: Shapes) -> bool:
    """Make results known that can be; whether there were any. `steps`: the first of those that are pending."""
    left = [
        step
        for step in steps
        if not (all(map(known.__contains__, step.operands)) and _compute(step, level, known, shapes))
    ]
    level.pending = [*left, *level.pending[len(steps) :]]
    return len(left) < len(steps)


def _before(end: int, steps: Sequence[Step]) -> Sequence[Step]:
    return steps[: bisect_left(steps, end, key=lambda step: step.index)]


@dataclass
class _Level:
    """A graph or body while sizes become known: what is known from round to round is not looked at again."""

    light: GraphProto
    pending: Sequence[Step]  # whose result may still become known
    inside: Mapping[int, list[_Level]]  # the bodies of nodes
    known: dict[str, Array]  # small constants and results
    sized: dict[str, tuple[int, ...]]  # shapes of values
    unsized: set[str]  # results without one
    made: dict[str, Array] = field(default_factory=dict)  # results that have become known
    told: int = 0  # how many of those are among the shapes

    @classmethod
    def of(cls, light: GraphProto, reading: Reading | None = None) -> _Level:
        """A graph before the first round."""
        read = reading or Reading.of(light)
        inside = {
            index: [cls.of(body, of) for body, of in zip(_bodies(light.node[index]), bodies, strict=True)]
            for index, bodies in read.inside.items()
        }
        return cls(light, read.steps, inside, dict(read.known), dict(read.sized), set(read.unsized))

    def know(self, name: str, result: Array) -> None:
        """Make a result an initializer."""
        self.light.initializer.append(numpy_helper.from_array(result, name))
        self.known[name] = self.made[name] = result
        self.unsized.discard(name)

    def lacks_shapes(self, inferred: GraphProto) -> bool:
        """Whether any result is without a shape; those that the last round and inference have told are taken in."""
        self.take(inferred)
        lacking = [bool(self.unsized)]
        for index, levels in self.inside.items():
            bodies = _bodies(inferred.node[index])
            lacking += [level.lacks_shapes(body) for level, body in zip(levels, bodies, strict=True)]
        return any(lacking)

    def take(self, inferred: GraphProto) -> None:
        """Take in the shapes that the last round and inference have told, of the graph itself."""
        for name, result in islice(self.made.items(), self.told, None):
            self.sized.setdefault(name, result.shape)
        self.told = len(self.made)
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            name = value.name
            if name not in self.sized and (shape := _static_shape(value)) is not None:
                self.sized[name] = shape
                self.unsized.discard(name)


def _is_constant(node: NodeProto) -> bool:
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx") and bool(node.output)


def _computable(node: NodeProto) -> bool:
    return node.op_type in _COMPUTABLE and node.domain in ("", "ai.onnx")


def _may_compute(graph: GraphProto) -> bool:
    """Whether any result can be computed: the first needs a shape, constants alone, or a body to look into."""
    known = {tensor.name for tensor in graph.initializer} | {""}
    known.update(node.output[0] for node in graph.node if node.op_type == "Constant" and node.output)
    return any(
        node.op_type in _MEASURES
        or (node.op_type in OPERATORS and known.issuperset(node.input))
        or (bool(node.attribute) and bool(_bodies(node)))
        for node in graph.node
    )


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _static_shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    kind = value.type
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    sizes = []
    for dim in kind.tensor_type.shape.dim:
        size = dim.dim_value
        if size < 0 or (size == 0 and not dim.HasField("dim_value")):
            return None
        sizes.append(size)
    return tuple(sizes)


def _fold(
    level: _Level,
    inferred: GraphProto,
    outer: MutableMapping[str, Array],
    around: MutableMapping[str, tuple[int, ...]],
) -> bool:
    """Turn results that can be computed into initializers of `light`; whether there were any new ones.

    `outer` and `around`: constants and shapes of the graphs around a body, which inference does not look for there.
    """
    found = bool(outer) and _capture(level, outer)
    known = ChainMap(level.known, outer) if outer else level.known
    shapes = ChainMap(level.sized, around) if around else level.sized
    found |= _compute_all(level, level.pending, known, shapes)
    for index, levels in level.inside.items():
        for body, twin in zip(levels, _bodies(inferred.node[index]), strict=True):
            found |= _fold(body, twin, known, shapes)
    return found


def _capture(level: _Level, outer: Mapping[str, Array]) -> bool:
    """Copy the constants that a body takes from around it into the body; whether there were new ones."""
    body = level.light
    read = {name for node in body.node for name in node.input if name in outer}
    own = {name for node in body.node for name in node.output} | {value.name for value in body.input}
    wanted = sorted(read - own - {tensor.name for tensor in body.initializer})
    for name in wanted:
        level.know(name, outer[name])
    return bool(wanted)


def _compute(step: Step, level: _Level, known: Mapping[str, Array], shapes: Shapes) -> bool:
    """Make a node's result known, and an initializer; whether it is."""
    name = step.outputs[0] if step.outputs else ""
    result = _result(step, known, shapes) if name else None
    if result is None or result.size > LARGEST:
        return False
    level.know(name, result)
    level.light.node[step.index].output[0] = done = name + DONE
    if done not in level.sized:
        level.unsized.add(done)
    return True


def _is_plain(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor is small, has its data with it, and is of a type that sizes are computed in."""
    numeric = NAMES.get(tensor.data_type, "").startswith(("int", "bool", "float32"))
    size = math.prod(tensor.dims)
    present = tensor.HasField("raw_data") or any(len(getattr(tensor, name)) == size for name in _DATA_FIELDS)
    return numeric and present and size <= LARGEST and tensor.data_location != onnx.TensorProto.EXTERNAL


def _result(step: Step, known: Mapping[str, Array], shapes: Shapes) -> Array | None:
    if step.op in _MEASURES:
        return _measured(step, shapes.get(step.inputs[0]))
    if len(step.outputs) > 1:
        return None
    try:
        with np.errstate(all="ignore"):
            result = OPERATORS[step.op]([known.get(name) for name in step.inputs], step.attributes)
            return None if result is None else np.asarray(result)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):  # no run could compute it either
        return None


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def _constant(attributes: Attributes) -> Array | None:
    value = attributes.get("value")
    if value is not None:
        return numpy_helper.to_array(value) if _is_plain(value) else None
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in attributes:
            return np.array(attributes[name], dtype)
    return None


def _measured(step: Step, shape: tuple[int, ...] | None) -> Array | None:
    if shape is None:
        return None
    if step.op == "Size":
        return np.array(math.prod(shape), np.int64)
    return np.array(shape[step.attributes.get("start", 0) : step.attributes.get("end")], np.int64)
