"""Turned: the transpose of constant weights as weights, so that a projection is seen to be one.

torch.onnx writes a linear layer as a product with Transpose of its parameter; onnxruntime folds that when it opens the
model, after patterns have been looked for.
"""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from ampgraph.onnx_model.attributes import plain_attributes
from ampgraph.onnx_model.fuse.net import Fusion, Net, fresh
from ampgraph.onnx_model.fuse.recipes import Turned

_SWAPPED = (1, 0)


def fuse_turned(net: Net) -> Fusion:
    """Every matrix product with transposed constant weights, as one with constant weights."""
    recipes: dict[str, Turned] = {}
    constants: list[TensorProto] = []
    replaced: dict[str, str] = {}
    turned = [each for each in net.graph.node if _is_turned(net, each)]
    for each in turned:
        source = net.constants[each.input[0]]
        name = fresh(net, f"{each.input[0]}_turned", recipes)
        recipes[name] = Turned(source.name, _SWAPPED, 1)
        constants.append(TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[source.dims[1], source.dims[0]]))
        replaced[each.output[0]] = name
    return Fusion((), replaced, tuple(turned), tuple(constants), recipes)


def _is_turned(net: Net, each: NodeProto) -> bool:
    """Whether a node is a transpose of constant weights that only matrix products read."""
    if each.op_type != "Transpose" or each.domain or each.output[0] in net.fixed:
        return False
    source = each.input[0]
    if not net.is_own_float(source) or len(net.constants[source].dims) != 2:
        return False
    readers = net.readers.get(each.output[0], ())
    products = all(reader.op_type == "MatMul" and reader.input[1] == each.output[0] for reader in readers)
    return products and plain_attributes(each).get("perm", _SWAPPED) == _SWAPPED
