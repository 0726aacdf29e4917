"""Ahead: the next nodes of a model alone, for inference where shapes become known layer by layer.

To infer a whole model again for every layer takes time that grows with the square of its depth.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.helper import make_tensor_value_info

from ampgraph.onnx_model.attributes import constant_tensor

SHORTEST = 64  # nodes
_ROW = 1  # axes at most of what inference follows the elements of

Shapes = Mapping[str, tuple[int, ...]]


class Ahead:
    """The nodes of a graph that may have more to tell, in order.

    Those of unknown shape before a node are in every stretch that it is in, so that nothing is inferred of less than
    the whole model tells.
    """

    def __init__(self, model: ModelProto, graph: GraphProto, inferred: GraphProto, around: Ahead | None = None) -> None:
        """All nodes of a weightless model's graph, or of a body. `inferred`: it with the types that are known.

        `around`: those of the graph that a body stands in.
        """
        self.model, self.graph, self.inferred, self.around = model, graph, inferred, around
        self.outputs = [tuple(filter(None, node.output)) for node in graph.node]
        self.left = list(range(len(self.outputs)))
        self._constants = {tensor.name: tensor for tensor in _held(graph)}
        self._initializers = 0  # how many of them are among the constants
        self._kinds: dict[str, int] = {}  # element types of values
        self._take(inferred)

    def part(self, sized: Shapes, length: int) -> ModelProto:
        """A model of the next `length` nodes. `sized`: the shapes of what they read."""
        further = self.graph.initializer[self._initializers :]
        self._constants.update((tensor.name, tensor) for tensor in further)
        self._initializers += len(further)
        part = ModelProto(ir_version=self.model.ir_version)
        part.opset_import.extend(self.model.opset_import)
        nodes = [self.graph.node[index] for index in self.left[:length]]
        part.graph.node.extend(nodes)
        made = {name for node in nodes for name in node.output}
        read = [name for name in dict.fromkeys(_read(nodes)) if name not in made]
        part.graph.initializer.extend(self._constants[name] for name in read if name in self._constants)
        kinds = {name: kind for name in read if name not in self._constants and (kind := self._kind(name))}
        part.graph.input.extend(make_tensor_value_info(name, kind, sized.get(name)) for name, kind in kinds.items())
        return part

    def _kind(self, name: str) -> int:
        """The element type of a value, here or around; 0: it is not known."""
        if name in self._constants:
            return self._constants[name].data_type
        known = self._kinds.get(name, 0)
        return known or (self.around._kind(name) if self.around is not None else 0)

    def end(self, length: int) -> int:
        """The place in the graph where the next `length` nodes end."""
        return self.left[length] if length < len(self.left) else len(self.outputs)

    def drop(self, told: GraphProto, sized: Shapes, known: Collection[str], pending: Collection[int]) -> None:
        """Leave out what is known in whole. `pending`: those whose result may still be computed."""
        self._take(told)
        stretch = len(told.node)
        self.left[:stretch] = [
            index for index in self.left[:stretch] if not self._is_done(index, sized, known, index in pending)
        ]

    def _is_done(self, index: int, sized: Shapes, known: Collection[str], pending: bool) -> bool:
        """Whether nothing more is to be known of a node; inference may follow the elements of rows."""
        outputs = self.outputs[index]
        if all(name in known for name in outputs):
            return True
        return all(name in sized for name in outputs) and not (pending and len(sized[outputs[0]]) <= _ROW)

    def _take(self, inferred: GraphProto) -> None:
        for value in _values(inferred):
            if value.type.HasField("tensor_type"):
                self._kinds[value.name] = value.type.tensor_type.elem_type


def _read(nodes: Iterable[NodeProto]) -> Iterator[str]:
    """Names that nodes read, in their bodies too."""
    for node in nodes:
        yield from filter(None, node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _read(attribute.g.node)
                yield from (value.name for value in attribute.g.output)


def _held(graph: GraphProto) -> Iterator[TensorProto]:
    """What Constant nodes hold, by the names of their outputs."""
    for node in graph.node:
        tensor = constant_tensor(node)
        if tensor is not None:
            held = TensorProto()
            held.CopyFrom(tensor)
            held.name = node.output[0]
            yield held


def _values(graph: GraphProto) -> Iterator[ValueInfoProto]:
    yield from graph.value_info
    yield from graph.input
    yield from graph.output
