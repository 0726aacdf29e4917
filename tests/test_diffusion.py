"""Blocks of diffusion models on the whole road: fused for CUDA alone, checked without it, and said in the report."""

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

import ampgraph
from ampgraph.api import Result
from ampgraph.onnx_model.check import check
from ampgraph.onnx_model.io import Loaded
from ampgraph.onnx_model.run import CPU, CUDA, best_provider, random_inputs
from ampgraph.onnx_model.stepwise import cuda_only
from ampgraph.precision import Precision
from tests.models import parse

CHANNELS = 256
SHAPES = {"x": (4, CHANNELS, 64, 64)}
WARNING = "onnxruntime's CPU provider has no kernel for GroupNorm: the file opens on CUDA only"


def block(spelled: bool) -> ModelProto:
    """Two convolutions with group normalization and SiLU between and after."""
    normal = """r{0} = Reshape(c{0}, rows)  i{0} = InstanceNormalization<epsilon = 0.000001>(r{0}, ones, zeros)
        z{0} = Shape(c{0})  n{0} = Reshape(i{0}, z{0})  m{0} = Mul(n{0}, s{0})  g{0} = Add(m{0}, b{0})"""
    whole = "g{0} = GroupNormalization<num_groups = 32, epsilon = 0.000001>(c{0}, s{0}, b{0})"
    body = "c1 = Conv(x, w1) " + "".join(
        f"{(normal if spelled else whole).format(each)}  e{each} = Sigmoid(g{each})  h{each} = Mul(g{each}, e{each})"
        f"  {('y', 'c2')[each == 1]} = Conv(h{each}, w{each + 1})\n"
        for each in (1, 2)
    )
    model = parse(f"g (float[n,{CHANNELS},h,w] x) => (float[n,{CHANNELS},h,w] y) {{ {body} }}", opset=21)
    generator = np.random.default_rng(0)
    values = {f"w{each}": generator.standard_normal((CHANNELS, CHANNELS, 1, 1)) / 16 for each in (1, 2, 3)}
    affine = (CHANNELS, 1, 1) if spelled else (CHANNELS,)
    values |= {f"{kind}{each}": generator.standard_normal(affine) for kind in "sb" for each in (1, 2)}
    if spelled:
        values |= {"ones": np.ones(32), "zeros": np.zeros(32)}
        model.graph.initializer.append(numpy_helper.from_array(np.array([0, 32, -1]), "rows"))
    for name, array in values.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    return model


@pytest.fixture(scope="module", params=[True, False], ids=["spelled out", "operator"])
def source(request) -> ModelProto:
    return block(request.param)


@pytest.fixture(scope="module")
def result(source) -> Result:
    return ampgraph.convert(source, shapes=SHAPES, device="h100")


def test_group_normalization_is_one_kernel_in_low_precision(result):
    found = Counter(node.op_type for node in result.model.graph.node)
    assert result.plan.fused == "2 GroupNorm"
    assert (found["GroupNorm"], found["Conv"], found["Sigmoid"]) == (2, 3, 0)
    types = onnx.shape_inference.infer_shapes(result.model).graph
    constants = {tensor.name: tensor.data_type for tensor in types.initializer}
    kernels = [node for node in types.node if node.op_type == "GroupNorm"]
    assert {constants[name] for node in kernels for name in node.input[1:]} == {onnx.TensorProto.FLOAT}
    assert {constants[node.input[1]] for node in types.node if node.op_type == "Conv"} == {onnx.TensorProto.FLOAT16}


def test_the_report_says_where_it_opens(result):
    assert WARNING in result.report.warnings
    assert cuda_only(result.model) == ("GroupNorm",)


@pytest.mark.skipif(best_provider() == CUDA, reason="CUDA opens here")
def test_it_is_checked_where_it_does_not_open(source, result):
    feeds = random_inputs(source, shapes={"x": (1, CHANNELS, 8, 8)})
    found = check(Loaded(source, None), result.model, Precision.FLOAT16, (), feeds)
    assert found.provider == CPU
    assert "GroupNorm" in found.cpu_complaint
    assert not found.failures
    assert 0 < found.outputs[0].relative < 5e-3


@pytest.mark.parametrize("words", [{"target": "onnx"}, {"fuse": False}], ids=str)
def test_elsewhere_it_is_left_alone_and_opens_everywhere(source, words):
    found = ampgraph.convert(source, shapes=SHAPES, **words)
    assert not cuda_only(found.model)
    assert WARNING not in found.report.warnings


@pytest.mark.parametrize("objective", ["speed", "memory", "coverage"])
def test_scale_and_shift_of_a_group_norm_stay_float32(objective):
    """The CUDA kernel refuses others, whatever the schema says."""
    model = parse(
        """g (float[1,8,8,64] x) => (float[1,8,8,64] y) {
            m = MatMul(x, w)  y = com.microsoft.GroupNorm<groups = 4, activation = 1>(m, s, b) }""",
        com_microsoft=1,
    )
    for name, shape in {"w": (64, 64), "s": (64,), "b": (64,)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    found = ampgraph.convert(model, objective=objective)
    types = {tensor.name: tensor.data_type for tensor in found.model.graph.initializer}
    assert types["s"] == types["b"] == onnx.TensorProto.FLOAT
    assert WARNING in found.report.warnings
