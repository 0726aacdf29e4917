"""`--check`: run the source and the conversion, and look at the graph that the runtime makes of the result.

Where CUDA opens, both models run there. onnxruntime's CPU provider computes float16 in float32, so on a CPU-only
machine the conversion's true low-precision numbers are computed by `simulate`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ampgraph.errors import ModelError, OptionError
from ampgraph.onnx_model import io
from ampgraph.onnx_model.blank import refuse_blank
from ampgraph.onnx_model.compare import OutputError, output_errors, outputs_of
from ampgraph.onnx_model.given import place_of
from ampgraph.onnx_model.io import Loaded, reason
from ampgraph.onnx_model.run import (
    CPU,
    Feed,
    best_provider,
    fitted,
    open_session,
    optimized_graph,
    run,
)
from ampgraph.onnx_model.sizes import fitting_inputs
from ampgraph.onnx_model.stepwise import cuda_only
from ampgraph.precision import FORMATS, Precision

Subject = onnx.ModelProto | Path

ROUNDINGS = 64  # an answer may be off by so many roundings: 0.031 in float16, 0.25 in bfloat16


@dataclass(frozen=True)
class Check:
    """What the check found. `failures` are sentences; empty when the conversion passes."""

    provider: str  # that computed the answers
    simulated: bool  # low precision computed by ampgraph's own evaluator, since the provider has none
    inputs: str  # "generated", "given", or the file they come from
    bar: float  # relative L2 error that an output may have
    outputs: tuple[OutputError, ...]
    cpu_complaint: str  # why a CPU session does not open, "" when it does
    lowered: tuple[str, ...]  # kept float32 by the plan, low in the runtime's graph
    judged: int  # how many such names were looked for
    failures: tuple[str, ...]


def tolerance(precision: Precision) -> float:
    """The relative L2 error that an output may have."""
    return ROUNDINGS * FORMATS[precision].unit_roundoff


def check(
    source: Loaded,
    candidate: Subject,
    precision: Precision,
    kept: Collection[str],
    feeds: Mapping[str, Feed] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    inputs: str = "generated",
    *,
    low: Collection[str] = (),
) -> Check:
    """Compare a conversion with its source. `kept`: nodes and values that the plan keeps float32 for their numbers.

    `low`: float32 outputs that were asked to be low ones, whose numbers are compared then. Where the source itself does
    not run, nothing can be compared: OptionError if inputs are given, else ModelError. OptionError as well where it
    answers nothing to compare with.
    """
    provider = best_provider()
    given, expected = _expected(source, feeds, shapes or {}, inputs)
    refuse_blank(expected, inputs)
    errors, trouble = _errors(given, expected, candidate, simulated=provider == CPU, low=low)
    complaint = _cpu_complaint(candidate)
    lowered, unseen = _lowered(candidate, kept)
    bar = tolerance(precision)
    failures = [trouble, unseen if not (provider == CPU and complaint) else ""]
    failures += [_off(error, bar, inputs) for error in errors if not error.within(bar)]
    failures += [f"{name} is kept float32 by the plan, but the runtime's graph has it low" for name in lowered]
    if precision is Precision.FLOAT16 and complaint and not _lacks_kernels_alone(candidate):
        failures.append(f"a CPU session does not open the file ({complaint})")
    said = tuple(failure for failure in failures if failure)
    return Check(provider, provider == CPU, inputs, bar, errors, complaint, lowered, len(kept), said)


def _expected(
    source: Loaded, feeds: Mapping[str, Feed] | None, shapes: Mapping[str, tuple[int, ...]], inputs: str
) -> tuple[Mapping[str, Feed], dict[str, Any]]:
    """The inputs, generated where none are given, and what the source answers."""
    whole: Subject = source.path or source.model
    if source.path is None and io.external_tensors(source.model):
        whole = io.with_data(source.model, source.folder)
    try:
        session = open_session(whole)
        return (feeds, run(session, fitted(session, feeds))) if feeds else fitting_inputs(source.model, session, shapes)
    except Exception as error:  # onnxruntime's exceptions share no base class
        fact = f"does not run on {'these' if feeds else inputs} inputs ({reason(error)})"
        if feeds:
            raise OptionError(place_of(inputs), f"the model {fact}", "give inputs that it takes") from None
        remedy = "give their sizes with --shape, real ones with --data FILE.npz, or leave --check out"
        raise ModelError(str(source.path or "the source"), fact, remedy) from None


def _errors(
    feeds: Mapping[str, Feed], expected: Mapping[str, Any], candidate: Subject, *, simulated: bool, low: Collection[str]
) -> tuple[tuple[OutputError, ...], str]:
    """Errors of the outputs, and what went wrong where the conversion does not run."""
    from ampgraph.onnx_model.simulate import simulate  # onnx_ir is slow to import

    try:
        found = outputs_of(simulate(_proto(candidate)) if simulated else candidate, feeds)
        return output_errors(expected, _widened(found, low)), ""
    except Exception as error:  # as above
        runs = simulated and _runs(candidate, feeds)
        fact = "runs, but the evaluator of low precision on a CPU cannot compute it" if runs else "does not run"
        return (), f"the converted model {fact} ({reason(error)})"


def _widened(found: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Answers with low ones of these names in float32."""
    return {
        name: np.asarray(value, np.float32) if name in names and _is_low(value) else value
        for name, value in found.items()
    }


def _is_low(value: Any) -> bool:  # noqa: ANN401  (onnxruntime returns lists and dicts)
    return str(getattr(value, "dtype", "")) in ("float16", "bfloat16")


def _runs(candidate: Subject, feeds: Mapping[str, Feed]) -> bool:
    """Whether the conversion itself gives answers, operators that only CUDA has as standard ones."""
    try:
        outputs_of(_with_kernels(candidate), feeds)
    except Exception:  # as above
        return False
    return True


def _proto(candidate: Subject) -> onnx.ModelProto:
    if isinstance(candidate, Path):
        return onnx.load(str(candidate))
    return candidate


def _lacks_kernels_alone(candidate: Subject) -> bool:
    """Whether a file that opens in no CPU session opens once operators that only CUDA has are standard ones."""
    model = _proto(candidate)
    return bool(cuda_only(model)) and not _cpu_complaint(_with_kernels(model))


def _with_kernels(candidate: Subject) -> Subject:
    """The conversion with operators that only CUDA has a kernel for in standard ones; itself without any."""
    from ampgraph.onnx_model.simulate import for_any_provider  # as above

    model = _proto(candidate)
    return for_any_provider(model) if cuda_only(model) else candidate


def _cpu_complaint(candidate: Subject) -> str:
    try:
        open_session(candidate, provider=CPU)
    except Exception as error:  # as above
        return reason(error)
    return ""


def _lowered(candidate: Subject, kept: Collection[str]) -> tuple[tuple[str, ...], str]:
    """What the runtime lowers of `kept`, and why its graph could not be looked at."""
    from ampgraph.onnx_model.lowered import lowered_by_runtime  # as above

    if not kept:
        return (), ""
    try:
        return lowered_by_runtime(optimized_graph(candidate), kept), ""
    except Exception as error:  # as above
        return (), f"the runtime's graph cannot be seen ({reason(error)})"


def _off(error: OutputError, bar: float, inputs: str) -> str:
    if error.mismatch:
        return f"output {error.name}: {error.mismatch}"
    if error.nonfinite:
        return f"output {error.name}: {error.nonfinite} elements are infinite or NaN in only one of the models"
    return f"output {error.name}: relative L2 error {error.relative:.2g} on {inputs} inputs, at most {bar:.2g} expected"
