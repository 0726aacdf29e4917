"""Sessions on a GPU with convolutions that not every layout has a kernel for."""

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser

from ampgraph.errors import ModelError
from ampgraph.onnx_model import setup
from ampgraph.onnx_model.run import CPU, CUDA, best_provider, open_session, run
from ampgraph.onnx_model.session import Session

FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 16, 8, 8)).astype(np.float32)}
pytestmark = pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")


def transposed(bias: str = ", b") -> ModelProto:
    """A convolution and a transposed one in float16, as in a U-Net."""
    model = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 17]>
        g (float[N,16,8,8] x) => (float[N,24,16,16] y) {{
            h = Cast<to = 10>(x)  c = Conv<pads = [1, 1, 1, 1]>(h, v)  r = Relu(c)
            t = ConvTranspose<strides = [2, 2]>(r, w{bias})  y = Cast<to = 1>(t) }}""")
    generator = np.random.default_rng(1)
    for name, shape in {"v": (16, 16, 3, 3), "w": (16, 24, 2, 2), "b": (24,)}.items():
        values = (generator.standard_normal(shape) / 8).astype(np.float16)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


@pytest.mark.parametrize("bias", ["", ", b"])
def test_on_a_gpu_transposed_convolutions_run_with_channels_last(bias: str) -> None:
    expected = run(open_session(transposed(bias), provider=CPU), FEEDS)["y"]
    assert Session(transposed(bias), native=False).nhwc
    for native in (False, "auto", True):
        session = Session(transposed(bias), native=native)
        np.testing.assert_allclose(session.run(FEEDS)["y"], expected, atol=2e-2)
        assert session.bind(FEEDS).cuda_graph


def test_on_a_gpu_a_layout_that_does_not_run_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime 1.31 does not run a transposed convolution with its bias inside, which sessions know; were it not so,
    they would leave channels last, and with it biases inside, after the first run."""
    monkeypatch.setattr(setup, "takes_biases_inside", lambda model: True)
    session = Session(transposed(), native=False)
    expected = run(open_session(transposed(), provider=CPU), FEEDS)["y"]
    np.testing.assert_allclose(session.run(FEEDS)["y"], expected, atol=2e-2)
    assert not session.nhwc
    assert any(note.startswith("without channels last: ") for note in session.notes)
    with pytest.raises(ModelError, match="does not run on these inputs"):
        Session(transposed(), nhwc=True, native=False).run(FEEDS)
