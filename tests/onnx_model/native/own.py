"""Small float16 models in text with drawn weights, rewritten, and their answers beside those of the reference.

On a machine with a GPU the kernels themselves answer, too.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, checker, numpy_helper, parser

from ampgraph.native.build import library
from ampgraph.onnx_model.native.reference import expanded
from ampgraph.onnx_model.native.rewrite import rewrite
from ampgraph.onnx_model.native.step import DOMAIN
from ampgraph.onnx_model.run import CPU, CUDA, best_provider, open_session, random_inputs, run
from ampgraph.onnx_model.session import Session
from ampgraph.onnx_model.simulate import cuda_only, for_any_provider

ROUNDED = 2e-3  # relative L2: what float16 makes of sums in another order
BY_KERNELS = 5e-3  # and of roundings between operators that kernels do without


def model_of(
    graph: str, weights: Mapping[str, tuple[int, ...]], dtype: Any = np.float16, opset: int = 20
) -> ModelProto:
    """A model of a graph's text, with weights of these shapes, drawn from a seed."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> {graph}')
    generator = np.random.default_rng(0)
    for name, shape in weights.items():
        fan = prod(shape[1:]) or 1
        values = (generator.standard_normal(shape) / np.sqrt(fan)).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    checker.check_model(model, full_check=True)
    return model


def own(model: ModelProto) -> Counter[str]:
    """How many of which operators of our own a model is rewritten with; the rewrite answers as the model does."""
    rewritten = rewrite(model, {})
    if rewritten is None:
        return Counter()
    assert error(model, rewritten.model) < ROUNDED
    if best_provider() == CUDA and library().path is not None:
        assert error_of_kernels(model) < BY_KERNELS
    found = Counter(node.op_type for node in rewritten.model.graph.node if node.domain == DOMAIN)
    assert found == Counter(rewritten.counts)
    return found


def error(model: ModelProto, rewritten: ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None) -> float:
    """Relative L2 between a model's answers and those of its rewrite in standard operators, the worst output's."""
    reference = expanded(rewritten)
    if not cuda_only(reference):
        checker.check_model(reference, full_check=True)
    feeds = random_inputs(model, shapes=shapes)
    one, other = (run(open_session(for_any_provider(each), provider=CPU), feeds) for each in (model, reference))
    assert [value.name for value in model.graph.output] == [value.name for value in rewritten.graph.output]
    return max(_relative(np.asarray(one[name]), np.asarray(other[name])) for name in one)


def error_of_kernels(model: ModelProto) -> float:
    """Relative L2 between a model's answers on the CPU and those of the kernels on the GPU, the worst output's."""
    feeds = random_inputs(model)
    expected = run(open_session(for_any_provider(model), provider=CPU), feeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of operators that have no kernel on a GPU
        found = Session(model, native=True, cuda_graph=False).run(feeds)
    return max(_relative(np.asarray(expected[name]), np.asarray(found[name])) for name in expected)


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    wide = one.astype(np.float64)
    return float(np.linalg.norm(wide - other) / max(np.linalg.norm(wide), 1e-30))


def kept(model: ModelProto) -> Counter[str]:
    """The standard operators of a model's rewrite."""
    rewritten = rewrite(model, {})
    assert rewritten is not None
    return Counter(node.op_type for node in rewritten.model.graph.node if not node.domain)
