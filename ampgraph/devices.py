"""Devices that a plan can be made for: their rates, bandwidth and launch time, with the source of each figure."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from ampgraph.errors import OptionError
from ampgraph.precision import Precision


@dataclass(frozen=True, slots=True)
class Device:
    """Figures of one device. Rates are dense peaks in operations a second; 0 where the device has no such unit."""

    name: str
    title: str
    float32: float  # outside the tensor cores
    tf32: float
    float16: float
    bfloat16: float
    bandwidth: float  # bytes a second
    launch: float  # seconds a kernel costs whatever its size
    graph_launch: float  # the same in a CUDA graph
    compute_efficiency: float  # part of the peak rate that kernels reach
    memory_efficiency: float  # part of the bandwidth that kernels reach
    sources: Mapping[str, str]  # by figure

    def matrix_rate(self, precision: Precision) -> float:
        """Operations a second of matrix products; 0 where there is no hardware for them in that precision.

        float32 means TF32 where the device has it: onnxruntime's default.
        """
        if precision is Precision.FLOAT32:
            return (self.tf32 or self.float32) * self.compute_efficiency
        return (self.float16 if precision is Precision.FLOAT16 else self.bfloat16) * self.compute_efficiency

    @property
    def plain_rate(self) -> float:
        """float32 operations a second outside the tensor cores."""
        return self.float32 * self.compute_efficiency

    @property
    def byte_rate(self) -> float:
        """Bytes a second to and from memory."""
        return self.bandwidth * self.memory_efficiency


@cache
def load_devices() -> Mapping[str, Device]:
    """The devices that rules/targets/devices.toml knows, by name."""
    text = files("ampgraph.rules.targets").joinpath("devices.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    assumed = tables.pop("assumed")
    return {name: _device(name, table, assumed) for name, table in tables.items()}


def _device(name: str, table: Mapping[str, float | str], assumed: Mapping[str, float | Mapping[str, str]]) -> Device:
    figures = {key: float(value) for key, value in table.items() if not isinstance(value, str)}
    sources = dict.fromkeys(figures, str(table["source"]))
    for key, value in assumed.items():
        if isinstance(value, Mapping):
            sources = {**value, **sources}
        else:
            figures.setdefault(key, value)
    return Device(name, str(table["title"]), sources=sources, **figures)


def device_named(name: str, *, cuda_graph: bool = False) -> Device:
    """The device of that name, its launches as in a CUDA graph if asked for; OptionError names the known ones."""
    devices = load_devices()
    if name.lower() not in devices:
        raise OptionError("--device", f"no figures for {name!r}", f"choose one of {', '.join(sorted(devices))}")
    found = devices[name.lower()]
    return replace(found, launch=found.graph_launch) if cuda_graph else found
