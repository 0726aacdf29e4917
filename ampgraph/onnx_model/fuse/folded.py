"""Folded: small numbers that constants alone decide, as constants, where patterns ask for one.

torch.onnx's older exporter writes down what a module does to its parameters: Swin V2 sets the bias of its keys to zero
and bounds its factors each time it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from onnx import ModelProto, TensorProto, numpy_helper

from ampgraph.onnx_model.fuse.known import computed, following
from ampgraph.onnx_model.fuse.net import Fusion, Net, Source, has_data, read, rewritten
from ampgraph.onnx_model.types import infer, types_in, weightless

_LARGEST = 2**16  # elements of one
_FLOAT = "float32"


def with_folded(model: ModelProto, weights: Mapping[str, TensorProto]) -> ModelProto:
    """The model with every small value of float32 that small constants decide as one, where something else reads it.

    `weights`: initializers with the data that the model, a skeleton, may lack.
    """
    net = read(model, {}, {}, source=Source(weights))
    if not decided(net):
        return model
    known = types_in(infer(weightless(model), {}).graph)
    shapes = {name: each.shape for name, each in known.items() if each.shape is not None and None not in each.shape}
    return rewritten(model, [folded(replace(net, shapes=shapes))])


def folded(net: Net) -> Fusion:
    """Those constants, and the nodes that they stand for."""
    sure = {name for name in decided(net) if 0 < prod(net.shapes.get(name, (0,))) <= _LARGEST}
    read = {name for name in sure if any(sure.isdisjoint(each.output) for each in net.readers.get(name, ()))}
    wanted = sorted(name for name in read - net.fixed if len(net.makers[name].output) == 1)
    found = {name: array for name, array in computed(net, wanted).items() if str(array.dtype) == _FLOAT}
    constants = tuple(numpy_helper.from_array(array, name) for name, array in found.items())
    return Fusion((), removed=tuple(net.makers[name] for name in found), constants=constants)


def decided(net: Net) -> set[str]:
    """Values that small constants decide."""
    small = [name for name, tensor in net.constants.items() if prod(tensor.dims) <= _LARGEST and _is_here(net, tensor)]
    return following(net, small) - net.constants.keys() - {""}


def _is_here(net: Net, tensor: TensorProto) -> bool:
    """Whether a constant's elements are in the model's own file."""
    full = tensor if has_data(tensor) else net.source.weights.get(tensor.name)
    return full is not None and full.data_location != TensorProto.EXTERNAL and has_data(full)
