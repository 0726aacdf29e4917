"""What every benchmark shares: the machine and versions in words, a plain table, and kept JSON."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "ampgraph", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "onnxconverter-common", "nvidia-modelopt", "torch",
    "torchvision", "timm", "transformers",
)  # fmt: skip


def _gpu() -> str:
    """The GPU's name where a benchmark has loaded torch and there is one."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""


def machine() -> dict[str, Any]:
    """The machine in generic words, with the versions of what was measured."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        **({"gpu": gpu} if (gpu := _gpu()) else {}),
        "python": platform.python_version(),
        "versions": versions,
    }


def keep(name: str, figures: Any) -> Path:  # noqa: ANN401  (whatever JSON can say)
    """Write the figures of one benchmark with the machine they were taken on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=1) + "\n")
    return path


def add(name: str, cases: Mapping[str, Mapping[str, Any]], folder: Path = RESULTS, without: Sequence[str] = ()) -> Path:
    """Add cases, by key, to the figures of a benchmark that is measured in parts; each names its machine.

    A case that is there already is replaced, and those in `without` go. Several processes may add to one file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        kept = json.loads(text)["figures"] if text else {}
        figures = {**{key: case for key, case in kept.items() if key not in without}, **cases}
        file.truncate(0)
        file.write(json.dumps({"figures": figures}, indent=1) + "\n")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns padded to their widest cell, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(column[i]) for column in [list(header), *cells]) for i in range(len(header))]
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
    lines = []
    for line in (list(header), ["-" * width for width in widths], *cells):
        padded = [
            text.rjust(w) if right else text.ljust(w) for text, w, right in zip(line, widths, numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:  # noqa: ANN401
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1e-2 or value >= 1e4 else f"{value:.3f}"
    return str(value)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()
