"""Preferences: what can be read off a model about the session that runs it fastest, where nobody measures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onnx import ModelProto, NodeProto, TensorProto

from ampgraph.onnx_model.attributes import constant_tensor
from ampgraph.onnx_model.fuse.net import ORIGIN_KEY
from ampgraph.onnx_model.names import walk
from ampgraph.onnx_model.types import bodies

Dims = tuple[int, ...]
CONVOLUTIONS = ("Conv", "ConvTranspose")
_LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_IMAGE_RANK, _LINE_RANK = 4, 3  # axes of the weights
_VECTOR, _SEVERAL = 8, 8  # channels that tensor cores want at least, convolutions that decide where others are few
_PRODUCTS = ("MatMul", "Gemm", "Einsum", "Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention")


def prefers_tf32(model: ModelProto, cuda_graph: bool) -> bool:
    """Whether float32 products are faster in TF32: all but those of small models of sound run without CUDA graphs.

    cuDNN's TF32 kernels of convolutions along one axis ask for another layout, whose changes are launches of their
    own. On one H100, Silero VAD (six exports), batch 1 and 16, plain runs without TF32 and with it: 0.34 to 0.78 ms and
    0.35 to 1.03; as CUDA graphs the same kernels with channels last take 0.092 to 0.174, without TF32 0.106 to 0.184.
    """
    return cuda_graph or not convolves_along_lines(model)


def convolves_along_lines(model: ModelProto) -> bool:
    """Whether convolutions along one axis do most of a model's products, beside recurrent operators.

    Other products must have fewer weights than they do, which take part once a place on the axis: a recurrent cell that
    is written out, not the layers of a transformer behind two convolutions.
    """
    constants = dict(_dims(model))
    nodes = list(walk(model.graph))
    weights = [constants.get(node.input[1], ()) for node in nodes if _is_standard(node)]
    if {len(dims) for dims in weights} != {_LINE_RANK}:
        return False
    others = [_weights(node, constants) for node in nodes if node.op_type in _PRODUCTS]
    return sum(others) < sum(math.prod(dims) for dims in weights)


def _weights(product: NodeProto, constants: Mapping[str, Dims]) -> float:
    """Elements of the constant that something is multiplied by; without end where that is none."""
    found = [math.prod(constants[name]) for name in product.input[:2] if name in constants]
    return max(found) if found else math.inf


def _dims(model: ModelProto) -> Iterator[tuple[str, Dims]]:
    """Shapes of all constants, those of bodies included."""
    waiting = [model.graph]
    while waiting:
        graph = waiting.pop()
        yield from ((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer)
        for node in graph.node:
            tensor = constant_tensor(node)
            if tensor is not None:
                yield node.output[0], tuple(tensor.dims)
            waiting += [body for _, body in bodies(node)]


def has_low_convolutions(model: ModelProto) -> bool:
    """Whether a convolution's weights are in low precision: tensor cores take those with channels last."""
    low = {tensor.name for tensor in model.graph.initializer if tensor.data_type in _LOW}
    return any(_is_standard(node) and not low.isdisjoint(node.input) for node in model.graph.node)


def _is_standard(node: NodeProto) -> bool:
    """Whether a node is a convolution that is the runtime's own."""
    return node.op_type in CONVOLUTIONS and not node.domain


def prefers_channels_last(model: ModelProto, tf32: bool) -> bool:
    """Whether convolutions are faster with channels last: in low precision, and in TF32 where none works in groups.

    Along one axis they are in TF32, in groups or not, see `prefers_tf32`. Where kernels of our own compute all of them,
    the runtime has none to lay out, and moves changes of layout around for nothing: on one H200, float16, channels
    first and last, PP-OCRv4 rec at batch 1 0.384 and 0.421, SqueezeNet at 32 0.421 and 0.474, MaxViT at 1 1.47 and
    1.51, Inception at 32 1.88 and 1.92, but VGG-16 1.93 and 1.87. Channels last want whole vectors of channels in low
    precision: ShuffleNetV2 at 32, most of whose convolutions have 58 or 116, 1.02 and 1.21; with one such left beside
    ours, U-Net at 8 1.83 and 1.77.

    On one H100, CUDA graphs, milliseconds, channels first and last: ResNet-50 in TF32 at batch 32 5.50 and 3.46, at
    batch 1 0.84 and 0.54. With convolutions in groups: EfficientNet-B0 3.83 and 4.18, PP-OCRv4 det 1.39 and 1.44.
    """
    if has_low_convolutions(model):
        return not _has_odd_channels(model)
    if convolves_along_lines(model):
        return tf32
    images = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == _IMAGE_RANK}
    found = [node for node in model.graph.node if _is_standard(node)]
    grouped = any(entry.name == "group" and entry.i > 1 for node in found for entry in node.attribute)
    return tf32 and not grouped and any(not images.isdisjoint(node.input) for node in found)


def _has_odd_channels(model: ModelProto) -> bool:
    """Whether several and most low convolutions of all channels read or make some that are no whole vectors."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer if tensor.data_type in _LOW}
    found = [node for node in model.graph.node if _is_standard(node) and not _is_grouped(node)]
    dims = [weights[node.input[1]] for node in found if node.input[1] in weights]
    odd = [each for each in dims if each[0] % _VECTOR or (each[1] % _VECTOR and each[1] > _VECTOR)]
    return len(odd) >= _SEVERAL and 2 * len(odd) > len(dims)


def takes_biases_inside(model: ModelProto) -> bool:
    """Whether cuDNN is to add the biases of convolutions with channels last inside its kernels.

    They are slow at that where a convolution works in groups: on one H200, float16, batch 32, with the bias inside and
    apart, ResNet-50 2.13 and 2.93 ms, EfficientNet-B0 7.8 and 4.0 ms. A transposed one with a bias does not run so at
    all in onnxruntime 1.31, whatever the layout: "For dgrad node, output dimension inferencing is not possible".
    """
    nodes = (node for node in walk(model.graph) if node.op_type in CONVOLUTIONS and len(node.input) > 2)
    return not any(node.op_type == "ConvTranspose" or _is_grouped(node) for node in nodes)


def _is_grouped(node: NodeProto) -> bool:
    return any(entry.name == "group" and entry.i > 1 for entry in node.attribute)


def has_biases_apart(model: ModelProto) -> bool:
    """Whether fusing made biases of convolutions sums of their own, which the runtime shall leave so."""
    made = {node.output[0] for node in model.graph.node if node.op_type in CONVOLUTIONS and len(node.input) == 2}
    sums = (node for node in model.graph.node if node.op_type == "Add" and not made.isdisjoint(node.input))
    return any(entry.key == ORIGIN_KEY for node in sums for entry in node.metadata_props)
