"""Facts about tensors: extremes and what rounding loses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ampgraph.fx_module.facts import measure, scalar, unknown
from ampgraph.precision import Precision


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_what_float16_does_to_numbers(numbers: list[float]) -> None:
    """Held against numpy's own float16."""
    facts = measure(torch.tensor(numbers), Precision.FLOAT16)
    values = np.array(numbers, np.float32)
    finite = values[np.isfinite(values)].astype(np.float64)
    assert facts.elements == len(numbers)
    assert facts.has_nan == bool(np.isnan(values).any())
    assert facts.has_infinity == bool(np.isinf(values).any())
    if finite.size:
        assert (facts.lowest, facts.highest) == (finite.min(), finite.max())
        with np.errstate(over="ignore"):
            rounded = finite.astype(np.float16)
        loss = facts.conversions[Precision.FLOAT16]
        assert loss.overflowed == np.isinf(rounded).sum()
        assert loss.flushed == ((rounded == 0) & (finite != 0)).sum()
        assert loss.subnormal == ((abs(finite) < 2.0**-14) & (finite != 0)).sum()


def test_errors_are_relative() -> None:
    loss = measure(torch.tensor([1.0 + 2.0**-12]), Precision.FLOAT16).conversions[Precision.FLOAT16]
    assert loss.error == pytest.approx(2.0**-12, rel=1e-3)


def test_what_is_not_known() -> None:
    assert unknown(3).scalar is None
    assert measure(torch.empty(3, device="meta"), Precision.FLOAT16) == unknown(3)
    assert not measure(torch.arange(3), Precision.FLOAT16).conversions


def test_numbers() -> None:
    assert scalar(0.0, Precision.FLOAT16).scalar == 0.0
    assert scalar(float("inf"), Precision.FLOAT16).has_infinity
    assert scalar(1e9, Precision.FLOAT16).conversions[Precision.FLOAT16].overflowed == 1
