"""Real exports of transformers' models, fused: every attention is one operator, and the answers are the same."""

import pytest

from benchmarks.fuse_transformers import LAYERS, feeds, measure
from tests.onnx_model.fuse.answers import model_of


@pytest.mark.filterwarnings("ignore")  # of the exporter's own
@pytest.mark.parametrize("name", ["bert", "dinov3", "gemma2 at opset 23", "gemma3", "gpt-neox", "llama", "qwen3"])
def test_every_attention_of_a_real_export_is_one_operator(name: str):
    row = measure(name)
    assert row["attentions"] == LAYERS
    assert row["fused"] < row["operators"] / 2
    assert row["distance"] < 1e-5


def test_what_takes_one_input_is_fed_numbers():
    model = model_of("g (float[n,3,8] x) => (float[n,3,8] y) { y = Relu(x) }")
    (values,) = feeds(model, 4, 48).values()
    assert (values.shape, values.dtype) == ((4, 3, 8), "float32")


def test_masks_leave_out_the_ends_of_some_sequences():
    model = model_of("g (int64[n,t] ids, int64[n,t] mask) => (int64[n,t] y) { y = Mul(ids, mask) }")
    ids, mask = feeds(model, 4, 48).values()
    assert ids.shape == mask.shape == (4, 48)
    assert 0 < mask.sum() < mask.size
    assert (mask[:, :-1] >= mask[:, 1:]).all()
