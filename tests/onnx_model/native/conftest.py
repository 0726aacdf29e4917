"""Small models stand for large ones here, and products alone, which would hide what is not taken, are apart."""

import pytest


@pytest.fixture
def real_sizes() -> None:
    """Of tests that are about what is few."""


@pytest.fixture(autouse=True)
def small_models_for_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real_sizes" not in request.fixturenames:
        monkeypatch.setattr("ampgraph.onnx_model.native.linear.ENOUGH", 0)
        monkeypatch.setattr("ampgraph.onnx_model.native.layer_norm._ENOUGH", 0)
    if request.path.stem != "test_native_products":
        monkeypatch.setattr("ampgraph.onnx_model.native.search.products_alone", lambda *_: {})
