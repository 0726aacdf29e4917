"""The GPU kernels on this CPU: kernels.cu through a C++ compiler, with a header that stands for CUDA."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ampgraph.native import ptx

HEADERS = Path(__file__).parent / "emulated"
COMPILER = shutil.which("g++") or shutil.which("clang++")
Size = tuple[int, int, int]


@dataclass(frozen=True)
class Emulated:
    """Kernels by name: `run(name, grid, block, arguments)`; arrays are pointers, others are as ctypes has them."""

    library: Any

    def run(self, name: str, grid: Size, block: Size, *arguments: Any) -> None:
        """Run a kernel over all its blocks."""
        given = [_pointer(each) if each is None or isinstance(each, np.ndarray) else each for each in arguments]
        places = (ctypes.c_void_p * len(given))(*(ctypes.cast(ctypes.pointer(each), ctypes.c_void_p) for each in given))
        start: Callable[..., None] = getattr(self.library, f"start_{name}")
        start((ctypes.c_int * 3)(*grid), (ctypes.c_int * 3)(*block), places)


def _pointer(array: Any) -> Any:
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def emulated(folder: Path) -> Emulated:
    """Compile the kernels into a folder."""
    text = ptx.SOURCE.read_text()
    for path in ptx.INCLUDED:
        text = text.replace(f'#include "{path.name}"', path.read_text())
    text = text.replace("extern __shared__ float", "extern float").replace("__shared__", "static")
    names = re.findall(r"_global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(", text)
    names = [name for name in names if not name.endswith("_")]
    names += [
        f"depthwise_{'_'.join(each)}" for each in re.findall(r"^DEPTHWISE\((\d), (\d), (\d)\)", text, re.MULTILINE)
    ]
    names += [f"dilated_{'_'.join(each)}" for each in re.findall(r"^DILATED\((\d), (\d)\)", text, re.MULTILINE)]
    names += [f"product_{each}" for each in re.findall(r"^PRODUCT\((\d+)\)", text, re.MULTILINE)]
    names += [f"layer_norm_{each}" for each in re.findall(r"^LAYER_NORM\((\d+)\)", text, re.MULTILINE)]
    starts = "".join(
        f'extern "C" void start_{name}(int *g, int *b, void **a) {{ run({name}, Place{{g[0], g[1], g[2]}}, '
        f"Place{{b[0], b[1], b[2]}}, a); }}\n"
        for name in names
    )
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(text + starts)
    assert COMPILER is not None
    flags = ["-std=c++20", "-O2", "-fPIC", "-shared", "-pthread", "-Wno-unknown-pragmas", "-I", str(HEADERS)]
    subprocess.run([COMPILER, *flags, "-o", str(library), str(source)], check=True, capture_output=True, text=True)
    return Emulated(ctypes.CDLL(str(library)))
