"""What kernels work in is shared by those of one stream, and given back by the last of them."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from ampgraph.native import build

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_a_block_is_shared_by_all_of_a_stream_that_it_is_enough_for(tmp_path: Path) -> None:
    assert COMPILER is not None
    library, source, here = tmp_path / "shared.so", Path(__file__).with_name("shared.c"), Path(build.__file__).parent
    command = [COMPILER, "-std=gnu11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I", str(here)]
    subprocess.run([*command, "-o", str(library), str(source), "-lpthread"], check=True)
    found = (ctypes.c_long * 6)()
    assert ctypes.CDLL(str(library)).steps(found) == 1  # nothing is left
    assert list(found) == [4, 4 + 1, 4 + 1 + 8, 13, 13, 0]
