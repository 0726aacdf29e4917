"""PTX of the kernels, kept beside their source so that nobody needs nvcc: `python -m ampgraph.native.ptx` writes it."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "kernels.cu"
INCLUDED = (SOURCE.parent / "norm.cuh", SOURCE.parent / "layer_norm.cuh")
TARGET = Path(__file__).parent / "kernels.ptx"
ARCHITECTURE = "compute_80"  # Ampere, and what the driver makes of it for whatever is newer
VERSION = "7.8"  # of PTX: a driver of CUDA 11.8 reads it; nothing newer is used


def stamp() -> str:
    """The first line: which sources it was made of."""
    sources = b"".join(path.read_bytes() for path in (SOURCE, *INCLUDED))
    return f"// of {SOURCE.name} {hashlib.sha256(sources).hexdigest()}"


def compiled() -> str:
    """The source through nvcc, for drivers of `VERSION`, without comments."""
    command = ["nvcc", "-O3", "-std=c++17", f"-arch={ARCHITECTURE}", "-ptx", str(SOURCE), "-o", "/dev/stdout"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("//")]
    return "\n".join((stamp(), *lines, "")).replace(_version(text), f".version {VERSION}", 1)


def _version(text: str) -> str:
    found = re.search(r"^\.version .*$", text, re.MULTILINE)
    assert found is not None
    return found.group()


if __name__ == "__main__":
    TARGET.write_text(compiled())
