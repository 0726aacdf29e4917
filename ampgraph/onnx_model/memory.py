"""How much memory a piece of work takes at its peak, where the system can tell."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Made = TypeVar("Made")
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): sets the peak resident size back to the present one


def with_peak(work: Callable[[], Made], on_device: bool) -> tuple[Made, int | None]:
    """What the work makes, and by how many bytes memory grew meanwhile: the GPU's, else this process's at its peak.

    onnxruntime's arena on a GPU never gives back, so what is taken afterwards is the peak. None where nobody can tell.
    """
    gc.collect()
    before = device_bytes() if on_device else _reset_peak()
    made = work()
    after = device_bytes() if on_device else _resident("VmHWM")
    return made, None if before is None or after is None else max(0, after - before)


def device_bytes() -> int | None:
    """Bytes in use on the first GPU, by whomever; None without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    started = driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0
    if not started or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device) != 0:
        return None
    try:
        driver.cuCtxPushCurrent_v2(context)
        known = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return total.value - free.value if known else None


def _reset_peak() -> int | None:
    """Give freed memory back to the system and begin a new peak; what is resident then."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _RESET.write_text(_RESET_PEAK)
    except (OSError, AttributeError):
        return None
    return _resident("VmRSS")


def _resident(entry: str) -> int | None:
    try:
        found = re.search(rf"{entry}:\s*(\d+) kB", _STATUS.read_text())
    except OSError:
        return None
    return int(found.group(1)) * 1024 if found else None
