"""How ops.c launches LayerNorm, from Python: its own C, through a C compiler, with no GPU."""

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ampgraph.native import build

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
_SOURCE = Path(__file__).with_suffix(".c")
_WHOLE = ("rows", "columns", "gamma", "skip_rows", "skip_columns", "places", "beside", "length", "simple")


class Lines(ctypes.Structure):
    """What the kernels are told: layer_norm.cuh."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("rows", "vectors", "count", "length", "others", "beside", "simple")),
        ("epsilon", ctypes.c_float),
    ]


class _Given(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int64) for name in _WHOLE), ("epsilon", ctypes.c_float)]


class _Found(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int) for name in ("vectors", "grid", "across", "down")), ("at", Lines)]


@dataclass(frozen=True)
class Launch:
    """A kernel's name, grid and block, and what it is told; or why there is none."""

    name: str = ""
    grid: int = 0
    across: int = 0
    down: int = 0
    at: Any = None
    wrong: str = ""


@dataclass(frozen=True)
class Launches:
    """The compiled library."""

    library: Any

    def of(self, **given: float) -> Launch:
        """For these sizes; those that are left out are 0, which stands for an input that is left out."""
        found = _Found()
        wrong = self.library.launch_of(ctypes.byref(_Given(**given)), ctypes.byref(found))
        if wrong:
            return Launch(wrong=wrong.decode())
        return Launch(f"layer_norm_{found.vectors}", found.grid, found.across, found.down, found.at)


def launches(folder: Path) -> Launches:
    """Compile it into a folder."""
    assert COMPILER is not None
    (folder / build.EMBEDDED).write_text(build.embedded("// none\n"))
    here = Path(build.__file__).parent
    sources = [str(_SOURCE), *(str(here / name) for name in build.SOURCES if name != "ops.c")]
    command = [COMPILER, *build.FLAGS, "-I", str(folder), "-I", str(here), "-o", str(folder / "launches.so"), *sources]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True, capture_output=True, text=True)
    library = ctypes.CDLL(str(folder / "launches.so"))
    library.launch_of.restype = ctypes.c_char_p
    return Launches(library)
