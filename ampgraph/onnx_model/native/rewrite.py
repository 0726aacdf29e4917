"""Rewrite: a model's float16 convolutions and what goes with them as operators of ampgraph's own, channels last.

As onnxruntime's own optimizers do when a session opens: the file stays what it is. A Transpose stands only where such
a stretch begins or ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.elsewhere import elsewhere
from ampgraph.onnx_model.fuse.net import Array, Net, Source, copy_without, fresh, node, read, with_origin
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.native.between import LAST, between, wanted_with_channels_last
from ampgraph.onnx_model.native.inferred import kinds_of, shapes_of
from ampgraph.onnx_model.native.lines import as_images, has_lines
from ampgraph.onnx_model.native.search import steps_of
from ampgraph.onnx_model.native.step import DOMAIN, Slot, Step
from ampgraph.onnx_model.native.wide import widened
from ampgraph.onnx_model.prepare import captured, in_order
from ampgraph.onnx_model.types import bodies, fixed_size, modelled_inputs

FIRST, TURNED = (0, 3, 1, 2), (0, 2, 1)
_CONVOLUTIONS = ("Conv", "ConvTranspose")
Convolutions = Literal["any", "most", "none"]
_FEW, _SOME = 1, 2  # of our convolutions for each change of layout beside others, and where there are no others
_AROUND = 2


@dataclass(frozen=True)
class Rewritten:
    """A model with operators of ampgraph's own, and how many of each; attentions that were taken apart, too."""

    model: ModelProto
    counts: Mapping[str, int]


def rewrite(
    model: ModelProto,
    shapes: Mapping[str, Shape],
    *,
    convolutions: Convolutions = "any",
    products: bool = True,
    norms: bool = True,
) -> Rewritten | None:
    """The model with what our kernels compute; None where that is nothing. `shapes`: of inputs, as far as known.

    Convolutions and products time several ways on the first run of new sizes, about half a second for each.
    `convolutions`: with "none" a model is left as it is where ours would compute one, with "most" where they would
    leave float16 ones to others and images were turned for them time and again. `norms`: also normalizations and
    copies of rows that save no launch.
    """
    if convolutions != "none":
        lines = has_lines(model)
        other = widened(as_images(model, shapes_of(model, modelled_inputs(model, shapes))) if lines else model)
        found = _rewritten(other, shapes, convolutions, products, norms) if other is not model else None
        if found is not None:
            return found
    return _rewritten(model, shapes, convolutions, products, norms)


def _rewritten(
    model: ModelProto, shapes: Mapping[str, Shape], convolutions: Convolutions, products: bool, norms: bool
) -> Rewritten | None:
    sizes = modelled_inputs(model, shapes)
    one = shapes_of(model, sizes)
    other = elsewhere(model, sizes, partial(shapes_of, model), len, len(one))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    net = read(model, one, {}, other, Source(weights, kinds=kinds_of(model, sizes)))
    steps = steps_of(net, products, norms)
    ours = {name for step in steps.values() for old in step.old if old.op_type in _CONVOLUTIONS for name in old.output}
    if not steps or (ours and convolutions == "none"):
        return None
    built = _built(model, net, steps, has_known_sizes(model, shapes))
    if ours and convolutions == "most" and not _are_most(net, ours, built):
        return None
    counts = Counter(each.op_type for each in built.graph.node if each.domain == DOMAIN)
    counts.update(step.op for step in steps.values() if step.domain not in ("", DOMAIN))
    return Rewritten(built, counts)


def _are_most(net: Net, ours: Collection[str], built: ModelProto) -> bool:
    """Whether images are seldom turned. `ours`: what our convolutions make.

    Where float16 ones are left to others, 17 of ours and 13 turns take ShuffleNetV2 from 1.03 to 0.85 ms on an H200.
    """
    low = {
        node.output[0]
        for node in net.graph.node
        if node.op_type in _CONVOLUTIONS and net.source.kinds.get(node.output[0]) == TensorProto.FLOAT16
    }
    turned = sum(node.op_type == "Transpose" and _order(node) in (LAST, FIRST) for node in built.graph.node)
    if low.issubset(ours):  # the runtime's own turn images where they come in and go out, too
        return bool(_SOME * (turned - _AROUND) <= len(ours))
    return bool(_FEW * turned <= len(ours))


def has_known_sizes(model: ModelProto, shapes: Mapping[str, Shape]) -> bool:
    """Whether each input has one shape alone: declared, or among `shapes`."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return all(value.name in shapes or value.name in weights or _is_fixed(value) for value in model.graph.input)


def _is_fixed(value: ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and None not in map(fixed_size, tensor.shape.dim)


@dataclass
class _Building:
    """What a rewritten graph is made of. Grows."""

    net: Net
    wanted: frozenset[str] = frozenset()  # images that are better made with channels last
    settled: bool = False  # whether no size can be another
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    laid: dict[str, dict[str, Array]] = field(default_factory=dict)  # by the weights' name, what was made of them
    last: dict[str, str] = field(default_factory=dict)  # values -> their like with channels last
    first: set[str] = field(default_factory=set)  # those among them that are there as they were, too
    taken: set[str] = field(default_factory=set)

    def fresh(self, name: str) -> str:
        name = fresh(self.net, name, self.taken)
        self.taken.add(name)
        return name


def _built(model: ModelProto, net: Net, steps: Mapping[str, Step], settled: bool) -> ModelProto:
    building = _Building(net, wanted_with_channels_last(net, tuple(steps.values())), settled)
    gone = {id(old): step for step in steps.values() for old in step.old}
    places = {id(each): place for place, each in enumerate(net.graph.node)}
    ends: dict[int, list[Step]] = {}
    for step in steps.values():
        if step.old:
            ends.setdefault(id(max(step.old, key=lambda old: places[id(old)])), []).append(step)
    makes = {step.output: step for step in steps.values()}
    for each in net.graph.node:
        for step in ends.get(id(each), ()):
            before = makes.get(step.inputs[0].name)
            if before is not None and not before.old:  # an image with more channels, means
                _add(building, before)
            _add(building, step)
        if id(each) not in gone:
            _keep(building, each)
    for value in net.graph.output:
        _as_it_was(building, value.name)
    _name_outputs(building)
    return _written(model, building)


def _add(building: _Building, step: Step) -> None:
    if step.output in building.taken:
        return
    inputs = [_input(building, slot) for slot in step.inputs]
    while inputs and not inputs[-1]:
        inputs.pop()
    output = building.fresh(f"{step.output}_last") if step.last else step.output
    if step.last:
        building.last[step.output] = output
    else:
        building.taken.add(output)
    new = node(step.op, inputs, [output, *step.further], step.domain, **step.attributes)
    building.nodes.append(with_origin(new, step.old))


def _input(building: _Building, slot: Slot) -> str:
    if slot.array is not None:
        return _constant(building, slot)
    if slot.image:
        return _with_channels_last(building, slot.name)
    _as_it_was(building, slot.name)
    return slot.name


def _constant(building: _Building, slot: Slot) -> str:
    """The constant, once for all that lay the same weights the same way."""
    assert slot.array is not None
    like = building.laid.setdefault(slot.name, {})
    for name, array in like.items():
        if array.dtype == slot.array.dtype and np.array_equal(array, slot.array):
            return name
    name = building.fresh(f"{slot.name}_laid")
    like[name] = slot.array
    building.constants[name] = slot.array
    return name


def _with_channels_last(building: _Building, name: str) -> str:
    if name not in building.last:
        before = building.net.maker(name, "Transpose")
        if before is not None and _order(before) == FIRST:
            building.last[name] = before.input[0]
        else:
            building.last[name] = building.fresh(f"{name}_last")
            rows = _rows_of(building.net, name)
            if _is_point(building.net, name):
                new = _reshaped(building, name, building.last[name], (0, 1, 1, -1))
            elif rows is None:
                new = node("Transpose", [name], [building.last[name]], perm=LAST)
            else:
                new = _reshaped(building, rows[0], building.last[name], rows[1])
            building.nodes.append(new)
        building.first.add(name)
    return building.last[name]


def _rows_of(net: Net, name: str) -> tuple[str, Shape] | None:
    """The rows (N, H * W, C) that an image is made of, turned and reshaped, and what they are reshaped to instead."""
    reshape = net.maker(name, "Reshape")
    turn, sizes = net.maker(reshape.input[0], "Transpose") if reshape is not None else None, net.sizes(name)
    if turn is None or _order(turn) != TURNED or sizes is None or len(sizes) != len(LAST) or None in sizes[1:]:
        return None
    rows, (_, channels, height, width) = turn.input[0], sizes
    assert channels is not None and height is not None and width is not None  # noqa: PT018
    if not _are_rows_of(net, rows, name):
        return None
    return rows, (0, height, width, channels)


def _are_rows_of(net: Net, rows: str, image: str) -> bool:
    """Whether a value's sizes are N, H * W, C of an image's N, C, H, W, whatever the free ones are."""
    sizes = [(shapes.get(rows), shapes.get(image)) for shapes in (net.shapes, net.others)]
    return all(
        one is not None and of is not None and len(of) == len(LAST) and one == (of[0], of[2] * of[3], of[1])
        for one, of in sizes
    )


def _reshaped(building: _Building, name: str, output: str, shape: Shape) -> NodeProto:
    constant = building.fresh(f"{output}_shape")
    building.constants[constant] = np.array(shape, np.int64)
    return node("Reshape", [name, constant], [output])


def _keep(building: _Building, each: NodeProto) -> None:
    """A node that stays; a change of layout that is undone goes."""
    if each.op_type == "Transpose" and not each.domain and each.input[0] in building.last and _order(each) == LAST:
        building.nodes.append(node("Identity", [building.last[each.input[0]]], each.output))
        return
    image = _turned_image(building.net, each)
    if image in building.last:
        channels = building.net.shapes[image][1]
        building.nodes.append(_reshaped(building, building.last[image], each.output[0], (0, -1, channels)))
        return
    if _turn(building, each) or _settle(building, each):
        return
    for name in (*each.input, *_captured(each)):
        _as_it_was(building, name)
    building.nodes.append(each)


def _turn(building: _Building, each: NodeProto) -> bool:
    """A node between ours with channels last, where that is how most of its images lie and its own is wanted so."""
    found = between(building.net, each)
    if found is None or (found.last and building.wanted.isdisjoint(each.output)):
        return False
    lying = [name for name in found.images if name in building.last and name not in building.first]
    others = [name for name in found.images if name not in building.last and not _is_point(building.net, name)]
    if not lying or len(others) > len(lying):
        return False
    inputs = [_input(building, slot) for slot in found.inputs]
    outputs = [building.fresh(f"{name}_last") for name in each.output] if found.last else list(each.output)
    if found.last:
        building.last.update(zip(each.output, outputs, strict=True))
    new = node(found.op, inputs, outputs, found.domain, **found.attributes)
    building.nodes.append(with_origin(new, (each,)))
    return True


def _settle(building: _Building, each: NodeProto) -> bool:
    """A shape that cannot be another as a constant: behind our operators the runtime knows none, and cannot fold it.

    On one H200 PP-OCR rec and cls, which compute with shapes, had no CUDA graph with ours. The likely cause: with
    channels last the runtime's optimizer puts a Gather behind such a Shape, on the GPU, to which it has to be copied.
    """
    shape = building.net.shapes.get(each.input[0]) if each.op_type == "Shape" and not each.domain else None
    if not building.settled or shape is None or each.output[0] in building.net.fixed:
        return False
    ends = {entry.name: entry.i for entry in each.attribute}
    building.constants[each.output[0]] = np.array(shape[ends.get("start") : ends.get("end")], np.int64)
    return True


def _is_point(net: Net, name: str) -> bool:
    """Whether an image has one pixel, which lies the same way in either order."""
    return all(
        len(shapes.get(name, ())) == len(LAST) and shapes[name][2:] == (1, 1) for shapes in (net.shapes, net.others)
    )


def _turned_image(net: Net, each: NodeProto) -> str:
    """The image that a Transpose makes rows (N, H * W, C) of, after a Reshape; "" for others."""
    flat = net.maker(each.input[0], "Reshape") if each.op_type == "Transpose" and _order(each) == TURNED else None
    sizes = net.sizes(flat.input[0]) if flat is not None else None
    is_image = flat is not None and sizes is not None and len(sizes) == len(LAST) and sizes[1] is not None
    return flat.input[0] if is_image and flat is not None and _are_rows_of(net, each.output[0], flat.input[0]) else ""


def _captured(each: NodeProto) -> Iterator[str]:
    for _, body in bodies(each):
        yield from captured(body)


def _order(each: NodeProto) -> tuple[int, ...]:
    return tuple(plain_attributes(each).get("perm", ()))  # type: ignore[arg-type]


def _as_it_was(building: _Building, name: str) -> None:
    if name in building.last and name not in building.first:
        building.first.add(name)
        if _is_point(building.net, name):
            building.nodes.append(_reshaped(building, building.last[name], name, (0, -1, 1, 1)))
        else:
            building.nodes.append(node("Transpose", [building.last[name]], [name], perm=FIRST))


def _name_outputs(building: _Building) -> None:
    """Outputs are made under their own names: the runtime would copy each that an Identity makes."""
    outputs = {value.name for value in building.net.graph.output}
    made = {name for each in building.nodes if each.domain == DOMAIN for name in each.output}
    made &= set(building.last.values())  # bodies know none of these
    for each in [each for each in building.nodes if each.op_type == "Identity" and not each.domain]:
        name, new = each.input[0], each.output[0]
        if new in outputs and name in made and name not in outputs:
            building.nodes = [_renamed(other, name, new) for other in building.nodes if other is not each]
            made.discard(name)


def _renamed(node: NodeProto, old: str, new: str) -> NodeProto:
    if old not in (*node.input, *node.output):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        for place, name in enumerate(names):
            if name == old:
                names[place] = new
    return copy


def _live(building: _Building) -> list[NodeProto]:
    """The nodes that something needs: casts and changes of layout before our operators are needed no more.

    In order: a step stands where the last node does that it stands for, which others of its outputs may be read before.
    """
    wanted = {value.name for value in building.net.graph.output}
    found = []
    for each in reversed(in_order(building.nodes)):
        if not wanted.isdisjoint(each.output):
            found.append(each)
            wanted.update(each.input)
            wanted.update(_captured(each))
    return found[::-1]


def _written(model: ModelProto, building: _Building) -> ModelProto:
    new = copy_without(model, "node", "initializer", "value_info")
    graph = new.graph
    graph.node.extend(_live(building))
    used = {name for each in graph.node for name in each.input} | {value.name for value in graph.output}
    used |= {name for each in graph.node for name in _captured(each)}
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    for name, array in building.constants.items():
        tensor = graph.initializer.add(
            name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype)
        )
        tensor.raw_data = array.tobytes()
    made = {name for each in graph.node for name in each.output}
    graph.value_info.extend(value for value in model.graph.value_info if value.name in made)
    new.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return new
