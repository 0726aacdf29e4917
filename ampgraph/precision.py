"""The floating-point formats that a value can live in, and what each can represent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """A precision a decision can take; its value is the name used on the command line and in plans."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


LOW_PRECISIONS = (Precision.FLOAT16, Precision.BFLOAT16)


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """Limits of a binary format (IEEE 754-2019, table 3.5; bfloat16 as float32 cut to eight significant bits)."""

    largest: float
    smallest_normal: float
    smallest_subnormal: float
    significant_bits: int
    bytes: int

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding a value of the normal range to this format."""
        return 2.0**-self.significant_bits

    @property
    def exact_integers_to(self) -> int:
        """Every integer of at most this magnitude is represented exactly."""
        return 1 << self.significant_bits


FORMATS = {
    Precision.FLOAT32: FloatFormat(3.4028234663852886e38, 2.0**-126, 2.0**-149, 24, 4),
    Precision.FLOAT16: FloatFormat(65504.0, 2.0**-14, 2.0**-24, 11, 2),
    Precision.BFLOAT16: FloatFormat(3.3895313892515355e38, 2.0**-126, 2.0**-133, 8, 2),
}
