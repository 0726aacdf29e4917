"""Models from text with drawn weights, and what fusing makes of them once its answers are held against their own."""

from collections import Counter

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper, parser

from ampgraph.onnx_model.fuse.fuse import fuse
from ampgraph.onnx_model.prepare import prepare
from ampgraph.onnx_model.run import CPU, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider


def model_of(text: str, weights: dict[str, tuple[int, ...]] | None = None, opset: int = 17) -> ModelProto:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> {text}')
    generator = np.random.default_rng(0)
    for name, shape in (weights or {}).items():
        values = generator.standard_normal(shape).astype(np.float32) / np.sqrt(max(shape[0], 1))
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return prepare(model)


def counts_of(model: ModelProto, shapes: dict[str, tuple[int, ...]]) -> Counter[str]:
    """Operators of the fused model, after its answers were held against the model's own, at another batch too."""
    found = fuse(model, shapes)
    if found is None:
        return Counter()
    onnx.checker.check_model(found.model, full_check=True)
    each_way = (model, for_any_provider(found.model))
    sessions = [open_session(each, provider=CPU, optimize="disabled") for each in each_way]
    for extra in (0, 1):
        free = {value.name for value in model.graph.input if value.type.tensor_type.shape.dim[0].dim_param}
        generator = np.random.default_rng(1)
        feeds = {
            name: generator.standard_normal((shape[0] + extra * (name in free), *shape[1:])).astype(np.float32)
            for name, shape in shapes.items()
        }
        expected, answers = (run(session, feeds) for session in sessions)
        for name, values in expected.items():
            np.testing.assert_allclose(answers[name], values, rtol=1e-4, atol=1e-5)
    return Counter(node.op_type for node in found.model.graph.node)
