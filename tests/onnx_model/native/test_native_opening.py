"""Sessions with kernels of our own: what is asked for and cannot be had is told, and the fastest setting tries them."""

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto
from own import model_of

import ampgraph
from ampgraph.errors import ModelError
from ampgraph.native.build import digest, library
from ampgraph.onnx_model.fastest import settings_of
from ampgraph.onnx_model.native.opening import UNUSED, by_rule, choices_of_kernels, with_kernels
from ampgraph.onnx_model.native.step import DOMAIN
from ampgraph.onnx_model.run import CPU, CUDA, best_provider
from ampgraph.onnx_model.sources import as_loaded
from ampgraph.settings import Setting
from tests.test_own_kernels import swish_net


def convolution() -> ModelProto:
    graph = "g (float16[1,8,6,6] x) => (float16[1,16,4,4] y) { c = Conv<kernel_shape=[3,3]>(x, w, b) y = Relu(c) }"
    return model_of(graph, {"w": (16, 8, 3, 3), "b": (16,)})


def convolutions(after: str, kind: str = "float16", size: int = 1) -> ModelProto:
    """One that is ours in float16, and something after it."""
    graph = f"""g ({kind}[{size or "N"},8,6,6] x) => (float16[{size or "N"},M,H,V] y) {{
        h = Cast<to=10>(x) c = Conv<kernel_shape=[3,3]>(h, w, b) r = Relu(c) {after} }}"""
    return model_of(graph, {"w": (16, 8, 3, 3), "b": (16,), "odd": (3, 16, 3, 3), "up": (16, 8, 2, 2)})


def rows() -> ModelProto:
    """A normalization, and a product with its bias."""
    graph = """g (float16[N,1024,128] x) => (float16[N,1024,1024] y) {
        n = LayerNormalization(x, gamma, beta) p = MatMul(n, w) y = Add(p, b) }"""
    return model_of(graph, {"gamma": (128,), "beta": (128,), "w": (128, 1024), "b": (1024,)})


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


def test_by_the_rule_not_where_images_are_turned_around_every_other_of_ours() -> None:
    names = [f"c{place}" for place in range(8)]
    lines = [f"d = Conv<kernel_shape=[1,1]>(x, w) {names[0]} = Softmax<axis=1>(d)"]
    lines += [
        f"e{new} = Conv<kernel_shape=[1,1]>({old}, w) {new} = Softmax<axis=1>(e{new})" for old, new in pairwise(names)
    ]
    graph = f"g (float16[1,8,6,6] x) => (float16[1,8,6,6] {names[-1]}) {{ {' '.join(lines)} }}"
    assert by_rule(model_of(graph, {"w": (8, 8, 1, 1)}), {}, cuda_graph=True) is None
    graph = graph.replace("Softmax<axis=1>", "Tanh")
    assert by_rule(model_of(graph, {"w": (8, 8, 1, 1)}), {}, cuda_graph=True) is not None


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
    assert Setting(native=True) in settings_of(convolutions(ODD))
    assert Setting(native=False) in settings_of(convolution())
    wide = model_of("g (float[1,8,6,6] x) => (float[1,8,6,6] y) { y = Relu(x) }", {})
    assert all(each.native == "auto" for each in settings_of(wide))


@pytest.mark.usefixtures("with_library")
def test_the_fastest_setting_tries_what_the_session_would_not_do_itself() -> None:
    """By its rule nothing, unless it is a CUDA graph of known sizes: then all but convolutions beside others."""
    assert choices_of_kernels(convolution(), {}) == (False,)
    assert choices_of_kernels(convolution(), {}, cuda_graph=False) == (True,)
    assert choices_of_kernels(convolutions(ODD), {}) == (True,)
    assert choices_of_kernels(rows(), {}) == (True,)
    assert choices_of_kernels(rows(), {"x": [1, 1024, 128]}) == (False,)
    assert choices_of_kernels(rows(), {"x": [1, 1024, 128]}, cuda_graph=False) == (True,)


ODD = "y = Conv<kernel_shape=[3,3]>(r, odd)"  # of three channels
WIDE = "f = Cast<to=1>(x) e = Cast<to=1>(odd) s = Cast<to=1>(r) d = Conv<kernel_shape=[3,3]>(s, e) y = Cast<to=10>(d)"


@pytest.mark.parametrize(
    ("after", "taken"),
    [
        ("y = Identity(r)", True),
        (WIDE, True),
        (ODD, False),
        ("y = ConvTranspose<kernel_shape=[2,2]>(r, up)", True),
        ('y = ConvTranspose<kernel_shape=[2,2], auto_pad="SAME_UPPER">(r, up)', False),
    ],
    ids=["alone", "beside float32", "beside few channels", "beside a transposed one", "beside one padded by a word"],
)
def test_by_the_rule_convolutions_are_ours_where_all_in_float16_can_be(after: str, taken: bool) -> None:
    found = by_rule(convolutions(after), {}, cuda_graph=True)
    assert (found is not None and found.counts.get("Conv") == 1) == taken
    assert by_rule(convolutions(after), {}, cuda_graph=False) is None
    free = convolutions(after, size=0)
    assert by_rule(free, {}, cuda_graph=True) is None
    assert (by_rule(free, {"x": (4, 8, 6, 6)}, cuda_graph=True) is not None) == taken


@pytest.mark.parametrize("count", [1, 2])
def test_by_the_rule_a_change_of_layout_for_each_of_ours_is_few_enough(count: int) -> None:
    """One at either end of a chain, before a convolution that is not ours."""
    names = ["x", *(f"c{place}" for place in range(count))]
    chain = " ".join(f"{new} = Conv<kernel_shape=[1,1]>({old}, w)" for old, new in pairwise(names))
    graph = (
        f"g (float16[1,8,6,6] x) => (float16[1,3,6,6] y) {{ {chain} y = Conv<kernel_shape=[1,1]>({names[-1]}, odd) }}"
    )
    found = by_rule(model_of(graph, {"w": (8, 8, 1, 1), "odd": (3, 8, 1, 1)}), {}, cuda_graph=True)
    assert (found is not None) == (count >= 2)


@pytest.mark.usefixtures("without_compiler")
def test_the_fastest_setting_does_without_them_where_they_are_not() -> None:
    assert all(each.native == "auto" for each in settings_of(convolution()))


def test_the_setting_is_one_of_the_session() -> None:
    assert Setting(native=True).options["native"] is True
    assert Setting().options["native"] == "auto"
    assert dataclasses.replace(Setting(), native=True) == Setting(native=True)


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
@pytest.mark.usefixtures("with_library")
def test_on_a_gpu_a_session_takes_what_its_rule_says() -> None:
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 1024, 128)).astype(np.float16)}
    plain = ampgraph.Session(rows(), native=False)
    assert not plain.native
    assert not ampgraph.Session(rows()).native
    session = ampgraph.Session(rows(), shapes={"x": [1, 1024, 128]})
    assert session.native
    assert session.notes == ("kernels of our own: 1 LayerNorm, 1 Linear",)
    np.testing.assert_allclose(session.run(feeds)["y"], plain.run(feeds)["y"], rtol=1e-2, atol=1e-1)
    assert ampgraph.Session(convolution()).native
    assert not ampgraph.Session(convolution(), cuda_graph=False).native
    assert not ampgraph.Session(convolutions(ODD)).native


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
@pytest.mark.usefixtures("with_library")
def test_on_a_gpu_another_process_does_not_search_for_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(convolution().SerializeToString())
    script = """
import sys, numpy, ampgraph
session = ampgraph.Session(sys.argv[1])
print(float(numpy.abs(session.run({"x": numpy.ones((1, 8, 6, 6), numpy.float16)})["y"].astype("f")).sum()))
"""
    said = []
    for _ in range(2):
        more = {"AMPGRAPH_NATIVE_VERBOSE": "1", "AMPGRAPH_NATIVE_MEMORY": str(tmp_path / "ways")}
        command = [sys.executable, "-c", script, str(tmp_path / "model.onnx")]
        said.append(subprocess.run(command, env=os.environ | more, capture_output=True, text=True, check=True))
    tried = [[int(count) for count in re.findall(r"(\d+) tried", each.stderr)] for each in said]
    assert tried[0][0] > 1
    assert tried[1] == [1]
    assert float(said[1].stdout) == pytest.approx(float(said[0].stdout), rel=1e-3)


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
@pytest.mark.usefixtures("with_library")
def test_on_a_gpu_kernels_that_do_not_load_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    library.cache_clear()
    broken = tmp_path / "ampgraph" / f"kernels-{digest()}.so"
    broken.parent.mkdir()
    broken.write_bytes(b"no library")
    session = ampgraph.Session(rows(), shapes={"x": [1, 1024, 128]})
    assert not session.native
    assert session.notes[-1].startswith("without kernels of our own: ")
    assert session.run({"x": np.ones((1, 1024, 128), np.float16)})["y"].shape == (1, 1024, 1024)
    with pytest.raises(ModelError):
        ampgraph.Session(rows(), native=True)


@pytest.mark.skipif(best_provider() != CUDA, reason="no GPU here")
@pytest.mark.usefixtures("with_library")
def test_on_a_gpu_a_file_that_counts_on_kernels_says_where_there_are_none() -> None:
    made = ampgraph.convert(swish_net(), cuda_graph=True, native=True).model
    assert ampgraph.Session(made).native
    assert UNUSED not in ampgraph.Session(made).notes
    assert UNUSED in ampgraph.Session(made, native=False).notes
