"""Accept: a fused model counts only where, in float32, it gives the answers of the model it was made from.

Where there is no GPU, operators that only CUDA has a kernel for are computed by standard ones: what is wired, counted
and grouped is checked, the kernel is not.

Some answers hold fewer digits than float32 has: the small probabilities of a segmentation, say, move by 2e-3 when the
runtime merely folds constants into weights. Where the bar is missed, it becomes what the runtime's own optimizations
move the answers of the source by.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ampgraph.onnx_model.compare import output_errors
from ampgraph.onnx_model.fuse.view import Shape
from ampgraph.onnx_model.io import first_line
from ampgraph.onnx_model.run import CPU, Feed, best_provider, fitted, open_session, run
from ampgraph.onnx_model.simulate import for_any_provider
from ampgraph.onnx_model.sizes import fitting_inputs
from ampgraph.onnx_model.types import fixed_size

TOLERANCE = 1e-4  # relative L2: sums in another order, which deep networks amplify
_OWN_MOVES = 2.0  # times what the source moves by: two different orders of sums are apart, not one
_MOST = 1e-2  # relative L2, however little the answers hold
_BATCH = 2


def difference(model: ModelProto, fused: ModelProto, shapes: Mapping[str, Shape], folder: Path | None) -> str:
    """How the answers of a fused model differ, "" where they do not. Runs both, on generated inputs, small batches."""
    try:
        reference = open_session(model, folder=folder)
        feeds, expected = fitting_inputs(model, reference, _small(model, shapes))
    except Exception as error:  # onnxruntime's exceptions share no base class
        return f"the model itself does not run on generated inputs here ({first_line(error)})"
    del reference  # its weights, before the other's are there
    try:
        runs = for_any_provider(fused) if best_provider() == CPU else fused
        session = open_session(runs, folder=folder)
        errors = output_errors(expected, run(session, fitted(session, feeds)))
    except Exception as error:
        return f"the fused model does not run ({first_line(error)})"
    if all(each.within(TOLERANCE) for each in errors):
        return ""
    noise = _own_moves(model, feeds, expected, folder)
    if all(each.within(max(TOLERANCE, min(noise.get(each.name, 0.0), _MOST))) for each in errors):
        return ""
    worst = max(errors, key=lambda each: each.relative)
    return f"the fused model answers differently ({worst.name}: {worst.relative:.1e} relative L2)"


def _own_moves(
    model: ModelProto, feeds: Mapping[str, Feed], expected: Mapping[str, Any], folder: Path | None
) -> dict[str, float]:
    """What the runtime's optimizations move each output of the source by, relative L2, with room for another order."""
    try:
        session = open_session(model, optimize="disabled", folder=folder)
        errors = output_errors(expected, run(session, fitted(session, feeds)))
    except Exception:  # an operator that only opens when optimized: there is nothing to measure by
        return {}
    return {each.name: _OWN_MOVES * each.relative for each in errors if not (each.mismatch or each.nonfinite)}


def _small(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """The modelled shapes with small batches."""
    found = dict(shapes)
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in found and dims and fixed_size(dims[0]) is None:
            found[value.name] = (min(found[value.name][0], _BATCH), *found[value.name][1:])
    return found
