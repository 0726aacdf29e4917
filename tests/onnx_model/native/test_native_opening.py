"""Sessions with kernels of our own: what is asked for and cannot be had is told, and the fastest setting tries them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx import ModelProto
from own import model_of

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.native.build import library
from ampgraph.onnx_model.fastest import settings_of
from ampgraph.onnx_model.native.opening import with_kernels
from ampgraph.onnx_model.native.step import DOMAIN
from ampgraph.onnx_model.run import CPU, CUDA, best_provider
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.settings import Setting


def convolution() -> ModelProto:
    graph = "g (float16[1,8,6,6] x) => (float16[1,16,4,4] y) { c = Conv<kernel_shape=[3,3]>(x, w, b) y = Relu(c) }"
    return model_of(graph, {"w": (16, 8, 3, 3), "b": (16,)})


@pytest.fixture
def with_library(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The library, built in a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    library.cache_clear()
    if library().path is None:
        pytest.skip(library().lacks)
    yield
    library.cache_clear()


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    library.cache_clear()
    yield
    library.cache_clear()


@pytest.mark.usefixtures("with_library")
def test_what_is_opened_is_the_rewritten_model_and_the_library() -> None:
    found = with_kernels(as_loaded(convolution()), {"x": [1, 8, 6, 6]}, "model", CUDA)
    assert found.library.exists()
    assert found.words == "1 Conv"
    assert [node.op_type for node in found.loaded.model.graph.node if node.domain == DOMAIN] == ["Conv"]


@pytest.mark.usefixtures("without_compiler")
def test_without_a_library_the_reason_is_told() -> None:
    with pytest.raises(ModelError, match="no C compiler"):
        with_kernels(as_loaded(convolution()), {}, "model", CUDA)


@pytest.mark.usefixtures("with_library")
def test_a_model_without_anything_for_them_says_so() -> None:
    other = model_of("g (float16[N] x) => (float16[N] y) { y = Relu(x) }", {})
    with pytest.raises(ModelError, match="nothing"):
        with_kernels(as_loaded(other), {}, "model", CUDA)


@pytest.mark.skipif(best_provider() != CPU, reason="there is a GPU")
def test_on_the_cpu_they_are_refused() -> None:
    with pytest.raises(ModelError, match=CUDA):
        ampgraph.Session(convolution(), native=True)


@pytest.mark.usefixtures("with_library")
def test_the_fastest_setting_tries_them_where_they_are() -> None:
    assert Setting(native=True) in settings_of(convolution())
    wide = model_of("g (float[1,8,6,6] x) => (float[1,8,6,6] y) { y = Relu(x) }", {})
    assert not any(each.native for each in settings_of(wide))


@pytest.mark.usefixtures("without_compiler")
def test_the_fastest_setting_does_without_them_where_they_are_not() -> None:
    assert not any(each.native for each in settings_of(convolution()))


def test_the_setting_is_one_of_the_session() -> None:
    assert Setting(native=True).options["native"] is True
    assert Setting().options["native"] is False
    assert dataclasses.replace(Setting(), native=True) == Setting(native=True)
