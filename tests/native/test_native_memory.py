"""Ways that were found are remembered on this machine: no other process searches for them again."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ampgraph.native import build

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
HERE, THERE = Path(__file__).parent, Path(build.__file__).parent
MEMORY = "AMPGRAPH_NATIVE_MEMORY"
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def compiled(folder: Path, *sources: Path) -> Any:
    assert COMPILER is not None
    target = folder / f"{sources[0].stem}.so"
    command = [COMPILER, "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    command += ["-I", str(folder), "-I", str(THERE)]
    subprocess.run([*command, "-o", str(target), *map(str, sources), "-ldl", "-lpthread"], check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compiled(tmp_path_factory.mktemp("memory"), THERE / "memory.c")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Any:
    others = ("conv.c", "blas.c", "memory.c", "gpu.c")
    folder = tmp_path_factory.mktemp("search")
    (folder / build.EMBEDDED).write_text(build.embedded("// none\n"))
    return compiled(folder, HERE / "search_here.c", *(THERE / name for name in others))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(MEMORY, str(tmp_path / "ways"))
    return tmp_path / "ways"


def recalled(memory: Any, key: str) -> str | None:
    found = ctypes.create_string_buffer(80)
    return found.value.decode() if memory.recall(key.encode(), found) else None


def looked(
    search: Any, device: str = "a GPU", channels: int = 64, narrow: float = 2.0, wide: float = 1.0
) -> tuple[int, int]:
    """How many ways were timed, and the columns a block of the fastest."""
    shape = ctypes.c_int()
    tried = search.look(device.encode(), channels, ctypes.c_float(narrow), ctypes.c_float(wide), ctypes.byref(shape))
    return tried, shape.value


def test_what_was_noted_last_is_known(memory: Any, file: Path) -> None:
    assert recalled(memory, "a key") is None
    memory.remember(b"a key", b"1 2 3")
    memory.remember(b"a key that is longer", b"7")
    memory.remember(b"a key", b"4 5 6")
    assert (recalled(memory, "a key"), recalled(memory, "a key that is longer")) == ("4 5 6", "7")
    assert recalled(memory, "a") is None


@given(st.binary(max_size=300))
def test_no_file_is_too_odd_to_be_read(memory: Any, tmp_path_factory: pytest.TempPathFactory, lines: bytes) -> None:
    path = tmp_path_factory.mktemp("odd") / "ways"
    path.write_bytes(lines + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMORY, str(path))
        memory.remember(b"a key", b"1")
        assert recalled(memory, "a key") == "1"


def test_a_line_that_is_cut_short_says_nothing(memory: Any, file: Path) -> None:
    file.write_text("a key\t1 2")
    assert recalled(memory, "a key") is None


def test_where_nothing_can_be_written_nothing_is_known(
    memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("", str(tmp_path / "no folder" / "ways"), str(tmp_path)):
        monkeypatch.setenv(MEMORY, place)
        memory.remember(b"a key", b"1")
        assert recalled(memory, "a key") is None
    assert not list(tmp_path.iterdir())


def test_the_file_lies_beside_the_library(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MEMORY, raising=False)
    memory.remember(b"a key", b"1")
    assert Path(f"{memory._name}.ways").read_text() == "a key\t1\n"


def test_the_fastest_is_searched_for_once_on_each_device_and_for_each_size(search: Any, file: Path) -> None:
    assert looked(search) == (2, 64)
    assert looked(search, narrow=1.0, wide=2.0) == (1, 64)  # as it was found: only that it works is seen
    assert looked(search, channels=128, narrow=1.0, wide=2.0) == (2, 32)
    assert looked(search, device="another", narrow=1.0, wide=2.0) == (2, 32)
    assert len(file.read_text().splitlines()) == 3


def test_a_way_that_works_no_more_is_searched_for_again(search: Any, file: Path) -> None:
    looked(search)
    assert looked(search, wide=-1.0) == (2, 32)
    assert looked(search) == (1, 32)  # what was found last


@pytest.mark.parametrize("said", ["", "x", "6", "0 0 0 0", "0 -1 0 0", "0 99 0 0", "3 -1 -5 0", "99 0 0 0", "-1 0 0 0"])
def test_what_is_no_way_is_searched_for_again(search: Any, file: Path, said: str) -> None:
    looked(search)
    key = file.read_text().split("\t")[0]
    file.write_text(f"{key}\t{said}\n")
    assert looked(search) == (2, 64)


def test_nothing_that_works_is_not_remembered_nor_is_a_device_without_a_name(search: Any, file: Path) -> None:
    assert looked(search, narrow=-1.0, wide=-1.0) == (2, -1)
    assert looked(search, device="") == (2, 64)
    assert not file.exists()
