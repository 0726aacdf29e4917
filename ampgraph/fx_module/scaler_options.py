"""What can be chosen of a loss scaler, and which choices mean something."""

from __future__ import annotations

from dataclasses import dataclass

from ampgraph.errors import OptionError
from ampgraph.precision import LOW_PRECISIONS

FLOOR = 2.0**-14  # float16's smallest normal: gradients of up to 1e9 fit float16 with it, and 1 / FLOOR is exact
HISTORY = 60  # updates: with all else that a scaler keeps, in the least that CUDA's allocator gives


@dataclass(frozen=True)
class Extras:
    """What torch's scaler does not have, as options."""

    min_scale: float
    hysteresis: int
    history: int

    def __post_init__(self) -> None:
        if not 0 <= self.min_scale < float("inf"):
            raise OptionError(f"min_scale={self.min_scale}", "is no floor of a scale", "give 0 (none) or more")
        if self.hysteresis < 1:
            raise OptionError(f"hysteresis={self.hysteresis}", "is no number of steps", "give 1 or more")
        if self.history < 0:
            raise OptionError(f"history={self.history}", "is no number of updates", "give 0 (none) or more")


def verify_factors(init_scale: float, growth: float, backoff: float, precision: str, floor: float) -> None:
    """Raise OptionError for values that mean nothing."""
    if precision not in {str(each) for each in LOW_PRECISIONS}:
        known = ", ".join(str(each) for each in LOW_PRECISIONS)
        raise OptionError(f"precision={precision}", "is no low precision", f"choose one of {known}")
    if not floor <= init_scale < float("inf") or init_scale <= 0:
        raise OptionError(f"init_scale={init_scale:g}", f"is no scale above min_scale={floor:g}", "give a finite one")
    if growth <= 1:
        raise OptionError(f"growth_factor={growth}", "does not raise the scale", "give more than 1")
    if not 0 < backoff < 1:
        raise OptionError(f"backoff_factor={backoff}", "does not lower the scale", "give more than 0 and less than 1")
