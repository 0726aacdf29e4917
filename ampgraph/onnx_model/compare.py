"""How far a candidate's outputs are from a reference's: per output, with what no norm can show named apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ampgraph.onnx_model.run import Array, Feed, Provider, fitted, open_session, run


@dataclass(frozen=True, slots=True)
class OutputError:
    """Error of one output tensor (an element of a sequence is `name[0]`, of a map `name[key]`).

    `relative` is the L2 norm of the difference over that of the reference and `largest` the largest difference, both
    over the elements that are finite in both; `nonfinite` counts the elements where one has an infinity or NaN that the
    other has not. `mismatch` says how dtype or shape differ; where shapes differ the errors are infinite. `blank` says
    why the reference leaves nothing to compare: the errors are then 0 of nothing.
    """

    name: str
    relative: float
    largest: float
    nonfinite: int = 0
    mismatch: str = ""
    blank: str = ""

    def within(self, bar: float) -> bool:
        """Whether the output agrees: same dtype and shape, the same non-finite elements, error at most `bar`."""
        return not self.mismatch and not self.nonfinite and self.relative <= bar


def output_errors(reference: Mapping[str, Any], candidate: Mapping[str, Any]) -> tuple[OutputError, ...]:
    """Errors of every reference output, in the reference's order; a missing or extra tensor is a mismatch."""
    expected = dict(tensors_of(reference))
    found = dict(tensors_of(candidate))
    errors = [_error(name, array, found.get(name)) for name, array in expected.items()]
    extra = [OutputError(name, np.inf, np.inf, 0, "not in the reference") for name in found if name not in expected]
    return (*errors, *extra)


def compare(
    reference: onnx.ModelProto | Path,
    candidate: onnx.ModelProto | Path,
    inputs: Mapping[str, Feed],
    provider: Provider = "best",
) -> tuple[OutputError, ...]:
    """Run both models on the same inputs, cast to what each takes, and compare their outputs."""
    expected, found = (outputs_of(model, inputs, provider) for model in (reference, candidate))
    return output_errors(expected, found)


def outputs_of(
    model: onnx.ModelProto | Path, inputs: Mapping[str, Feed], provider: Provider = "best"
) -> dict[str, Any]:
    """Run a model on inputs, float32 ones cast to what it takes."""
    session = open_session(model, provider=provider)
    return run(session, fitted(session, inputs))


def tensors_of(outputs: Mapping[str, Any]) -> Iterator[tuple[str, Array]]:
    """Every tensor in a model's answers: an element of a sequence is `name[0]`, of a map `name[key]`."""
    for name, value in outputs.items():
        yield from _flat(name, value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Array]]:  # noqa: ANN401  (onnxruntime returns lists and dicts)
    if value is None:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _flat(f"{name}[{index}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{name}[{key}]", item)
    else:
        yield name, np.asarray(value)


def _error(name: str, expected: Array, found: Array | None) -> OutputError:
    if found is None:
        return OutputError(name, np.inf, np.inf, 0, "missing")
    if expected.shape != found.shape:
        return OutputError(name, np.inf, np.inf, 0, f"shape {found.shape} instead of {expected.shape}")
    mismatch = "" if expected.dtype == found.dtype else f"{found.dtype} instead of {expected.dtype}"
    if not is_number(expected) or not is_number(found):
        same = np.array_equal(expected, found)
        return OutputError(name, 0.0 if same else np.inf, 0.0 if same else np.inf, 0, mismatch)
    return _numeric_error(name, expected.astype(np.float64), found.astype(np.float64), mismatch)


def is_number(array: Array) -> bool:
    """Numbers and booleans; ml_dtypes' own floats have kind "V"."""
    return array.dtype.kind in "biuf" or (array.dtype.kind == "V" and array.dtype.names is None)


def blank(array: Array) -> str:
    """What there is instead of something to compare with, "" where there is something."""
    if not array.size:
        return "no elements"
    numbers = array.astype(np.float64) if array.dtype.kind == "V" and is_number(array) else array
    finite = numbers.dtype.kind != "f" or np.isfinite(numbers).any()
    return "" if finite else "NaN or infinity throughout"


def _numeric_error(name: str, expected: Array, found: Array, mismatch: str) -> OutputError:
    both = np.isfinite(expected) & np.isfinite(found)
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    difference = np.abs(expected[both] - found[both])
    return OutputError(
        name,
        _ratio(difference, np.abs(expected[both])),
        float(difference.max(initial=0.0)),
        int(np.count_nonzero(~both & ~same)),
        mismatch,
        blank(expected),
    )


def _ratio(difference: Array, magnitude: Array) -> float:
    """Ratio of L2 norms, scaled so that float32's largest values do not overflow; 0 over 0 is 0."""
    if not difference.any():
        return 0.0
    scale = float(magnitude.max(initial=0.0))
    return float(np.linalg.norm(difference / scale) / np.linalg.norm(magnitude / scale)) if scale else np.inf
