"""Surfacing: a model with inner values among its outputs, those inside bodies too.

A value of the main graph becomes an output as it is. A value of a body comes out flat, once for each time that the
body ran, one after the other, beside a list of ranks and sizes that `turns` reads: a branch that is not taken hands
out nothing, and a Loop appends to what it carries from step to step, or stacks what has one shape at every step,
which copies less. A Scan, whose values must keep their shape, is rewritten as a Loop. Nothing that the model computes
is changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from ampgraph.onnx_model.inventory import Path
from ampgraph.onnx_model.names import all_value_names
from ampgraph.onnx_model.scan_loops import as_loop, can_be_loop
from ampgraph.onnx_model.types import bodies

OLDEST_OPSET = 9  # whose NonZero makes an empty tensor that inference cannot see to be empty
OWNERS = ("If", "Loop", "Scan")
_STEERING = 2  # a Loop's first inputs: how often, and whether at all


@dataclass(frozen=True, slots=True)
class Probe:
    """A value to hand out: its name in a body, or its sizes alone.

    `elem_type`: of what comes out of a body. `stacked`: it has one shape, or its sizes have, whenever its loop runs.
    """

    path: Path
    name: str
    elem_type: int
    sizes: bool = False
    given: bool = False  # an input of its graph, not made by a node
    stacked: bool = False


def surface(model: ModelProto, probes: Iterable[Probe], *, keep_outputs: bool) -> tuple[ModelProto, list[str]]:
    """A copy with the probes among its outputs, and their names there, in order.

    `keep_outputs`: the model's own stay too; at least one output is left in any case.
    """
    whole = ModelProto()
    whole.CopyFrom(model)
    work = _Work(whole)
    wanted = list(probes)
    inner = [probe for probe in wanted if probe.path]
    names = dict(zip(inner, work.export(whole.graph, inner), strict=True))
    names.update((probe, work.plain(whole.graph, probe)) for probe in wanted if not probe.path)
    _set_outputs(whole.graph, [names[probe] for probe in wanted], keep_outputs)
    return whole, [names[probe] for probe in wanted]


def unreachable(model: ModelProto) -> Mapping[Path, str]:
    """Bodies whose values cannot be handed out, each with the reason in words."""
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    return dict(_unreachable(model.graph, (), "" if opset >= OLDEST_OPSET else f"opset {opset} has no NonZero"))


def _unreachable(graph: GraphProto, path: Path, reason: str) -> Iterable[tuple[Path, str]]:
    for position, node in enumerate(_owners(graph)):
        said = reason or _obstacle(node)
        for index, (_, body) in enumerate(bodies(node)):
            place = (*path, (position, index))
            if said:
                yield place, said
            yield from _unreachable(body, place, said)


def _obstacle(node: NodeProto) -> str:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OWNERS:
        return f"nothing is known of the bodies of {node.op_type}"
    if node.op_type == "Scan" and not can_be_loop(node):
        return "a Scan over batches, or one whose outputs' ranks are unknown"
    return ""


def _owners(graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if any(True for _ in bodies(node))]


def _set_outputs(graph: GraphProto, names: Collection[str], keep: bool) -> None:
    own = [ValueInfoProto.FromString(value.SerializeToString()) for value in graph.output]
    known = {value.name: value for value in own}
    kept = [value for value in own if keep or value.name in names] or ([] if names else own[:1])
    fresh = [name for name in dict.fromkeys(names) if name not in known]
    del graph.output[:]
    graph.output.extend([*kept, *(ValueInfoProto(name=name) for name in fresh)])


class _Work:
    """Rewriting a model in place; private to this module and gone when `surface` returns."""

    def __init__(self, model: ModelProto) -> None:
        self._taken = all_value_names(model)
        self._count = self._level = 0  # of new names; of loops around what is exported

    def fresh(self, stem: str) -> str:
        """A value name that nothing in the model has."""
        name = f"surfaced_{stem}_{self._count}"
        while name in self._taken:
            name += "_"
        self._count += 1
        self._taken.add(name)
        return name

    def plain(self, graph: GraphProto, probe: Probe) -> str:
        """The output of a value of the main graph."""
        if not (probe.sizes or probe.given):
            return probe.name
        name = self.fresh("value")
        graph.node.append(helper.make_node("Shape" if probe.sizes else "Identity", [probe.name], [name]))
        return name

    def export(self, graph: GraphProto, probes: list[Probe]) -> list[str]:
        """Names, in a graph, of flat tensors that hold what these probes of it and of its bodies see."""
        found = {probe: self._flat(graph, probe) for probe in probes if not probe.path}
        inner: dict[int, list[Probe]] = {}
        for probe in probes:
            if probe.path:
                inner.setdefault(probe.path[0][0], []).append(probe)
        for position, node in enumerate(_owners(graph)):
            if position in inner:
                found.update(self._from_owner(graph, node, inner[position]))
        return [found[probe] for probe in probes]

    def _flat(self, graph: GraphProto, probe: Probe) -> str:
        if probe.sizes:
            return self._sizes(graph, probe.name)
        return self._add(graph, "Reshape", self._cast(graph, probe), self._constant(graph, [-1]))

    def _sizes(self, graph: GraphProto, name: str) -> str:
        shape = self._add(graph, "Shape", name)
        return self._add(graph, "Concat", self._add(graph, "Shape", shape), shape, axis=0)

    def _cast(self, graph: GraphProto, probe: Probe) -> str:
        return self._add(graph, "Cast", probe.name, to=probe.elem_type)

    def _constant(self, graph: GraphProto, values: list[int]) -> str:
        tensor = helper.make_tensor("", TensorProto.INT64, (len(values),), values)
        return self._add(graph, "Constant", value=tensor)

    def _empty(self, graph: GraphProto, kind: int) -> str:
        """A flat tensor without elements, of whose length inference knows nothing."""
        nothing = self._add(graph, "NonZero", self._constant(graph, [0]))
        flat = self._add(graph, "Reshape", nothing, self._constant(graph, [-1]))
        return self._add(graph, "Cast", flat, to=kind)

    def _add(self, graph: GraphProto, op_type: str, *inputs: str, **attributes: Any) -> str:  # noqa: ANN401
        name = self.fresh(op_type.lower())
        graph.node.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def _from_owner(self, graph: GraphProto, node: NodeProto, probes: list[Probe]) -> dict[Probe, str]:
        if node.op_type == "Scan":
            self._become_loop(graph, node)
        hand_out = self._from_if if node.op_type == "If" else self._from_loop
        found: dict[Probe, str] = {}
        for index, (_, body) in enumerate(bodies(node)):
            here = [probe for probe in probes if probe.path[0][1] == index]
            if here:
                inside = [_one_level_in(probe) for probe in here]
                self._level += node.op_type == "Loop"
                made = dict(zip(inside, self.export(body, inside), strict=True))
                names = hand_out(graph, node, body, made)
                self._level -= node.op_type == "Loop"
                found.update((probe, names[step]) for probe, step in zip(here, inside, strict=True))
        return found

    def _become_loop(self, graph: GraphProto, node: NodeProto) -> None:
        before, loop, after = as_loop(node, self.fresh)
        position = _position(graph, node)
        node.CopyFrom(loop)
        for each in reversed(after):
            graph.node.insert(position + 1, each)
        for each in reversed(before):
            graph.node.insert(position, each)

    def _from_if(self, _: GraphProto, node: NodeProto, body: GraphProto, made: Mapping[Probe, str]) -> dict[Probe, str]:
        names = {}
        self._name_all(node, len(body.output))
        for probe, name in made.items():
            for _key, branch in bodies(node):
                branch.output.append(_untyped(name if branch is body else self._empty(branch, probe.elem_type)))
            names[probe] = self.fresh("taken")
            node.output.append(names[probe])
        return names

    def _from_loop(
        self, graph: GraphProto, node: NodeProto, body: GraphProto, made: Mapping[Probe, str]
    ) -> dict[Probe, str]:
        names = {}
        self._name_all(node, len(body.output) - 1)
        for probe, name in made.items():
            if probe.sizes:
                name = self._add(body, "Concat", self._constant(body, [-self._level]), name, axis=0)
            if probe.stacked and not probe.path:
                names[probe] = self._stacked(graph, node, body, name)
            else:
                names[probe] = self._carried(graph, node, body, name, probe.elem_type)
        return names

    def _stacked(self, graph: GraphProto, node: NodeProto, body: GraphProto, name: str) -> str:
        body.output.append(_untyped(name))
        node.output.append(self.fresh("stacked"))
        return self._add(graph, "Reshape", node.output[-1], self._constant(graph, [-1]))

    def _carried(self, graph: GraphProto, node: NodeProto, body: GraphProto, name: str, kind: int) -> str:
        """Carry from step to step what has come so far: states stand before what a Loop stacks."""
        states = len(node.input) - _STEERING
        so_far, collected = self.fresh("so_far"), self.fresh("collected")
        body.input.append(helper.make_tensor_value_info(so_far, kind, [None]))
        body.node.append(helper.make_node("Concat", [so_far, name], [collected], axis=0))
        body.output.insert(1 + states, _untyped(collected))
        node.input.append(self._start(graph, node, kind))
        node.output.insert(states, self.fresh("steps"))
        return str(node.output[states])

    def _start(self, graph: GraphProto, node: NodeProto, kind: int) -> str:
        """An empty tensor made before a node."""
        scratch = GraphProto()
        name = self._empty(scratch, kind)
        for each in scratch.node:
            graph.node.insert(_position(graph, node), each)
        return name

    def _name_all(self, node: NodeProto, count: int) -> None:
        """Give names to trailing outputs that are left out, so that more can follow."""
        while len(node.output) < count:
            node.output.append(self.fresh("unused"))


def _position(graph: GraphProto, node: NodeProto) -> int:
    return next(index for index, each in enumerate(graph.node) if each is node)


def _one_level_in(probe: Probe) -> Probe:
    return replace(probe, path=probe.path[1:])


def _untyped(name: str) -> ValueInfoProto:
    return ValueInfoProto(name=name)
