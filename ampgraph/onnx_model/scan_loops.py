"""A Scan as the Loop that computes the same: a Loop can hand out values whose shape changes from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    outputs, after = _arranged(node, said, states, fresh)
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
    kept, inputs = list(body.node), [
        helper.make_tensor_value_info(step, TensorProto.INT64, ()),
        helper.make_tensor_value_info(running, TensorProto.BOOL, ()),
        *states,
    ]
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


def _arranged(
    node: NodeProto, said: dict[str, AttributeProto], states: int, fresh: Fresh
) -> tuple[list[str], list[NodeProto]]:
    """Names of the Loop's outputs, and the nodes that give stacked ones the axis and direction of the Scan's."""
    outputs, after = list(node.output), []
    stacked = len(outputs) - states
    axes = _listed(said.get("scan_output_axes"), stacked)
    backwards = _listed(said.get("scan_output_directions"), stacked)
    for index, (axis, backward) in enumerate(zip(axes, backwards, strict=True), states):
        if outputs[index] and (axis or backward):
            name, outputs[index] = outputs[index], fresh("stacked")
            after += _restacked(outputs[index], name, axis, bool(backward), fresh)
    return outputs, after


def _restacked(stacked: str, name: str, axis: int, backward: bool, fresh: Fresh) -> list[NodeProto]:
    """Steps in the first axis of `stacked`, brought into their order and to their axis.

    Both go through a sequence, since neither the rank nor the number of steps need be known.
    """
    raise NotImplementedError
