"""Operators that make each element of one, or of two at the same place, computed in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import erf, expit

from ampgraph.graph import Attribute

Array = npt.NDArray[np.float64]
How = Mapping[str, Attribute]


def _number(how: How, name: str, usual: float) -> float:
    return float(how.get(name, usual))  # type: ignore[arg-type]


def _gelu(x: Array, how: How) -> Array:
    """Also where the model says tanh: the two differ by 5e-4."""
    return np.asarray(x * (1 + erf(x / np.sqrt(2))) / 2)


FUNCTIONS: Mapping[str, Callable[[Array, How], Array]] = {
    "Abs": lambda x, how: np.abs(x),
    "Elu": lambda x, how: np.where(x < 0, _number(how, "alpha", 1) * np.expm1(np.minimum(x, 0)), x),
    "Erf": lambda x, how: erf(x),
    "Exp": lambda x, how: np.exp(x),
    "Gelu": _gelu,
    "com.microsoft.Gelu": _gelu,
    "HardSigmoid": lambda x, how: np.clip(_number(how, "alpha", 0.2) * x + _number(how, "beta", 0.5), 0, 1),
    "HardSwish": lambda x, how: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, how: np.where(x < 0, _number(how, "alpha", 0.01) * x, x),
    "Mish": lambda x, how: x * np.tanh(np.logaddexp(0, x)),
    "Neg": lambda x, how: -x,
    "com.microsoft.QuickGelu": lambda x, how: x * expit(_number(how, "alpha", 1.702) * x),
    "Relu": lambda x, how: np.maximum(x, 0),
    "Sigmoid": lambda x, how: expit(x),
    "Softplus": lambda x, how: np.logaddexp(0, x),
    "Swish": lambda x, how: x * expit(_number(how, "alpha", 1) * x),
    "Tanh": lambda x, how: np.tanh(x),
}

PAIRS: Mapping[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "Sub": np.subtract,
}
