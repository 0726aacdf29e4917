"""The native library: builds by a C compiler alone, links nothing of CUDA, and registers with onnxruntime."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import onnxruntime as ort
import pytest
from onnx import parser

from ampgraph.native import build, ptx

FOLDER = Path(build.__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("built") / "kernels.so"
    assert COMPILER is not None
    build.build(COMPILER, target, ("-Wall", "-Wextra", "-Werror"))
    return target


@needs_compiler
def test_it_builds_without_a_warning_and_exports_what_the_runtime_calls_and_nothing_else(built: Path) -> None:
    assert ctypes.CDLL(str(built)).RegisterCustomOps
    shown = subprocess.run(["nm", "-D", "--defined-only", built], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in shown.splitlines()}
    assert {name for name in names if not name.startswith("_")} == {"RegisterCustomOps"}


@needs_compiler
def test_it_needs_the_c_library_alone(built: Path) -> None:
    shown = subprocess.run(["ldd", built], capture_output=True, text=True, check=True).stdout
    assert not re.search("cuda|cudnn|cublas|onnxruntime|stdc", shown)


@needs_compiler
def test_onnxruntime_registers_it_more_than_once_and_runs_what_is_not_ours(built: Path) -> None:
    model = parser.parse_model('<ir_version: 10, opset_import: ["": 20]> g (float[N] x) => (float[N] y) { y = Abs(x) }')
    for _ in range(2):
        options = ort.SessionOptions()
        options.register_custom_ops_library(str(built))
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        assert session.run(None, {"x": [-1.0]})[0] == [1.0]


@needs_compiler
def test_every_operator_is_known_to_the_runtime_by_name_and_has_no_kernel_on_the_cpu(built: Path) -> None:
    for op in _operators():
        kind = "float" if op == "Excite" else "float16"
        inputs = ", ".join(f"x{place}" for place in range(_inputs_needed(op)))
        text = f'<ir_version: 10, opset_import: ["": 20, "ampgraph": 1]> g ({kind}[N] x0) => (float16[M] y)'
        rest = [f"x{place}" for place in range(1, _inputs_needed(op))]
        model = parser.parse_model(f"{text} {{ y = ampgraph.{op}({inputs}) }}")
        wide = op in ("DepthwiseConv", "Excite")
        for name in rest:
            model.graph.initializer.add(
                name=name, dims=[1], data_type=1 if wide else 10, raw_data=bytes(4 if wide else 2)
            )
        options = ort.SessionOptions()
        options.register_custom_ops_library(str(built))
        with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|Type Error") as raised:  # no base class of its own
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        assert "not a registered" not in str(raised.value), op


def _operators() -> list[str]:
    return re.findall(r'^    \{\{0\}, "(\w+)"', (FOLDER / "ops.c").read_text(), re.MULTILINE)


def _inputs_needed(op: str) -> int:
    found = re.search(rf'"{op}", \w+, \d, (\d),', (FOLDER / "ops.c").read_text())
    assert found is not None
    return int(found.group(1))


def test_there_is_an_operator_for_each_that_a_rewrite_may_use() -> None:
    from ampgraph.onnx_model.native import reference

    assert set(_operators()) == set(reference._WAYS)


def test_the_kept_ptx_is_of_the_kept_source() -> None:
    assert ptx.TARGET.read_text().splitlines()[0] == ptx.stamp()


def test_every_kernel_that_is_asked_for_is_in_the_ptx() -> None:
    names = re.search(r"NAMES\[KERNELS\] = \{(.*?)\}", (FOLDER / "gpu.c").read_text(), re.DOTALL)
    assert names is not None
    asked = re.findall(r'"(\w+)"', names.group(1))
    assert set(asked) == set(re.findall(r"\.visible \.entry (\w+)\(", ptx.TARGET.read_text()))
    order = re.search(r"enum Kernel \{(.*?)KERNELS", (FOLDER / "gpu.h").read_text(), re.DOTALL)
    assert order is not None
    assert [name.lower() for name in re.findall(r"\w+", order.group(1))] == asked


def test_eight_halves_are_read_and_written_in_one_instruction() -> None:
    """A struct of __half2 is copied half pair by half pair: four instructions, each of which touches every sector."""
    text = ptx.TARGET.read_text()
    assert re.search(r"st\.global\.v4\.u32", text)
    entries = re.split(r"^\.visible \.entry ", text, flags=re.MULTILINE)[1:]
    found = {each.partition("(")[0]: re.findall(r"(?:ld|st)\.global(?:\.nc)?\.u32", each) for each in entries}
    places = {f"layer_norm_{vectors}": ["ld.global.u32"] * 2 for vectors in (3, 4, 5)}  # of its rows and of skip's
    assert {name: each for name, each in found.items() if each} == places


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_nvcc_makes_the_same_kernels_of_the_source() -> None:
    entries = re.compile(r"^\.visible \.entry (\w+)\(", re.MULTILINE)
    assert entries.findall(ptx.compiled()) == entries.findall(ptx.TARGET.read_text())


def test_without_a_compiler_it_says_so_and_raises_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library.cache_clear()
    found = build.library()
    build.library.cache_clear()
    assert found.path is None
    assert "compiler" in found.lacks


@needs_compiler
def test_it_is_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library.cache_clear()
    first = build.library()
    assert first.path is not None
    before = first.path.stat().st_mtime_ns
    build.library.cache_clear()
    assert build.library() == first
    assert first.path.stat().st_mtime_ns == before
    build.library.cache_clear()


def test_a_compiler_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'nothing works' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.library.cache_clear()
    found = build.library()
    build.library.cache_clear()
    assert found.path is None
    assert "nothing works" in found.lacks


def test_ptx_becomes_a_c_string_line_by_line() -> None:
    assert build.embedded('a "b"\n\n\\c\n') == 'static const char KERNELS_PTX[] =\n"a \\"b\\"\\n"\n"\\\\c\\n";\n'


def test_sizes_that_kernels_and_their_callers_share_are_the_same() -> None:
    """They stand in CUDA and in C: one that differs would launch too few threads, and nothing would say so."""
    kernels = _numbers(r"^constexpr int (.*?);", "".join(path.read_text() for path in (ptx.SOURCE, *ptx.INCLUDED)))
    callers = _numbers(r"^enum \{ (.*?) \};", (ptx.SOURCE.parent / "ops.c").read_text())
    shared = {"GATED_ROWS", "AT_ONCE", "HELD", "HELD_FIRST", "SIDE"}
    assert shared <= kernels.keys() & callers.keys()
    assert {name: kernels[name] for name in shared} == {name: callers[name] for name in shared}


def test_layer_normalization_has_a_kernel_for_every_width_that_a_rewrite_takes() -> None:
    from ampgraph.onnx_model.native.layer_norm import WIDEST

    callers = _numbers(r"^enum \{ (.*?) \};", (FOLDER / "ops.c").read_text())
    text = (FOLDER / "layer_norm.cuh").read_text()
    held = [int(each) for each in re.findall(r"^LAYER_NORM\((\d+)\)", text, re.MULTILINE)]
    assert held == list(range(callers["FEWEST_VECTORS"], callers["MOST_OF_A_LINE"] + 1))
    assert f"__launch_bounds__({callers['WIDEST_LINE']})" in text
    assert callers["WIDEST_LINE"] * callers["MOST_OF_A_LINE"] * 8 == WIDEST


def _numbers(lists: str, text: str) -> dict[str, int]:
    found = re.findall(lists, text, re.MULTILINE)
    return {name: int(value) for each in found for name, value in re.findall(r"(\w+) = (\d+)(?=,|$)", each)}
