"""A Scan as the Loop that computes the same: a Loop can hand out values whose shape changes from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

Fresh = Callable[[str], str]


def as_loop(node: NodeProto, fresh: Fresh) -> tuple[list[NodeProto], NodeProto, list[NodeProto]]:
    """What stands before the Loop, the Loop, and what follows it. `fresh` makes value names.

    `node` is a Scan of opset 9 or later. The Loop's body is a copy of its own.
    """
    said = {attribute.name: attribute for attribute in node.attribute}
    body, scanned = GraphProto(), said["num_scan_inputs"].i
    body.CopyFrom(said["body"].g)
    states = len(node.input) - scanned
    axes = _listed(said.get("scan_input_axes"), scanned)
    backwards = _listed(said.get("scan_input_directions"), scanned)
    count, before = _trip_count(node.input[states], axes[0], fresh)
    _read_by_step(body, node.input[states:], list(zip(axes, backwards, strict=True)), count, fresh)
    condition = fresh("condition")
    body.output.insert(0, helper.make_tensor_value_info(condition, TensorProto.BOOL, ()))
    body.node.append(_constant(condition, TensorProto.BOOL, (), [True]))
    outputs, after = _arranged(node, said, fresh)
    loop = helper.make_node("Loop", [count, "", *node.input[:states]], outputs, name=node.name, body=body)
    return before, loop, after


def _listed(attribute: AttributeProto | None, count: int) -> list[int]:
    return list(attribute.ints) if attribute is not None and attribute.ints else [0] * count


def _trip_count(scanned: str, axis: int, fresh: Fresh) -> tuple[str, list[NodeProto]]:
    shape, place, count = fresh("shape"), fresh("axis"), fresh("count")
    nodes = [
        helper.make_node("Shape", [scanned], [shape]),
        _constant(place, TensorProto.INT64, (), [axis]),
        helper.make_node("Gather", [shape, place], [count], axis=0),
    ]
    return count, nodes


def _read_by_step(
    body: GraphProto, scanned: Sequence[str], ways: Sequence[tuple[int, int]], count: str, fresh: Fresh
) -> None:
    """Make the body read its slices of the scanned tensors by itself, in place."""
    step, running = fresh("step"), fresh("running")
    slices = list(body.input)[len(body.input) - len(scanned) :]
    states = list(body.input)[: len(body.input) - len(scanned)]
    nodes = []
    for value, source, (axis, backwards) in zip(slices, scanned, ways, strict=True):
        nodes += _slice(source, value.name, axis, step, count if backwards else "", fresh)
    kept, inputs = (
        list(body.node),
        [
            helper.make_tensor_value_info(step, TensorProto.INT64, ()),
            helper.make_tensor_value_info(running, TensorProto.BOOL, ()),
            *states,
        ],
    )
    del body.node[:], body.input[:]
    body.node.extend([*nodes, *kept])
    body.input.extend(inputs)


def _slice(source: str, name: str, axis: int, step: str, count: str, fresh: Fresh) -> list[NodeProto]:
    """The slice of a step; `count` is given where the steps go backwards."""
    nodes, place = [], step
    if count:
        one, last, place = fresh("one"), fresh("last"), fresh("place")
        nodes = [
            _constant(one, TensorProto.INT64, (), [1]),
            helper.make_node("Sub", [count, one], [last]),
            helper.make_node("Sub", [last, step], [place]),
        ]
    return [*nodes, helper.make_node("Gather", [source, place], [name], axis=axis)]


def can_be_loop(node: NodeProto) -> bool:
    """Whether it is known how many axes stacked outputs have, where they go to another axis than the first."""
    said = {attribute.name: attribute for attribute in node.attribute}
    if "num_scan_inputs" not in said or len(said["body"].g.input) != len(node.input):  # opset 8: over batches
        return False
    stacked = _stacked(node, said)
    axes = _listed(said.get("scan_output_axes"), len(stacked))
    return all(not axis or _rank(said["body"].g, index) for index, axis in zip(stacked, axes, strict=True))


def _stacked(node: NodeProto, said: dict[str, AttributeProto]) -> range:
    return range(len(node.input) - said["num_scan_inputs"].i, len(said["body"].g.output))


def _rank(body: GraphProto, index: int) -> int:
    """Axes of a body output with the steps', 0 where unknown."""
    kind = body.output[index].type.tensor_type
    return len(kind.shape.dim) + 1 if kind.HasField("shape") else 0


def _arranged(node: NodeProto, said: dict[str, AttributeProto], fresh: Fresh) -> tuple[list[str], list[NodeProto]]:
    """Names of the Loop's outputs, and the nodes that give stacked ones the axis and direction of the Scan's."""
    stacked = _stacked(node, said)
    axes = _listed(said.get("scan_output_axes"), len(stacked))
    backwards = _listed(said.get("scan_output_directions"), len(stacked))
    outputs = list(node.output)
    after: list[NodeProto] = []
    for index, axis, backward in zip(stacked, axes, backwards, strict=True):
        if axis or backward:
            rank = _rank(said["body"].g, index)
            place = (axis % rank, rank) if axis else (0, 1)
            outputs[index], nodes = _restacked(outputs[index], place, bool(backward), fresh)
            after += nodes
    return outputs, after


def _restacked(name: str, place: tuple[int, int], backward: bool, fresh: Fresh) -> tuple[str, list[NodeProto]]:
    """A name for what the Loop stacks along the first axis, and nodes that bring it to the axis `place`, of a rank."""
    axis, rank = place
    steps: list[Callable[[str, str], list[NodeProto]]] = []
    if backward:
        steps.append(lambda source, target: _reversed(source, target, fresh))
    if axis:
        order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
        steps.append(lambda source, target: [helper.make_node("Transpose", [source], [target], perm=order)])
    names = [*(fresh("stacked") for _ in steps), name]
    return names[0], [each for step, ends in zip(steps, pairwise(names), strict=True) for each in step(*ends)]


def _reversed(source: str, target: str, fresh: Fresh) -> list[NodeProto]:
    bounds = {"starts": -1, "ends": -(2**63), "axes": 0, "steps": -1}
    names = [fresh(key) for key in bounds]
    constants = [
        _constant(name, TensorProto.INT64, (1,), [number]) for name, number in zip(names, bounds.values(), strict=True)
    ]
    return [*constants, helper.make_node("Slice", [source, *names], [target])]


def _constant(name: str, kind: int, shape: tuple[int, ...], values: list[int] | list[bool]) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=helper.make_tensor("", kind, shape, values))
