"""Rotary groups: rotary embeddings of several heads as of one wider head.

onnxruntime's kernel runs one block for every head and token, so that wider heads are faster: on one H100, float16,
4 x 512 tokens in 16 heads of 64, 21.4 microseconds with heads of 64 and 12.1 with heads of 256. Heads can stand side by
side where a pair that is turned together lies side by side itself. Halves do after the projection's columns change
places within each head; as queries and keys change alike, their products stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import CONTRIB, Fusion, Net, fresh, node
from ampgraph.onnx_model.fuse.recipes import Paired, Recipe

_WIDEST = 1024  # of a head: threads of a block
_HEADS = (4, 2)  # in a group, best first
_ROTARY = "RotaryEmbedding"


@dataclass(frozen=True)
class _Turned:
    """A rotary embedding and what makes its input: a product and the sum with its bias; none if pairs are adjacent."""

    rotary: NodeProto
    heads: int
    group: int
    projection: tuple[NodeProto, ...]


@dataclass(frozen=True)
class _Draft:
    """New nodes, and constants by name with how they are made."""

    net: Net
    nodes: dict[str, NodeProto]
    constants: dict[str, TensorProto]
    recipes: dict[str, Recipe]


def fuse_rotary_groups(net: Net) -> Fusion:
    """Every rotary embedding of adjacent pairs, and those of halves that the query and the key of an attention read."""
    draft = _Draft(net, {}, {}, {})
    removed: list[NodeProto] = []
    for each in net.graph.node:
        for turned in _found(net, each):
            for old in (*turned.projection, turned.rotary):
                draft.nodes[old.output[0]] = _regrouped(draft, old, turned)
                removed.append(old)
    nodes, constants = tuple(draft.nodes.values()), tuple(draft.constants.values())
    return Fusion(nodes, removed=tuple(removed), constants=constants, merged=draft.recipes)


def _found(net: Net, each: NodeProto) -> Iterable[_Turned]:
    if each.domain != CONTRIB:
        return ()
    if each.op_type == _ROTARY and plain_attributes(each).get("interleaved", 0):
        alone = _grouped(net, each, ())
        return () if alone is None else (alone,)
    # a bias would be added after the turn, and a past would come in the old order
    if each.op_type != "MultiHeadAttention" or any(each.input[3:4]) or any(each.input[6:]) or len(each.output) > 1:
        return ()
    both = [_halves(net, name, each) for name in each.input[:2]]
    heads = plain_attributes(each).get("num_heads")
    found = [turned for turned in both if turned is not None and turned.heads == heads]
    return found if len(found) == 2 else ()


def _halves(net: Net, name: str, reader: NodeProto) -> _Turned | None:
    """A rotary embedding of halves that this node alone reads, with the projection that it alone reads."""
    rotary = _made_for(net, name, reader)
    if rotary is None or rotary.op_type != _ROTARY or plain_attributes(rotary).get("interleaved", 0):
        return None
    product = _made_for(net, rotary.input[0], rotary)
    steps: tuple[NodeProto, ...] = ()
    if product is not None and product.op_type == "Add" and not product.domain:
        bias = _row(net, product)
        steps, value = (product,), next((each for each in product.input if each != bias), "")
        product = _made_for(net, value, product) if bias else None
    if product is None or product.op_type not in ("MatMul", "FusedMatMul") or not _is_light(net, product.input[1], 2):
        return None
    return _grouped(net, rotary, (product, *steps))


def _made_for(net: Net, name: str, reader: NodeProto) -> NodeProto | None:
    """The node that makes a value for nobody but this reader."""
    alone = name not in net.fixed and len(net.readers.get(name, ())) == 1 and list(reader.input).count(name) == 1
    return net.makers.get(name) if alone else None


def _row(net: Net, sum_: NodeProto) -> str:
    """The constant row that is added, "" without."""
    width = net.width(sum_.output[0])
    return next((name for name in sum_.input if net.is_row(name, width) and _is_light(net, name)), "")


def _is_light(net: Net, name: str, axes: int | None = None) -> bool:
    """Whether a constant is float32, lies in the model's own file and has so many axes."""
    light = net.is_own_float(name)
    return light and axes in (None, len(net.constants[name].dims))


def _grouped(net: Net, rotary: NodeProto, projection: tuple[NodeProto, ...]) -> _Turned | None:
    said = plain_attributes(rotary)
    shape, heads = net.shapes.get(rotary.input[0], ()), said.get("num_heads", 0)
    if len(shape) != 3 or not isinstance(heads, int) or heads < 1 or set(said) - {"num_heads", "interleaved"}:
        return None
    size = shape[2] // heads
    group = next((each for each in _HEADS if heads % each == 0 and each * size <= _WIDEST), 1)
    return _Turned(rotary, heads, group, projection) if group > 1 else None


def _regrouped(draft: _Draft, old: NodeProto, turned: _Turned) -> NodeProto:
    """The node again, with its constants in the order of pairs, or the rotary embedding with wider heads."""
    new = NodeProto()
    new.CopyFrom(old)
    if old is turned.rotary:
        del new.attribute[:]
        said = node(old.op_type, (), old.output, num_heads=turned.heads // turned.group, interleaved=1)
        new.attribute.extend(said.attribute)
        new.input[2:4] = [_tiled(draft, name, turned.group) for name in old.input[2:4]]
    elif old.op_type == "Add":
        row = _row(draft.net, old)
        new.input[list(old.input).index(row)] = _paired(draft, row, turned.heads, -1)
    else:
        axis = 0 if plain_attributes(old).get("transB", 0) else 1
        new.input[1] = _paired(draft, old.input[1], turned.heads, axis)
    return new


def _tiled(draft: _Draft, table: str, times: int) -> str:
    """A table of cosines or sines so many times side by side; made once."""
    name = fresh(draft.net, f"{table}_for_{times}_heads")
    if name not in draft.nodes:
        draft.nodes[name] = node("Concat", [table] * times, [name], axis=-1)
    return name


def _paired(draft: _Draft, constant: str, heads: int, axis: int) -> str:
    """A constant with the two that are turned together side by side, in every head."""
    name = fresh(draft.net, f"{constant}_in_pairs", draft.constants)
    dims = draft.net.constants[constant].dims
    draft.constants[name] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    draft.recipes[name] = Paired(constant, heads, axis)
    return name
