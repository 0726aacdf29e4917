"""Build: the native library from its sources, by this machine's C compiler: `python -m ampgraph.native.build`.

Takes seconds and no CUDA: the kernels are here as PTX, which the driver compiles for the GPU that it finds. The library
lies in the user's cache under a name made of its sources, so it is built once, and anew where they change.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = ("ops.c", "search.c", "conv.c", "blas.c", "memory.c", "scratch.c", "gpu.c")
HEADERS = ("ort.h", "gpu.h", "conv.h", "ways.h", "blas.h", "memory.h", "scratch.h")
KERNELS = "kernels.ptx"
EMBEDDED = "kernels_ptx.h"
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")
_HERE = Path(__file__).parent
_LONGEST = 120  # seconds that a compiler may take


@dataclass(frozen=True)
class Library:
    """The library's file; None where there is none, and `lacks` says why in a few words."""

    path: Path | None
    lacks: str = ""


@cache
def library() -> Library:
    """The library of these sources, built where it is not there yet. Raises nothing: a session runs without it."""
    if not sys.platform.startswith("linux"):
        return Library(None, f"they are built on Linux, this is {sys.platform}")
    target = _folder() / f"kernels-{digest()}.so"
    if target.exists():
        return Library(target)
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return Library(None, "there is no C compiler to build them with")
    try:
        build(compiler, target)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return Library(None, f"they cannot be built ({said.strip().splitlines()[0][:200] if said.strip() else error})")
    return Library(target)


def build(compiler: str, target: Path, flags: tuple[str, ...] = ()) -> None:
    """Compile the library into a file, which is there whole or not at all. `flags`: more of them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        Path(scratch, EMBEDDED).write_text(embedded((_HERE / KERNELS).read_text()))
        made = Path(scratch, "kernels.so")
        paths = ["-I", scratch, "-I", str(_HERE), "-o", str(made), *(str(_HERE / name) for name in SOURCES)]
        command = [compiler, *FLAGS, *flags, *paths, "-ldl", "-lpthread"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LONGEST)
        made.replace(target)


def digest() -> str:
    """What the sources are: sixteen hexadecimal digits."""
    found = hashlib.sha256(" ".join(FLAGS).encode())
    for name in (*SOURCES, *HEADERS, KERNELS):
        found.update((_HERE / name).read_bytes())
    return found.hexdigest()[:16]


def embedded(ptx: str) -> str:
    """PTX as a C string, one of its lines a line."""
    lines = [line.replace("\\", "\\\\").replace('"', '\\"') for line in ptx.splitlines() if line]
    return "static const char KERNELS_PTX[] =\n" + "\n".join(f'"{line}\\n"' for line in lines) + ";\n"


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ampgraph"


def main() -> None:
    """Build the library and print where it is; exits with 1 where that does not work."""
    found = library()
    if found.path is None:
        sys.exit(f"ampgraph's own kernels: {found.lacks}")
    print(found.path)


if __name__ == "__main__":
    main()
