"""Facts about tensors that do not change from step to step: what becomes of them in low precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ampgraph.graph import Constant, Conversion
from ampgraph.precision import FORMATS, Precision

DTYPES = {
    Precision.FLOAT32: torch.float32,
    Precision.FLOAT16: torch.float16,
    Precision.BFLOAT16: torch.bfloat16,
}
NAMES = {dtype: precision for precision, dtype in DTYPES.items()}


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as the graph spells it: "float32", "int64", "bool"."""
    return str(dtype).removeprefix("torch.")


def unknown(elements: int) -> Constant:
    """A tensor that training changes: nothing but its size holds tomorrow."""
    return Constant(elements, -math.inf, math.inf, 0.0, has_nan=True)


def scalar(number: float, precision: Precision) -> Constant:
    """Facts of a Python number among the arguments of an op."""
    if not math.isfinite(number):
        return Constant(1, 0.0, 0.0, 0.0, math.isinf(number), math.isnan(number))
    value = float(number)
    used = torch.tensor([abs(value)] if value else [], dtype=torch.float64)
    return Constant(1, value, value, abs(value), conversions={precision: _conversion(used, precision)})


def measure(tensor: Tensor, precision: Precision) -> Constant:
    """Facts of a buffer or constant; one whose data are not here (meta, fake) is unknown."""
    if tensor.is_meta or not tensor.numel() or tensor.is_complex() or type(tensor) not in (Tensor, torch.nn.Parameter):
        return unknown(tensor.numel())
    wide = tensor.detach().to("cpu", torch.float64)
    finite = wide[wide.isfinite()]
    infinity, nan = bool(wide.isinf().any()), bool(wide.isnan().any())
    if not finite.numel():
        return Constant(tensor.numel(), 0.0, 0.0, 0.0, infinity, nan)
    used = finite[finite != 0].abs()
    smallest = float(used.min()) if used.numel() else 0.0
    conversions = {precision: _conversion(used, precision)} if tensor.dtype is torch.float32 else {}
    return Constant(tensor.numel(), float(finite.min()), float(finite.max()), smallest, infinity, nan, conversions)


def _conversion(used: Tensor, precision: Precision) -> Conversion:
    """What rounding does to magnitudes that are finite and not zero."""
    limits = FORMATS[precision]
    rounded = used.to(DTYPES[precision]).double()
    over = rounded.isinf()
    kept, kept_rounded = used[~over], rounded[~over]
    scale = float(kept.square().sum())
    error = math.sqrt(float((kept - kept_rounded).square().sum()) / scale) if scale else 0.0
    return Conversion(int(over.sum()), int((rounded == 0).sum()), int((used < limits.smallest_normal).sum()), error)
