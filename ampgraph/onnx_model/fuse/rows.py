"""Rows: every value as a view, with layout changes pulled behind the operators that work row by row.

A matrix product with a constant, and what adds or multiplies a constant row, do the same to every row of their input in
whatever order the rows stand. So they are computed on the view's base, and their result is a view of the new base.
Where a later value turns out to be its base just as it is, the layout changes between the two were for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.known import is_size
from ampgraph.onnx_model.fuse.net import CONTRIB, Array, Net, fresh, node, with_origin
from ampgraph.onnx_model.fuse.recipes import Channels, Columns, Merged, Recipe
from ampgraph.onnx_model.fuse.view import (
    Shape,
    View,
    covers,
    covers_rows,
    is_whole,
    repeated,
    reshaped,
    sliced,
    transposed,
    whole,
    with_rows_of,
)

_TO_THE_END = 2**31 - 1  # the end of a slice from here on is the axis's own
_SWAPPED = (1, 0, 2)  # sequences and tokens
_APART, _GROUPED = 4, 5  # axes of heads, and of heads in groups


@dataclass(frozen=True)
class Draft:
    """Views found so far, and the nodes that would compute their bases. Grows; nothing in it is ever taken back."""

    net: Net
    views: dict[str, View] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)  # of bases
    made: dict[str, NodeProto] = field(default_factory=dict)  # output -> new node, in order
    constants: dict[str, TensorProto] = field(default_factory=dict)
    merged: dict[str, Recipe] = field(default_factory=dict)

    def view(self, name: str) -> View | None:
        """A value's view; it is its own where nothing better is known."""
        found = self.views.get(name)
        if found is None and name in self.net.shapes:
            found = self.views[name] = whole(name, self.net.shapes[name])
            self.shapes.setdefault(name, self.net.shapes[name])
        return found

    def maker(self, base: str) -> NodeProto | None:
        """What makes a base, whether new or the model's own."""
        return self.made.get(base) or self.net.makers.get(base)

    def add(self, new: NodeProto, shape: Shape, *old: NodeProto) -> str:
        """Take in a new node of one output; its output, under a name of its own."""
        name = fresh(self.net, new.output[0], self.made)
        new.output[0] = new.name = name
        self.made[name] = with_origin(new, old)
        self.shapes[name] = shape
        return name

    def reshaped(self, name: str, shape: Shape, *old: NodeProto) -> str:
        """The value in a shape of which only the first size may be free; the value itself where it has that shape."""
        if shape == (self.shapes.get(name) or self.net.shapes.get(name)):
            return name
        sizes = self.integers(f"{name}_shape", (-1, *shape[1:]))
        return self.add(node("Reshape", [name, sizes], [f"{name}_reshaped"]), shape, *old)

    def in_rows(self, view: View, old: NodeProto) -> View:
        """The view of a base (batch, tokens, heads, size) as one of (batch, tokens, width), which lies the same way."""
        shape = self.shapes[view.base]
        if len(shape) != _APART:
            return view
        sizes, together = self.integers(f"{view.base}_together", (0, 0, -1)), (*shape[:2], shape[2] * shape[3])
        return View(
            self.add(node("Reshape", [view.base, sizes], [f"{view.base}_in_rows"]), together, old),
            view.dims,
            view.offset,
        )

    def swapped(self, name: str, old: NodeProto) -> str:
        """A value of three axes with the first two in the other order; made once."""
        known = next((made for made in self.made if self.swapped_of(made) == name), "")
        first, second, width = self.shapes.get(name) or self.net.shapes[name]
        new = node("Transpose", [name], [f"{name}_swapped"], perm=list(_SWAPPED))
        return known or self.add(new, (second, first, width), old)

    def swapped_of(self, name: str) -> str:
        """The value that a new one is with its first two axes in the other order; "" for all else."""
        made = self.made.get(name)
        turned = made is not None and made.op_type == "Transpose" and plain_attributes(made).get("perm") == _SWAPPED
        return str(made.input[0]) if made is not None and turned else ""

    def cut(self, base: str, start: int, size: int, old: NodeProto) -> str:
        """A part of a base's rows as a tensor of its own; the base itself where that is all."""
        if size == self.shapes[base][-1]:
            return base
        name = f"{base}_{start}"
        places = (("start", start), ("end", start + size), ("axis", len(self.shapes[base]) - 1))
        ends = [self.integers(f"{name}_{key}", [place]) for key, place in places]
        return self.add(node("Slice", [base, *ends], [name]), (*self.shapes[base][:-1], size), old)

    def integers(self, name: str, values: Iterable[int]) -> str:
        """Take in a constant of integers; its name."""
        name = fresh(self.net, name, self.constants)
        self.constants[name] = numpy_helper.from_array(np.array(list(values), np.int64), name)
        return name

    def table(self, name: str, values: Array) -> str:
        """Take in a constant of numbers; its name."""
        name = fresh(self.net, name, self.constants)
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def vector(self, name: str) -> str:
        """Take in a constant that is another one in one axis."""
        made = fresh(self.net, f"{name}_vector", self.constants)
        size = math.prod(self.net.constants[name].dims)
        self.constants[made] = TensorProto(name=made, data_type=TensorProto.FLOAT, dims=[size])
        self.merged[made] = Channels(name, 0)
        return made

    def columns(self, name: str, start: int, size: int) -> str:
        """Take in a constant that is a part of another one's last axis; the other one itself where that is all."""
        dims = list(self.net.constants[name].dims)
        if (start, size) == (0, dims[-1]):
            return name
        made = fresh(self.net, f"{name}_{start}_{size}", self.constants)
        self.constants[made] = TensorProto(name=made, data_type=TensorProto.FLOAT, dims=[*dims[:-1], size])
        self.merged[made] = Columns(name, start, size)
        return made

    def join(self, names: tuple[str, ...], width: int, axis: int) -> str:
        """Take in a constant that is others side by side, "" for zeros of that width; its name, "" if it cannot be."""
        tensors = [self.net.constants[name] for name in names if name]
        apart = any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors)
        if apart or not all(self.net.is_float(name) for name in names if name):
            return ""
        name = fresh(self.net, "_".join(filter(None, names)) or "zeros", self.constants)
        dims = list(tensors[0].dims) if tensors else [width]
        dims[axis] = width * len(names)
        self.constants[name] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
        self.merged[name] = Merged(names, width, axis)
        return name


Read = Callable[[Draft, NodeProto, View], View | None]


def view_of(draft: Draft, each: NodeProto) -> None:
    """Enter the views of a node's outputs."""
    read = _READS.get(each.op_type) if each.domain in ("", "ai.onnx") else None
    if read is None or not each.input:
        return
    slot = _moving(draft, each)
    view = draft.view(each.input[slot])
    found = read(draft, each, view) if view is not None else None
    if found is not None and found.shape == draft.net.shapes.get(each.output[0]):
        draft.views[each.output[0]] = found


def replacements(draft: Draft) -> Mapping[str, str]:
    """Values that are another value just as it is."""
    return {
        name: view.base
        for name, view in draft.views.items()
        if name != view.base and name not in draft.net.fixed and is_whole(view, draft.shapes[view.base])
    }


def copies(draft: Draft) -> list[NodeProto]:
    """Values that must keep their names, and are what a new node makes just as it is: as copies of that."""
    made = []
    for name, view in draft.views.items():
        old = draft.net.makers.get(name)
        new = view.base in draft.made and name in draft.net.fixed and is_whole(view, draft.shapes[view.base])
        if new and old is not None and len(old.output) == 1:
            made.append(with_origin(node("Identity", [view.base], [name]), [old]))
    return made


def _moving(draft: Draft, each: NodeProto) -> int:
    """The input slot that is not the constant, since products and sums commute, or that is not empty."""
    if each.op_type == "Concat":
        return next((slot for slot, name in enumerate(each.input) if 0 not in (draft.net.sizes(name) or ())), 0)
    return 1 if each.op_type in ("Add", "Mul") and each.input[0] in draft.net.constants else 0


# moving data


def _identity(draft: Draft, each: NodeProto, view: View) -> View | None:
    return view


def _alone(draft: Draft, each: NodeProto, view: View) -> View | None:
    """What is joined with nothing, as the rest of heads that are turned whole."""
    some = [name for name in each.input if 0 not in (draft.net.sizes(name) or ())]
    return view if len(some) == 1 else None


def _transpose(draft: Draft, each: NodeProto, view: View) -> View | None:
    order = plain_attributes(each).get("perm")
    return transposed(view, [int(each) for each in order] if isinstance(order, tuple) else range(len(view.dims))[::-1])


def _reshape(draft: Draft, each: NodeProto, view: View) -> View | None:
    shape = draft.net.shapes.get(each.output[0])
    return None if shape is None else reshaped(view, shape)


def _squeeze(draft: Draft, each: NodeProto, view: View) -> View | None:
    """Where no axes are named, those of 1 go, and a free one may be such."""
    named = len(each.input) > 1 or "axes" in plain_attributes(each)
    return _reshape(draft, each, view) if named or None not in (draft.net.sizes(each.input[0]) or (None,)) else None


def _repeat(draft: Draft, each: NodeProto, view: View) -> View | None:
    """Heads of keys and values, each once for every query head of its group: (batch, heads, 1, tokens, size)."""
    shape = draft.net.shapes.get(each.output[0], ())
    if len(view.dims) != _GROUPED or view.shape != (*shape[:2], 1, *shape[3:]):
        return None
    return repeated(view, 2, shape[2])


def _gather(draft: Draft, each: NodeProto, view: View) -> View | None:
    index = draft.net.values(each.input[1])
    if index is None or index.ndim:
        return None
    axis = _axis(each, view)
    if not view.shape[axis]:
        return None
    found = sliced(view, axis, int(index) % view.shape[axis], 1)
    return None if found is None else View(found.base, found.dims[:axis] + found.dims[axis + 1 :], found.offset)


def _pick(draft: Draft, each: NodeProto, view: View) -> View | None:
    """One place of the first axis, which stays, as exporters write an index in brackets."""
    index = draft.net.values(each.input[1])
    if index is None or index.shape != (1, 1) or plain_attributes(each).get("batch_dims", 0) or not view.shape[0]:
        return None
    return sliced(view, 0, int(index[0, 0]) % view.shape[0], 1)


def _slice(draft: Draft, each: NodeProto, view: View) -> View | None:
    shape = draft.net.shapes.get(each.output[0])
    given = [draft.net.values(name) if name else None for name in each.input[1:]]
    if shape is None or len(given) < 3 or any(each is None or each.size != 1 for each in given):
        return None
    start, end, axis, *steps = (int(each.reshape(-1)[0]) for each in given if each is not None)
    if steps not in ([], [1]) or (shape[axis] == view.shape[axis] and not _takes_all(draft.net, each, axis, end)):
        return None
    size = view.shape[axis]
    return sliced(view, axis % len(view.dims), max(start + size, 0) if start < 0 else start, shape[axis])


def _takes_all(net: Net, each: NodeProto, axis: int, end: int) -> bool:
    """Whether a slice that takes an axis whole does at any size: a bound may lie beyond those that are looked at."""
    sizes = net.sizes(each.input[0])
    if sizes is not None and sizes[axis] is not None:
        return True
    start = net.constants.get(each.input[1])
    if start is None or numpy_helper.to_array(start).any():
        return False
    return end >= _TO_THE_END if each.input[2] in net.constants else _is_own_size(net, each, axis)


def _is_own_size(net: Net, each: NodeProto, axis: int) -> bool:
    """Whether a slice ends at the size of its own axis at both sizes that are looked at, where others move apart."""
    if not is_size(net, each.input[2]):
        return False
    for results, shapes in ((net.computed, net.shapes), (net.elsewhere, net.others)):
        end, shape = results.get(each.input[2]), shapes.get(each.input[0])
        if end is None or shape is None or int(end.reshape(-1)[0]) != shape[axis]:
            return False
    return True


def _split(draft: Draft, each: NodeProto, view: View) -> View | None:
    """Enters all its outputs; the first is the caller's."""
    axis, start = _axis(each, view), 0
    views: list[View | None] = []
    for name in each.output:
        shape = draft.net.shapes.get(name)
        if shape is None:
            return None
        views.append(sliced(view, axis, start, shape[axis]))
        start += shape[axis]
    for name, found in zip(each.output[1:], views[1:], strict=True):
        if found is not None:
            draft.views[name] = found
    return views[0]


def _axis(each: NodeProto, view: View) -> int:
    axis = plain_attributes(each).get("axis", 0)
    return int(axis) % len(view.dims) if isinstance(axis, int) else 0


# working row by row


def _product(draft: Draft, each: NodeProto, view: View) -> View | None:
    weight = draft.net.constants.get(each.input[1])
    shape = draft.shapes[view.base]
    if weight is None or len(weight.dims) != 2 or not covers_rows(view, shape) or is_whole(view, shape):
        return None
    new = node("MatMul", [view.base, each.input[1]], [f"{each.output[0]}_rows"])
    return _computed(draft, each, view, new, weight.dims[1])


def _gemm(draft: Draft, each: NodeProto, view: View) -> View | None:
    said = plain_attributes(each)
    weight, shape = draft.net.constants.get(each.input[1]), draft.shapes[view.base]
    plain = said.get("alpha", 1.0) == said.get("beta", 1.0) == 1.0 and not said.get("transA", 0)
    if weight is None or not plain or not covers_rows(view, shape) or (is_whole(view, shape) and len(shape) < 3):
        return None
    turned = int(bool(said.get("transB", 0)))
    width = weight.dims[1 - turned]
    bias = each.input[2] if len(each.input) > 2 else ""
    if bias and not draft.net.is_row(bias, width):
        return None
    name = f"{each.output[0]}_rows"
    if turned:
        new = node("FusedMatMul", [view.base, each.input[1]], [name], CONTRIB, transB=1)
    else:
        new = node("MatMul", [view.base, each.input[1]], [name])
    found = _computed(draft, each, view, new, width)
    return _computed(draft, each, found, node("Add", [found.base, bias], [name]), width) if bias else found


def _row(draft: Draft, each: NodeProto, view: View) -> View | None:
    """A sum or product with a constant row or number; that of a number is the same of whatever order of elements."""
    other = next((name for name in each.input if name in draft.net.constants), "")
    shape = draft.shapes[view.base]
    if not other or is_whole(view, shape):
        return None
    fits = draft.net.is_row(other, shape[-1]) if shape and covers_rows(view, shape) else False
    if not fits and (draft.net.scalar(other) is None or not covers(view, shape)):
        return None
    if len(draft.net.constants[other].dims) > len(shape):  # the result would have more axes than the base
        return None
    new = node(each.op_type, [view.base, other], [f"{each.output[0]}_rows"])
    return replace(view, base=draft.add(new, shape, each))


def _computed(draft: Draft, old: NodeProto, view: View, new: NodeProto, width: int) -> View:
    shape = draft.shapes[view.base]
    base = draft.add(new, (*shape[:-1], width), old)
    return with_rows_of(view, base, shape[-1], width)


_READS: Mapping[str, Read] = {
    "Identity": _identity,
    "Concat": _alone,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Unsqueeze": _reshape,
    "Squeeze": _squeeze,
    "Expand": _repeat,
    "Gather": _gather,
    "GatherND": _pick,
    "Slice": _slice,
    "Split": _split,
    "MatMul": _product,
    "Gemm": _gemm,
    "Add": _row,
    "Mul": _row,
}
