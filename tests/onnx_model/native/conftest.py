"""Products alone are looked at in test_native_products.py: elsewhere, that they are taken would hide what is not."""

import pytest


@pytest.fixture(autouse=True)
def without_products_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.stem != "test_native_products":
        monkeypatch.setattr("ampgraph.onnx_model.native.search.products_alone", lambda *_: {})
